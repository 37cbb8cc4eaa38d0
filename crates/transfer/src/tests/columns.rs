//! Random types: what a column may be made of, and what PostgreSQL is asked to say of its values.

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::values::Draw;
use crate::postgres::{literal, quote};

/// How PostgreSQL is asked for a value's text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Say {
    /// A number or a boolean: its text needs no marks.
    Plain,
    Text,
    /// As it is shown: a cast to text would cut the blanks of a char(n), add /32 to an address, and
    /// keep an XML declaration that says nothing.
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
    say: Say,
    draw: Draw,
    /// Read from its own binary form: what holds it can be a list or a struct.
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

fn scalar(sql: impl Into<String>, say: Say, draw: Draw) -> Type {
    Type::Scalar(Scalar { sql: sql.into(), say, draw, native: true })
}

/// Carried as its text, and so is a composite that holds one.
fn as_text(sql: impl Into<String>, draw: Draw) -> Type {
    Type::Scalar(Scalar { sql: sql.into(), say: Say::Text, draw, native: false })
}

fn numeric(rng: &mut ChaCha8Rng) -> Type {
    let sizes =
        [(1, 0), (10, 2), (38, 0), (38, 1), (38, 19), (38, 37), (38, 38), (4, 4), (3, 5), (5, -3), (20, -18), (18, 6)];
    let beyond = [(50, 10), (39, 0), (38, 39), (21, -18)];
    let is_beyond = rng.random_bool(0.2);
    let (precision, scale) = *if is_beyond { beyond.choose(rng) } else { sizes.choose(rng) }.unwrap();
    let say = if is_beyond { Say::Text } else { Say::Plain };
    scalar(format!("numeric({precision},{scale})"), say, Draw::Numeric { precision, scale })
}

fn money() -> Type {
    Type::Scalar(Scalar { sql: "money".into(), say: Say::Money, draw: Draw::Money, native: false })
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
        "numeric" => scalar("numeric", Say::Text, Draw::AnyNumeric { finite: true }),
        "timestamp" => scalar("timestamp", Say::Timestamp, Draw::Timestamp { utc: false }),
        "timestamptz" => scalar("timestamptz", Say::Timestamptz, Draw::Timestamp { utc: true }),
        // A closed bound becomes the next day's: the last day of all would be carried over the edge.
        "date" => scalar("date", Say::Date, Draw::DateBound),
        integer => scalar(integer, Say::Plain, Draw::Int(-1_000_000, 1_000_000)),
    };
    let of = Type::Range { sql: range, bound: Box::new(bound) };
    if rng.random_bool(0.4) { Type::Multirange { sql: multirange, range: Box::new(of) } } else { of }
}

/// Draws types, and notes the statements that make them.
pub struct Types<'a> {
    pub rng: &'a mut ChaCha8Rng,
    pub schema: String,
    pub made: Vec<String>,
}

