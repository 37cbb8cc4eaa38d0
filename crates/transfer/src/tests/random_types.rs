//! Random types of columns, and the SQL that gives the exact text of their values.

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::random_values::RandomValue;
use crate::postgres::{literal, quote};

/// How the exact text of a value is written in SQL.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TextForm {
    /// A number or a boolean: its text needs no length.
    Plain,
    Text,
    /// The text as it is displayed: a cast to text would trim the blanks of a char(n), add /32 to an address, and
    /// keep an empty XML declaration.
    Shown,
    Bytes,
    Float4,
    Float8,
    Date,
    Timestamp,
    Timestamptz,
    Money,
}

#[derive(Debug, Clone)]
pub struct Scalar {
    pub sql: String,
    form: TextForm,
    value: RandomValue,
    /// Decoded from its binary form: an array or composite of it becomes a list or a struct.
    native: bool,
}

#[derive(Debug, Clone)]
pub enum Type {
    Scalar(Scalar),
    Array(Box<Type>),
    Composite { sql: String, fields: Vec<(String, Type)> },
    Domain { sql: String, base: Box<Type> },
    Range { sql: &'static str, bound: Box<Type> },
    Multirange { sql: &'static str, range: Box<Type> },
}

fn scalar(sql: impl Into<String>, form: TextForm, value: RandomValue) -> Type {
    Type::Scalar(Scalar { sql: sql.into(), form, value, native: true })
}

/// A type that is carried as its text, as is a composite with a field of it.
fn as_text(sql: impl Into<String>, value: RandomValue) -> Type {
    Type::Scalar(Scalar { sql: sql.into(), form: TextForm::Text, value, native: false })
}

fn numeric(rng: &mut ChaCha8Rng) -> Type {
    let sizes =
        [(1, 0), (10, 2), (38, 0), (38, 1), (38, 19), (38, 37), (38, 38), (4, 4), (3, 5), (5, -3), (20, -18), (18, 6)];
    let beyond = [(50, 10), (39, 0), (38, 39), (21, -18)];
    let is_beyond = rng.random_bool(0.2);
    let (precision, scale) = *if is_beyond { beyond.choose(rng) } else { sizes.choose(rng) }.unwrap();
    let form = if is_beyond { TextForm::Text } else { TextForm::Plain };
    scalar(format!("numeric({precision},{scale})"), form, RandomValue::Numeric { precision, scale })
}

fn money() -> Type {
    Type::Scalar(Scalar { sql: "money".into(), form: TextForm::Money, value: RandomValue::Money, native: false })
}

const RANGES: [(&str, &str, &str); 6] = [
    ("int4range", "int4multirange", "int4"),
    ("int8range", "int8multirange", "int8"),
    ("numrange", "nummultirange", "numeric"),
    ("tsrange", "tsmultirange", "timestamp"),
    ("tstzrange", "tstzmultirange", "timestamptz"),
    ("daterange", "datemultirange", "date"),
];

fn range(rng: &mut ChaCha8Rng) -> Type {
    let (range, multirange, bound) = *RANGES.choose(rng).unwrap();
    let bound = match bound {
        "numeric" => scalar("numeric", TextForm::Text, RandomValue::AnyNumeric { finite: true }),
        "timestamp" => scalar("timestamp", TextForm::Timestamp, RandomValue::Timestamp { utc: false }),
        "timestamptz" => scalar("timestamptz", TextForm::Timestamptz, RandomValue::Timestamp { utc: true }),
        // A closed bound becomes the next day: that of the last day would be out of range.
        "date" => scalar("date", TextForm::Date, RandomValue::DateBound),
        integer => scalar(integer, TextForm::Plain, RandomValue::Int(-1_000_000, 1_000_000)),
    };
    let range_type = Type::Range { sql: range, bound: Box::new(bound) };
    if rng.random_bool(0.4) { Type::Multirange { sql: multirange, range: Box::new(range_type) } } else { range_type }
}

/// Generates types, and collects the statements that create them.
pub struct Types<'a> {
    pub rng: &'a mut ChaCha8Rng,
    pub schema: String,
    pub statements: Vec<String>,
}

impl Types<'_> {
    fn name(&self, stem: &str) -> String {
        format!("{}.{}", quote(&self.schema), quote(&format!("{stem} {}", self.statements.len())))
    }

    pub fn column(&mut self) -> Type {
        match self.rng.random_range(0..100) {
            0..60 => self.scalar(),
            60..75 => Type::Array(Box::new(self.element())),
            75..85 => self.composite(2),
            85..92 => self.domain(),
            _ => range(self.rng),
        }
    }

