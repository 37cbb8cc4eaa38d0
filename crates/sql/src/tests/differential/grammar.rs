//! Generates random queries with well-typed expressions.

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

/// The type of an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Int,
    Big,
    Num,
    Float,
    Text,
    Bool,
    Date,
    Instant,
    Interval,
}

use Kind::{Big, Bool, Date, Float, Instant, Int, Interval, Num, Text};

/// The columns of the table of measures.
const COLUMNS: [(&str, Kind); 11] = [
    ("m.id", Int),
    ("m.s", Int),
    ("m.n", Big),
    ("m.kw", Num),
    ("m.price", Num),
    ("m.f", Float),
    ("m.site", Text),
    ("m.note", Text),
    ("m.ok", Bool),
    ("m.day", Date),
    ("m.ts", Instant),
];

/// Kinds whose values can be selected, compared and ordered.
const SHOWN: [Kind; 8] = [Int, Big, Num, Float, Text, Bool, Date, Instant];

/// A generator of queries; the same seed gives the same queries.
pub(super) struct Grammar {
    pub(super) rng: ChaCha8Rng,
}

impl Grammar {
    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from.choose(&mut self.rng).copied().unwrap_or_default()
    }

    fn kind(&mut self) -> Kind {
        *SHOWN.choose(&mut self.rng).unwrap_or(&Int)
    }

    fn column(&mut self, kind: Kind) -> Option<String> {
        let of: Vec<&str> = COLUMNS.iter().filter(|(_, own)| *own == kind).map(|(name, _)| *name).collect();
        of.choose(&mut self.rng).map(|name| (*name).to_owned())
    }

    fn literal(&mut self, kind: Kind) -> String {
        match kind {
            Int => self.pick(&["0", "1", "2", "7", "-3", "100"]).to_owned(),
            Big => self.pick(&["0::bigint", "5000000000", "-2::bigint"]).to_owned(),
            Num => self.pick(&["0.5", "1.25", "-2.345", "10.0", "3.0", "0.001"]).to_owned(),
            Float => self.pick(&["0.5::float8", "2::float8", "-1.5::float8"]).to_owned(),
            Text => self.pick(&["'a'", "'FR-01'", "''", "'été'", "'100%'", "'A b'"]).to_owned(),
            Bool => self.pick(&["true", "false"]).to_owned(),
            Date => self.pick(&["date '2026-03-29'", "date '2026-10-25'", "date '2024-02-29'"]).to_owned(),
            Instant => self
                .pick(&[
                    "timestamptz '2026-03-29 00:30:00Z'",
                    "timestamptz '2026-10-25 01:00:00Z'",
                    "timestamptz '2026-06-01 12:00:00Z'",
                ])
                .to_owned(),
            Interval => self
                .pick(&["interval '1 day'", "interval '90 minutes'", "interval '1 month'", "interval '25 hours'"])
                .to_owned(),
        }
    }

    fn leaf(&mut self, kind: Kind) -> String {
        if self.rng.random_bool(0.7)
            && let Some(column) = self.column(kind)
        {
            return column;
        }
        self.literal(kind)
    }

    /// A random expression of a kind, nested at most `depth` deep.
    pub(super) fn expr(&mut self, kind: Kind, depth: u32) -> String {
        if depth == 0 || self.rng.random_bool(0.2) {
            return self.leaf(kind);
        }
        let depth = depth - 1;
        if !matches!(kind, Interval) && self.rng.random_bool(0.2) {
            let (one, other) = (self.expr(kind, depth), self.expr(kind, depth));
            return match self.rng.random_range(0..4) {
                0 => format!("coalesce({one}, {other})"),
                1 => format!("CASE WHEN {} THEN {one} ELSE {other} END", self.expr(Bool, depth)),
                2 if kind != Bool => format!("greatest({one}, {other})"),
                _ => format!("nullif({one}, {other})"),
            };
        }
        match kind {
            Int => self.int(depth),
            Big => match self.rng.random_range(0..3) {
                0 => format!("({} + {})", self.leaf(Big), self.expr(Int, depth)),
                1 => format!("({} - {})", self.leaf(Big), self.expr(Int, depth)),
                _ => format!("({})::bigint", self.expr(Int, depth)),
            },
            Num => self.num(depth),
            Float => match self.rng.random_range(0..4) {
                0 => format!("({} * {})", self.leaf(Float), self.expr(Num, depth)),
                1 => format!("({} + {})", self.expr(Float, depth), self.leaf(Num)),
                2 => format!("({})::float8", self.expr(Int, depth)),
                _ => format!("round({})", self.expr(Float, depth)),
            },
            Text => self.text(depth),
            Bool => self.condition(depth),
            Date => match self.rng.random_range(0..3) {
                0 => format!("({} + {})", self.leaf(Date), self.leaf(Int)),
                1 => format!("({})::date", self.expr(Instant, depth)),
                _ => format!("({} - {})", self.leaf(Date), self.literal(Int)),
            },
            Instant => match self.rng.random_range(0..3) {
                0 => format!("({} + {})", self.leaf(Instant), self.expr(Interval, depth)),
                1 => format!("({} - {})", self.leaf(Instant), self.expr(Interval, depth)),
                _ => format!(
                    "date_trunc('{}', {})",
                    self.pick(&["hour", "day", "month", "week"]),
                    self.expr(Instant, depth)
                ),
            },
            Interval => match self.rng.random_range(0..3) {
                0 => self.literal(Interval),
                1 => format!("({} * {})", self.literal(Interval), self.literal(Int)),
                _ => format!("({} - {})", self.leaf(Instant), self.leaf(Instant)),
            },
        }
    }

    fn int(&mut self, depth: u32) -> String {
        match self.rng.random_range(0..9) {
            0 => format!("({} + {})", self.expr(Int, depth), self.leaf(Int)),
            1 => format!("({} - {})", self.expr(Int, depth), self.leaf(Int)),
            2 => format!("({} * {})", self.leaf(Int), self.literal(Int)),
            3 => format!("({} / nullif({}, 0))", self.expr(Int, depth), self.leaf(Int)),
            4 => format!("({} % nullif({}, 0))", self.expr(Int, depth), self.leaf(Int)),
            5 => format!("length({})", self.expr(Text, depth)),
            6 => format!("({})::int", self.expr(Num, depth)),
            7 => format!("({} - {})", self.leaf(Date), self.leaf(Date)),
            _ => format!("abs({})", self.expr(Int, depth)),
        }
    }

    fn num(&mut self, depth: u32) -> String {
        match self.rng.random_range(0..10) {
            0 => format!("({} + {})", self.expr(Num, depth), self.leaf(Num)),
            1 => format!("({} - {})", self.expr(Num, depth), self.leaf(Num)),
            2 => format!("({} * {})", self.leaf(Num), self.leaf(Num)),
            3 => format!("({} / nullif({}, 0))", self.leaf(Num), self.leaf(Num)),
            4 => format!("({} / nullif({}, 0))", self.leaf(Num), self.leaf(Int)),
            5 => format!("round({}, {})", self.expr(Num, depth), self.pick(&["0", "1", "2", "3"])),
            6 => format!("trunc({}, {})", self.expr(Num, depth), self.pick(&["0", "1", "2"])),
            7 => format!("{}({})", self.pick(&["ceil", "floor", "abs", "round"]), self.expr(Num, depth)),
            8 => format!(
                "extract({} FROM {})",
                self.pick(&["hour", "day", "month", "dow", "epoch", "second"]),
                self.leaf(Instant)
            ),
            _ => format!("({} * {})", self.leaf(Int), self.leaf(Num)),
        }
    }

    fn text(&mut self, depth: u32) -> String {
        match self.rng.random_range(0..10) {
            0 => format!("({} || {})", self.expr(Text, depth), self.leaf(Text)),
            1 => format!("{}({})", self.pick(&["upper", "lower", "trim", "reverse"]), self.expr(Text, depth)),
            2 => format!(
                "substr({}, {}, {})",
                self.expr(Text, depth),
                self.pick(&["1", "2", "4"]),
                self.pick(&["1", "3"])
            ),
            3 => format!(
                "{}({}, {})",
                self.pick(&["left", "right"]),
                self.expr(Text, depth),
                self.pick(&["1", "2", "-1"])
            ),
            4 => format!("replace({}, 'a', 'xy')", self.expr(Text, depth)),
            5 => format!("concat({}, '-', {})", self.leaf(Text), self.leaf(Int)),
            6 => format!("split_part({}, '-', {})", self.leaf(Text), self.pick(&["1", "2"])),
            7 => format!(
                "to_char({}, '{}')",
                self.leaf(Instant),
                self.pick(&["YYYY-MM-DD HH24:MI", "Dy DD Mon", "IYYY-IW"])
            ),
            8 => format!("({})::text", self.expr(Int, depth)),
            _ => format!("lpad({}, 6, '*')", self.expr(Text, depth)),
        }
    }

    fn condition(&mut self, depth: u32) -> String {
        let kind = self.kind();
        match self.rng.random_range(0..11) {
            0 | 1 => {
                let op = self.pick(&["=", "<>", "<", "<=", ">", ">="]);
                format!("({} {op} {})", self.expr(kind, depth), self.leaf(kind))
            }
            2 => format!("({} AND {})", self.expr(Bool, depth), self.expr(Bool, depth)),
            3 => format!("({} OR {})", self.expr(Bool, depth), self.expr(Bool, depth)),
            4 => format!("(NOT {})", self.expr(Bool, depth)),
            5 => format!("({} IS {}NULL)", self.expr(kind, depth), self.pick(&["", "NOT "])),
            6 => format!("({} IN ({}, {}))", self.leaf(kind), self.literal(kind), self.literal(kind)),
            7 => format!("({} BETWEEN {} AND {})", self.leaf(kind), self.literal(kind), self.literal(kind)),
            8 => format!("({} LIKE {})", self.expr(Text, depth), self.pick(&["'%a%'", "'F_-%'", "'%é%'", "''"])),
            9 => format!("({} IS DISTINCT FROM {})", self.leaf(kind), self.leaf(kind)),
            _ => format!("({} > {})", self.expr(Interval, depth), self.literal(Interval)),
        }
    }

    /// An operation on two numbers of different types.
    fn mixed(&mut self) -> String {
        let kinds = [Int, Big, Num, Float];
        let (one, other) = (*kinds.choose(&mut self.rng).unwrap_or(&Int), *kinds.choose(&mut self.rng).unwrap_or(&Num));
        let op = self.pick(&["+", "-", "*", "=", "<", ">="]);
        format!("({} {op} {})", self.leaf(one), self.leaf(other))
    }

    fn aggregate(&mut self) -> String {
        let number = *[Int, Big, Num, Float].choose(&mut self.rng).unwrap_or(&Num);
        let kind = self.kind();
        match self.rng.random_range(0..9) {
            0 => "count(*)".to_owned(),
            1 => format!("count(DISTINCT {})", self.leaf(kind)),
            2 => format!("sum({})", self.expr(number, 1)),
            3 => format!("avg({})", self.expr(number, 1)),
            4 if kind != Bool => format!("{}({})", self.pick(&["min", "max"]), self.expr(kind, 1)),
            5 => format!("{}({})", self.pick(&["bool_and", "bool_or"]), self.expr(Bool, 1)),
            6 => format!("string_agg({}, ',' ORDER BY m.id)", self.leaf(Text)),
            7 => format!("sum({}) FILTER (WHERE {})", self.leaf(Num), self.expr(Bool, 1)),
            _ => format!("round(avg({}), 2)", self.leaf(Num)),
        }
    }

    fn window(&mut self) -> String {
        let over = self.pick(&[
            "(ORDER BY m.id)",
            "(PARTITION BY m.site ORDER BY m.id)",
            "(PARTITION BY m.site)",
            "(ORDER BY m.id ROWS BETWEEN 2 PRECEDING AND CURRENT ROW)",
        ]);
        let call = match self.rng.random_range(0..6) {
            0 => format!("sum({})", self.leaf(Num)),
            1 => format!("avg({})", self.leaf(Num)),
            2 => format!("count({})", self.leaf(Text)),
            3 => {
                return format!(
                    "{} OVER (PARTITION BY m.site ORDER BY m.id)",
                    self.pick(&["row_number()", "rank()", "dense_rank()"])
                );
            }
            4 => return format!("lag({}) OVER (ORDER BY m.id)", self.leaf(Num)),
            _ => format!("max({})", self.leaf(Int)),
        };
        format!("{call} OVER {over}")
    }

    fn filter(&mut self) -> String {
        if self.rng.random_bool(0.4) { String::new() } else { format!(" WHERE {}", self.expr(Bool, 2)) }
    }

    fn subquery(&mut self) -> String {
        match self.rng.random_range(0..5) {
            0 => "m.site IN (SELECT site FROM sites WHERE cap > 20)".to_owned(),
            1 => "EXISTS (SELECT 1 FROM sites WHERE sites.site = m.site AND cap > m.kw)".to_owned(),
            2 => "m.kw > (SELECT avg(kw) FROM m AS other)".to_owned(),
            3 => "m.site NOT IN (SELECT site FROM sites WHERE region IS NOT NULL)".to_owned(),
            _ => "m.kw > (SELECT max(x.kw) / 2 FROM m AS x WHERE x.site = m.site)".to_owned(),
        }
    }

    /// A random query.
    pub(super) fn query(&mut self) -> String {
        let shown = |grammar: &mut Grammar| {
            let count = grammar.rng.random_range(1..4);
            let exprs: Vec<String> = (0..count)
                .map(|_| {
                    if grammar.rng.random_bool(0.2) {
                        return grammar.mixed();
                    }
                    let kind = grammar.kind();
                    grammar.expr(kind, 3)
                })
                .collect();
            exprs.join(", ")
        };
        match self.rng.random_range(0..9) {
            0..=2 => format!("SELECT {} FROM m{}", shown(self), self.filter()),
            3 => {
                let join = self.pick(&["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]);
                let more = self.pick(&["site, region", "m.site, sites.site", "cap, site", "since - m.day"]);
                format!("SELECT {}, {more} FROM m {join} sites USING (site){}", shown(self), self.filter())
            }
            4 | 5 => {
                let key =
                    self.pick(&["m.site", "m.ok", "date_trunc('day', m.ts)", "m.s % 2", "m.day", "round(m.kw, 0)"]);
                let having = self.pick(&["", "", " HAVING count(*) > 1", " HAVING sum(m.kw) > 10"]);
                format!(
                    "SELECT {key}, {}, {} FROM m{} GROUP BY {key}{having}",
                    self.aggregate(),
                    self.aggregate(),
                    self.filter()
                )
            }
            6 => format!("SELECT m.id, {} FROM m{}", self.window(), self.filter()),
            7 => {
                let kind = self.kind();
                let set = self.pick(&["UNION", "UNION ALL", "EXCEPT", "INTERSECT"]);
                format!("SELECT {} FROM m {set} SELECT {} FROM m", self.expr(kind, 2), self.expr(kind, 2))
            }
            _ => format!("SELECT {} FROM m WHERE {}", shown(self), self.subquery()),
        }
    }
}