impl Types<'_> {
    fn name(&self, stem: &str) -> String {
        format!("{}.{}", quote(&self.schema), quote(&format!("{stem} {}", self.made.len())))
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

    /// Not an array: two of them in brackets would be one of two dimensions.
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
            1 => scalar("text", Say::Text, Draw::Text { most: 40 }),
            _ => self.item(),
        };
        self.domain_of(base)
    }

    fn domain_of(&mut self, base: Type) -> Type {
        let sql = self.name("domain");
        self.made.push(format!("CREATE DOMAIN {sql} AS {}", base.sql()));
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
        self.made.push(format!("CREATE TYPE {sql} AS ({})", list.join(", ")));
        Type::Composite { sql, fields }
    }

    fn labels(&mut self) -> Type {
        const LABELS: &[&str] = &["ok", "With Space", "quo'te", "\"double\"", "ü😀", "back\\slash", "a,b"];
        let sql = self.name("enum");
        let labels: Vec<String> = LABELS.iter().map(|label| literal(label)).collect();
        self.made.push(format!("CREATE TYPE {sql} AS ENUM ({})", labels.join(", ")));
        scalar(sql, Say::Text, Draw::Pool(LABELS))
    }

    /// An array of a domain over arrays: one that no list can tell from two dimensions.
    fn lists_of_lists(&mut self) -> Type {
        let sql = self.name("list");
        self.made.push(format!("CREATE DOMAIN {sql} AS int4[]"));
        as_text(format!("{sql}[]"), Draw::Pool(&["{}", "{NULL}", "{\"{1,2,NULL}\",\"{}\"}", "{\"{{1,2},{3,4}}\"}"]))
    }

    fn scalar(&mut self) -> Type {
        let rng = &mut *self.rng;
        match rng.random_range(0..46) {
            0 => scalar("bool", Say::Plain, Draw::Pool(&["t", "f"])),
            1 => scalar("int2", Say::Plain, Draw::Int(i16::MIN.into(), i16::MAX.into())),
            2 => scalar("int4", Say::Plain, Draw::Int(i32::MIN.into(), i32::MAX.into())),
            3 => scalar("int8", Say::Plain, Draw::Int(i64::MIN, i64::MAX)),
            4 => scalar("oid", Say::Plain, Draw::Int(0, u32::MAX.into())),
            5 => scalar("xid", Say::Plain, Draw::Int(0, u32::MAX.into())),
            6 => scalar("float4", Say::Float4, Draw::Float4),
            7 => scalar("float8", Say::Float8, Draw::Float8),
            8 | 9 => scalar("numeric", Say::Text, Draw::AnyNumeric { finite: false }),
            10..13 => numeric(rng),
            13 => money(),
            14 => scalar("text", Say::Text, Draw::Text { most: 3000 }),
            15 => {
                let most = rng.random_range(1..30);
                scalar(format!("varchar({most})"), Say::Text, Draw::Text { most })
            }
            16 => {
                let most = rng.random_range(1..12);
                scalar(format!("char({most})"), Say::Shown, Draw::Text { most })
            }
            17 => as_text("\"char\"", Draw::Pool(&["a", "", "Z", " ", "'"])),
            18 => scalar("name", Say::Text, Draw::Text { most: 15 }),
            19 => scalar("bytea", Say::Bytes, Draw::Bytes),
            20 => scalar("uuid", Say::Text, Draw::Uuid),
            21 | 22 => scalar("date", Say::Date, Draw::Date),
            23 | 24 => scalar("timestamp", Say::Timestamp, Draw::Timestamp { utc: false }),
            25 | 26 => scalar("timestamptz", Say::Timestamptz, Draw::Timestamp { utc: true }),
            27 => scalar("time", Say::Text, Draw::Time),
            28 => scalar("timetz", Say::Text, Draw::TimeTz),
            29 => scalar("interval", Say::Text, Draw::Interval),
            30 => scalar("inet", Say::Shown, Draw::Inet),
            31 => scalar("cidr", Say::Shown, Draw::Cidr),
            32 => scalar("macaddr", Say::Text, Draw::Mac(6)),
            33 => scalar("macaddr8", Say::Text, Draw::Mac(8)),
            34 => scalar("json", Say::Text, Draw::Json),
            35 => scalar("jsonb", Say::Text, Draw::Json),
            36 => scalar(
                "xml",
                Say::Shown,
                Draw::Pool(&["<a/>", "<b x=\"1\">ü &amp; 😀</b>", "text", "<?xml version=\"1.0\"?><c/>"]),
            ),
            37 => as_text("bit(5)", Draw::Bits { least: 5, most: 5 }),
            38 => as_text("varbit(40)", Draw::Bits { least: 0, most: 40 }),
            39 => as_text("tsvector", Draw::Pool(&["", "a:1A fat:2B,4C", "'quo''te' '日本'", "cat:3 'with space':9"])),
            40 => as_text("point", Draw::Pool(&["(0,0)", "(-1.5,2e300)", "(NaN,Infinity)", "(0.1,-0)"])),
            41 => as_text("box", Draw::Pool(&["(1,1),(0,0)", "(2.5,3),(-1e10,0.1)"])),
            42 => as_text("pg_lsn", Draw::Pool(&["0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF"])),
            43 => as_text("public.hstore", Draw::Pool(&["", "\"a\"=>\"1\"", "\"ü\"=>NULL, \"quo\\\"te\"=>\"=>\""])),
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
            Type::Scalar(scalar) => scalar.say == Say::Money,
            Type::Domain { base, .. } => base.is_money(),
            _ => false,
        }
    }

    /// SQL that gives the exact text of a value, as docs/types.md maps it.
    pub fn say(&self, value: &str) -> String {
        self.say_within(value, 0)
    }

    fn say_within(&self, value: &str, depth: usize) -> String {
        let said = match self {
            Type::Domain { base, .. } => return base.say_within(&format!("({value})::{}", base.sql()), depth),
            Type::Scalar(scalar) => return say_scalar(scalar.say, value),
            Type::Array(element) if element.is_native() || element.is_money() => {
                say_list(value, depth, |item| element.say_within(item, depth + 1))
            }
            Type::Array(element) if !element.is_array() => {
                say_list(value, depth, |item| format!("say.text(({item})::text)"))
            }
            Type::Composite { fields, .. } if self.is_native() => {
                let fields: Vec<String> = fields
                    .iter()
                    .map(|(name, field)| field.say_within(&format!("({value}).{}", quote(name)), depth))
                    .map(|said| format!("coalesce({said}, 'NULL')"))
                    .collect();
                format!("'{{' || {} || '}}'", fields.join(" || ',' || "))
            }
            Type::Range { bound, .. } => {
                let of = |function: &str| bound.say_within(&format!("{function}({value})"), depth);
                format!(
                    "'{{' || coalesce({}, 'NULL') || ',' || coalesce({}, 'NULL') || ',' || lower_inc({value}) || ',' \
                     || upper_inc({value}) || ',' || isempty({value}) || '}}'",
                    of("lower"),
                    of("upper")
                )
            }
            Type::Multirange { range, .. } => {
                let item = format!("r{depth}");
                let said = range.say_within(&item, depth + 1);
                format!(
                    "'[' || coalesce((SELECT string_agg({said}, ',' ORDER BY {item}) FROM unnest({value}) {item}), '') || ']'"
                )
            }
            _ => format!("say.text(({value})::text)"),
        };
        // IS NULL would also be true of a composite whose fields all are.
        format!("CASE WHEN num_nulls({value}) = 0 THEN {said} END")
    }

    /// A value as an SQL expression; seldom NULL.
    pub fn value(&self, rng: &mut ChaCha8Rng) -> String {
        if rng.random_bool(0.12) {
            return format!("NULL::{}", self.sql());
        }
        match self {
            Type::Scalar(scalar) => format!("{}::{}", literal(&scalar.draw.text(rng)), scalar.sql),
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

fn say_scalar(say: Say, value: &str) -> String {
    match say {
        Say::Plain => format!("({value})::text"),
        Say::Text => format!("say.text(({value})::text)"),
        Say::Shown => format!("say.text(CASE WHEN num_nulls({value}) = 0 THEN format('%s', {value}) END)"),
        Say::Bytes => format!("say.bytes({value})"),
        Say::Float4 => format!("say.float4({value})"),
        Say::Float8 => format!("say.float8({value})"),
        Say::Date => format!("say.date({value})"),
        Say::Timestamp => format!("say.timestamp({value})"),
        Say::Timestamptz => format!("say.timestamptz({value})"),
        Say::Money => format!("({value})::numeric::text"),
    }
}

fn say_list(value: &str, depth: usize, say: impl Fn(&str) -> String) -> String {
    let item = say(&format!("({value})[i{depth}]"));
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