    fn element(&mut self) -> Type {
        match self.rng.random_range(0..10) {
            0..7 => self.item(),
            7 => self.composite(1),
            8 => self.domain_of_scalar(),
            _ => range(self.rng),
        }
    }

    /// A scalar that is no array: an array of arrays would be an array of two dimensions.
    fn item(&mut self) -> Type {
        loop {
            let item = self.scalar();
            if !item.is_array() {
                return item;
            }
        }
    }

    fn domain(&mut self) -> Type {
        if self.rng.random_bool(0.7) {
            return self.domain_of_scalar();
        }
        let base = if self.rng.random_bool(0.5) { Type::Array(Box::new(self.item())) } else { self.composite(1) };
        self.domain_of(base)
    }

    fn domain_of_scalar(&mut self) -> Type {
        let base = match self.rng.random_range(0..3) {
            0 => numeric(self.rng),
            1 => scalar("text", TextForm::Text, RandomValue::Text { most: 40 }),
            _ => self.item(),
        };
        self.domain_of(base)
    }

    fn domain_of(&mut self, base: Type) -> Type {
        let sql = self.name("domain");
        self.statements.push(format!("CREATE DOMAIN {sql} AS {}", base.sql()));
        Type::Domain { sql, base: Box::new(base) }
    }

    fn composite(&mut self, depth: u8) -> Type {
        let count = self.rng.random_range(1..5);
        let fields: Vec<(String, Type)> = (0..count)
            .map(|at| {
                let field = match self.rng.random_range(0..10) {
                    0..6 => self.scalar(),
                    6 => Type::Array(Box::new(self.item())),
                    7 if depth > 0 => self.composite(depth - 1),
                    8 if depth > 0 => Type::Array(Box::new(self.composite(depth - 1))),
                    _ => self.domain_of_scalar(),
                };
                (format!("field \"{at}\" é"), field)
            })
            .collect();
        let sql = self.name("composite");
        let list: Vec<String> = fields.iter().map(|(name, field)| format!("{} {}", quote(name), field.sql())).collect();
        self.statements.push(format!("CREATE TYPE {sql} AS ({})", list.join(", ")));
        Type::Composite { sql, fields }
    }

    fn labels(&mut self) -> Type {
        const LABELS: &[&str] = &["ok", "With Space", "quo'te", "\"double\"", "ü😀", "back\\slash", "a,b"];
        let sql = self.name("enum");
        let labels: Vec<String> = LABELS.iter().map(|label| literal(label)).collect();
        self.statements.push(format!("CREATE TYPE {sql} AS ENUM ({})", labels.join(", ")));
        scalar(sql, TextForm::Text, RandomValue::Pool(LABELS))
    }

    /// An array of a domain over arrays, which a list could not represent differently from two dimensions.
    fn lists_of_lists(&mut self) -> Type {
        let sql = self.name("list");
        self.statements.push(format!("CREATE DOMAIN {sql} AS int4[]"));
        as_text(
            format!("{sql}[]"),
            RandomValue::Pool(&["{}", "{NULL}", "{\"{1,2,NULL}\",\"{}\"}", "{\"{{1,2},{3,4}}\"}"]),
        )
    }

    fn scalar(&mut self) -> Type {
        let rng = &mut *self.rng;
        match rng.random_range(0..46) {
            0 => scalar("bool", TextForm::Plain, RandomValue::Pool(&["t", "f"])),
            1 => scalar("int2", TextForm::Plain, RandomValue::Int(i16::MIN.into(), i16::MAX.into())),
            2 => scalar("int4", TextForm::Plain, RandomValue::Int(i32::MIN.into(), i32::MAX.into())),
            3 => scalar("int8", TextForm::Plain, RandomValue::Int(i64::MIN, i64::MAX)),
            4 => scalar("oid", TextForm::Plain, RandomValue::Int(0, u32::MAX.into())),
            5 => scalar("xid", TextForm::Plain, RandomValue::Int(0, u32::MAX.into())),
            6 => scalar("float4", TextForm::Float4, RandomValue::Float4),
            7 => scalar("float8", TextForm::Float8, RandomValue::Float8),
            8 | 9 => scalar("numeric", TextForm::Text, RandomValue::AnyNumeric { finite: false }),
            10..13 => numeric(rng),
            13 => money(),
            14 => scalar("text", TextForm::Text, RandomValue::Text { most: 3000 }),
            15 => {
                let most = rng.random_range(1..30);
                scalar(format!("varchar({most})"), TextForm::Text, RandomValue::Text { most })
            }
            16 => {
                let most = rng.random_range(1..12);
                scalar(format!("char({most})"), TextForm::Shown, RandomValue::Text { most })
            }
            17 => as_text("\"char\"", RandomValue::Pool(&["a", "", "Z", " ", "'"])),
            18 => scalar("name", TextForm::Text, RandomValue::Text { most: 15 }),
            19 => scalar("bytea", TextForm::Bytes, RandomValue::Bytes),
            20 => scalar("uuid", TextForm::Text, RandomValue::Uuid),
            21 | 22 => scalar("date", TextForm::Date, RandomValue::Date),
            23 | 24 => scalar("timestamp", TextForm::Timestamp, RandomValue::Timestamp { utc: false }),
            25 | 26 => scalar("timestamptz", TextForm::Timestamptz, RandomValue::Timestamp { utc: true }),
            27 => scalar("time", TextForm::Text, RandomValue::Time),
            28 => scalar("timetz", TextForm::Text, RandomValue::TimeTz),
            29 => scalar("interval", TextForm::Text, RandomValue::Interval),
            30 => scalar("inet", TextForm::Shown, RandomValue::Inet),
            31 => scalar("cidr", TextForm::Shown, RandomValue::Cidr),
            32 => scalar("macaddr", TextForm::Text, RandomValue::Mac(6)),
            33 => scalar("macaddr8", TextForm::Text, RandomValue::Mac(8)),
            34 => scalar("json", TextForm::Text, RandomValue::Json),
            35 => scalar("jsonb", TextForm::Text, RandomValue::Json),
            36 => scalar(
                "xml",
                TextForm::Shown,
                RandomValue::Pool(&["<a/>", "<b x=\"1\">ü &amp; 😀</b>", "text", "<?xml version=\"1.0\"?><c/>"]),
            ),
            37 => as_text("bit(5)", RandomValue::Bits { least: 5, most: 5 }),
            38 => as_text("varbit(40)", RandomValue::Bits { least: 0, most: 40 }),
            39 => as_text(
                "tsvector",
                RandomValue::Pool(&["", "a:1A fat:2B,4C", "'quo''te' '日本'", "cat:3 'with space':9"]),
            ),
            40 => as_text("point", RandomValue::Pool(&["(0,0)", "(-1.5,2e300)", "(NaN,Infinity)", "(0.1,-0)"])),
            41 => as_text("box", RandomValue::Pool(&["(1,1),(0,0)", "(2.5,3),(-1e10,0.1)"])),
            42 => as_text("pg_lsn", RandomValue::Pool(&["0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF"])),
            43 => {
                as_text("public.hstore", RandomValue::Pool(&["", "\"a\"=>\"1\"", "\"ü\"=>NULL, \"quo\\\"te\"=>\"=>\""]))
            }
            44 => self.labels(),
            _ => self.lists_of_lists(),
        }
    }
}

impl Type {
    pub fn sql(&self) -> String {
        match self {
            Type::Scalar(Scalar { sql, .. }) | Type::Composite { sql, .. } | Type::Domain { sql, .. } => sql.clone(),
            Type::Array(element) => format!("{}[]", element.sql()),
            Type::Range { sql, .. } | Type::Multirange { sql, .. } => (*sql).to_owned(),
        }
    }

    fn is_native(&self) -> bool {
        match self {
            Type::Scalar(scalar) => scalar.native,
            Type::Array(element) => element.is_native() && !element.is_array(),
            Type::Composite { fields, .. } => fields.iter().all(|(_, field)| field.is_native()),
            Type::Domain { base, .. } => base.is_native(),
            Type::Range { .. } | Type::Multirange { .. } => true,
        }
    }

    fn is_array(&self) -> bool {
        match self {
            Type::Array(_) => true,
            Type::Scalar(scalar) => scalar.sql.ends_with("[]"),
            Type::Domain { base, .. } => base.is_array(),
            _ => false,
        }
    }

    fn is_money(&self) -> bool {
        match self {
            Type::Scalar(scalar) => scalar.form == TextForm::Money,
            Type::Domain { base, .. } => base.is_money(),
            _ => false,
        }
    }

    /// The SQL for the exact text of a value, by the mapping of docs/types.md.
    pub fn text_sql(&self, value: &str) -> String {
        self.text_sql_within(value, 0)
    }

    fn text_sql_within(&self, value: &str, depth: usize) -> String {
        let text = match self {
            Type::Domain { base, .. } => return base.text_sql_within(&format!("({value})::{}", base.sql()), depth),
            Type::Scalar(scalar) => return scalar_text_sql(scalar.form, value),
            Type::Array(element) if element.is_native() || element.is_money() => {
                list_text_sql(value, depth, |item| element.text_sql_within(item, depth + 1))
            }
            Type::Array(element) if !element.is_array() => {
                list_text_sql(value, depth, |item| format!("exact.text(({item})::text)"))
            }
            Type::Composite { fields, .. } if self.is_native() => {
                let fields: Vec<String> = fields
                    .iter()
                    .map(|(name, field)| field.text_sql_within(&format!("({value}).{}", quote(name)), depth))
                    .map(|text| format!("coalesce({text}, 'NULL')"))
                    .collect();
                format!("'{{' || {} || '}}'", fields.join(" || ',' || "))
            }
            Type::Range { bound, .. } => {
                let of = |function: &str| bound.text_sql_within(&format!("{function}({value})"), depth);
                format!(
                    "'{{' || coalesce({}, 'NULL') || ',' || coalesce({}, 'NULL') || ',' || lower_inc({value}) || ',' \
                     || upper_inc({value}) || ',' || isempty({value}) || '}}'",
                    of("lower"),
                    of("upper")
                )
            }
            Type::Multirange { range, .. } => {
                let item = format!("r{depth}");
                let text = range.text_sql_within(&item, depth + 1);
                format!(
                    "'[' || coalesce((SELECT string_agg({text}, ',' ORDER BY {item}) FROM unnest({value}) {item}), \
                     '') || ']'"
                )
            }
            _ => format!("exact.text(({value})::text)"),
        };
        // IS NULL would also be true of a composite whose fields all are.
        format!("CASE WHEN num_nulls({value}) = 0 THEN {text} END")
    }

    /// A random value as an SQL expression; sometimes NULL.
    pub fn value(&self, rng: &mut ChaCha8Rng) -> String {
        if rng.random_bool(0.12) {
            return format!("NULL::{}", self.sql());
        }
        match self {
            Type::Scalar(scalar) => format!("{}::{}", literal(&scalar.value.text(rng)), scalar.sql),
            Type::Array(element) => {
                let count = rng.random_range(0..5);
                let items: Vec<String> = (0..count).map(|_| element.value(rng)).collect();
                format!("ARRAY[{}]::{}", items.join(", "), self.sql())
            }
            Type::Composite { sql, fields } => {
                let fields: Vec<String> = fields.iter().map(|(_, field)| field.value(rng)).collect();
                format!("ROW({})::{sql}", fields.join(", "))
            }
            Type::Domain { sql, base } => format!("({})::{sql}", base.value(rng)),
            Type::Range { sql, bound } => range_value(sql, bound, rng),
            Type::Multirange { sql, range } => {
                let count = rng.random_range(0..4);
                let Type::Range { sql: name, bound } = &**range else { panic!("a multirange of {range:?}") };
                let items: Vec<String> = (0..count).map(|_| range_value(name, bound, rng)).collect();
                format!("{sql}({})", items.join(", "))
            }
        }
    }
}

fn scalar_text_sql(form: TextForm, value: &str) -> String {
    match form {
        TextForm::Plain => format!("({value})::text"),
        TextForm::Text => format!("exact.text(({value})::text)"),
        TextForm::Shown => format!("exact.text(CASE WHEN num_nulls({value}) = 0 THEN format('%s', {value}) END)"),
        TextForm::Bytes => format!("exact.bytes({value})"),
        TextForm::Float4 => format!("exact.float4({value})"),
        TextForm::Float8 => format!("exact.float8({value})"),
        TextForm::Date => format!("exact.date({value})"),
        TextForm::Timestamp => format!("exact.timestamp({value})"),
        TextForm::Timestamptz => format!("exact.timestamptz({value})"),
        TextForm::Money => format!("({value})::numeric::text"),
    }
}

fn list_text_sql(value: &str, depth: usize, item_sql: impl Fn(&str) -> String) -> String {
    let item = item_sql(&format!("({value})[i{depth}]"));
    format!(
        "'[' || coalesce((SELECT string_agg(coalesce({item}, 'NULL'), ',' ORDER BY i{depth}) \
         FROM generate_subscripts({value}, 1) i{depth}), '') || ']'"
    )
}

fn range_value(sql: &str, bound: &Type, rng: &mut ChaCha8Rng) -> String {
    if rng.random_bool(0.1) {
        return format!("'empty'::{sql}");
    }
    let (a, b) = (bound.value(rng), bound.value(rng));
    let kind = ["[)", "(]", "[]", "()"].choose(rng).unwrap();
    let open = |is_open: bool, side: &str| if is_open { "NULL".to_owned() } else { format!("{side}({a}, {b})") };
    let (low, high) = (rng.random_bool(0.15), rng.random_bool(0.15));
    format!("{sql}({}, {}, '{kind}')", open(low, "least"), open(high, "greatest"))
}
