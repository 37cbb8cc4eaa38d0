//! The expressions of `add-column`: SQLite's syntax with `$COLUMN`, translated into SQL of PostgreSQL.
//!
//! The SQL is built from an allow-list, node by node, with parentheses around every compound. Text of the mapping is in
//! it as a quoted literal or identifier only.

use sqlparser::ast::{BinaryOperator, CaseWhen, CastKind, DataType as AstType, Expr, UnaryOperator, Value};
use sqlparser::dialect::SQLiteDialect;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, Tokenizer};

use super::coercion::{compare_values, condition_sql, number_of, truncate, unify, widest};
use super::data_type::{Family, Sql, cast};
use super::problem::RuleError;
use super::quoting::{ident, literal};
use super::source_table::Column;

/// These limits bound the stack that parsing, compiling and dropping an expression takes.
const DEPTH_MAX: usize = 100;
const TOKENS_MAX: usize = 1000;
const BYTES_MAX: usize = 16 * 1024;
/// The SQL of some functions has an argument twice, so each nesting doubles its size.
const SQL_BYTES_MAX: usize = 256 * 1024;

/// A parsed expression.
#[derive(Debug, Clone)]
pub(super) struct Expression {
    ast: Box<Expr>,
}

/// What the names in an expression refer to.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    pub(super) schema: &'a str,
    pub(super) table: &'a str,
    /// The column that the rule's locator names, where it names one.
    pub(super) column: Option<&'a str>,
    /// The table's columns. `None` accepts any name, to check an expression before its table is known.
    pub(super) columns: Option<&'a [Column<'a>]>,
}

impl Expression {
    /// Parses an expression and checks it without a table.
    pub(super) fn parse(text: &str) -> Result<Expression, RuleError> {
        if text.len() > BYTES_MAX {
            return Err(RuleError::new(format!("an expression is limited to {BYTES_MAX} bytes")));
        }
        let fault = |e: &dyn std::fmt::Display| {
            RuleError::new(format!("the expression can't be read: {e}"))
                .hint("write it in SQLite's syntax, with $NAME for a column and '..' for a text")
        };
        let dialect = SQLiteDialect {};
        let tokens = Tokenizer::new(&dialect, text).tokenize().map_err(|e| fault(&e))?;
        let count = tokens.iter().filter(|token| !matches!(token, Token::Whitespace(_))).count();
        if count > TOKENS_MAX {
            return Err(RuleError::new(format!("an expression is limited to {TOKENS_MAX} words and signs")));
        }
        let mut parser = Parser::new(&dialect).with_tokens(tokens);
        let ast = parser.parse_expr().map_err(|e| fault(&e))?;
        match parser.next_token().token {
            Token::EOF => {}
            other => return Err(fault(&format!("\"{other}\" follows its end"))),
        }
        let expression = Expression { ast: Box::new(ast) };
        let any_table = Scope { schema: "", table: "", column: Some(""), columns: None };
        expression.compile(any_table)?;
        Ok(expression)
    }

    /// The SQL of the expression for a table.
    pub(super) fn compile(&self, scope: Scope<'_>) -> Result<Sql, RuleError> {
        if let Some(name) = self.single_column()
            && let Some(column) = scope.columns.and_then(|c| c.iter().find(|c| c.name == name))
        {
            return Ok(Sql::new(ident(name), Family::of(column.type_name)));
        }
        Compiler { scope, depth: 0 }.value(&self.ast)
    }

    /// The name of the column, where the expression is a column and nothing else.
    pub(super) fn single_column(&self) -> Option<&str> {
        match self.ast.as_ref() {
            Expr::Value(value) => match &value.value {
                Value::Placeholder(name) => name.strip_prefix('$'),
                _ => None,
            },
            _ => None,
        }
    }
}

/// Compiles one node; its children are compiled by copies with a greater depth.
#[derive(Clone, Copy)]
pub(super) struct Compiler<'a> {
    scope: Scope<'a>,
    depth: usize,
}

impl Compiler<'_> {
    fn expr(self, expr: &Expr) -> Result<Sql, RuleError> {
        let inner = Compiler { depth: self.depth + 1, ..self };
        if inner.depth > DEPTH_MAX {
            return Err(RuleError::new(format!("the expression is nested deeper than {DEPTH_MAX}")));
        }
        let sql = inner.node(expr)?;
        if sql.text.len() > SQL_BYTES_MAX {
            return Err(RuleError::new(format!("the expression becomes more than {SQL_BYTES_MAX} bytes of SQL")));
        }
        Ok(sql)
    }

    fn node(self, expr: &Expr) -> Result<Sql, RuleError> {
        match expr {
            Expr::Nested(e) => self.expr(e),
            Expr::Value(value) => self.leaf(&value.value),
            Expr::UnaryOp { op, expr } => self.unary(op, expr),
            Expr::BinaryOp { left, op, right } => self.binary(left, op, right),
            Expr::IsNull(e) => Ok(condition_sql(format!("({} IS NULL)", self.value(e)?.text))),
            Expr::IsNotNull(e) => Ok(condition_sql(format!("({} IS NOT NULL)", self.value(e)?.text))),
            Expr::IsTrue(e) => Ok(condition_sql(format!("({} IS TRUE)", self.condition(e)?))),
            Expr::IsNotTrue(e) => Ok(condition_sql(format!("({} IS NOT TRUE)", self.condition(e)?))),
            Expr::IsFalse(e) => Ok(condition_sql(format!("({} IS FALSE)", self.condition(e)?))),
            Expr::IsNotFalse(e) => Ok(condition_sql(format!("({} IS NOT FALSE)", self.condition(e)?))),
            Expr::IsDistinctFrom(a, b) => self.compare(a, "IS DISTINCT FROM", b),
            Expr::IsNotDistinctFrom(a, b) => self.compare(a, "IS NOT DISTINCT FROM", b),
            Expr::InList { expr, list, negated } => self.in_list(expr, list, *negated),
            Expr::Between { expr, negated, low, high } => {
                let value = self.value(expr)?;
                let above = compare_values(value.clone(), ">=", self.value(low)?)?;
                let below = compare_values(value, "<=", self.value(high)?)?;
                let not = if *negated { "NOT " } else { "" };
                Ok(condition_sql(format!("({not}({} AND {}))", above.text, below.text)))
            }
            Expr::Like { negated, any: false, expr, pattern, escape_char } => {
                self.like(expr, pattern, escape_char.as_ref().map(|v| &v.value), *negated)
            }
            Expr::Case { operand, conditions, else_result, .. } => {
                self.case(operand.as_deref(), conditions, else_result.as_deref())
            }
            Expr::Cast { kind: CastKind::Cast, expr, data_type, array: false, format: None } => {
                self.cast(expr, data_type)
            }
            Expr::Function(function) => self.function(function),
            Expr::Substring { expr, substring_from: Some(from), substring_for, .. } => {
                self.substr(expr, from, substring_for.as_deref())
            }
            Expr::Trim { trim_where: None, trim_what: None, expr, trim_characters } => {
                let chars = trim_characters.iter().flatten();
                let args: Vec<&Expr> = std::iter::once(expr.as_ref()).chain(chars).collect();
                self.call("trim", &args)
            }
            Expr::Identifier(name) => Err(RuleError::new(format!("{name} is neither a column nor a text"))
                .hint("write $NAME for a column, '..' for a text")),
            other => Err(RuleError::new(format!("\"{other}\" is not supported in an expression"))),
        }
    }

    /// The SQL of an expression as a value.
    pub(super) fn value(self, expr: &Expr) -> Result<Sql, RuleError> {
        self.expr(expr).map(Sql::value)
    }

    /// The SQL of an expression as a text.
    pub(super) fn text(self, expr: &Expr) -> Result<String, RuleError> {
        let sql = self.value(expr)?.into_text();
        sql.map(|sql| sql.text).map_err(|f| f.within(expr))
    }

    /// The SQL of an expression as a number, as SQLite would calculate with it.
    pub(super) fn number(self, expr: &Expr) -> Result<Sql, RuleError> {
        number_of(self.value(expr)?).map_err(|f| f.within(expr))
    }

    /// The SQL of an expression as a condition; of a number, whether it is not 0.
    pub(super) fn condition(self, expr: &Expr) -> Result<String, RuleError> {
        let Sql { text, family } = self.expr(expr)?;
        match family {
            Family::Condition | Family::Bool => Ok(text),
            Family::Null => Ok(cast(&text, "boolean")),
            family if family.is_number() => Ok(format!("({text} <> 0)")),
            family => {
                let fault = RuleError::new(format!("\"{expr}\" is {}, not a condition", family.description()));
                Err(fault.hint("compare it with a value"))
            }
        }
    }

    fn leaf(self, value: &Value) -> Result<Sql, RuleError> {
        match value {
            Value::Placeholder(name) => self.name(name),
            Value::SingleQuotedString(text) if !text.contains('\0') => Ok(Sql::new(literal(text), Family::Literal)),
            Value::Number(digits, false) => Ok(number_literal(digits)),
            Value::Null => Ok(Sql::new("NULL", Family::Null)),
            Value::Boolean(true) => Ok(Sql::new("TRUE", Family::Condition)),
            Value::Boolean(false) => Ok(Sql::new("FALSE", Family::Condition)),
            other => Err(RuleError::new(format!("the literal {other} is not supported"))),
        }
    }

    fn name(self, placeholder: &str) -> Result<Sql, RuleError> {
        let name = placeholder.strip_prefix('$').unwrap_or(placeholder);
        let column = self.scope.columns.map(|columns| columns.iter().find(|c| c.name == name));
        if let Some(Some(column)) = column {
            return Ok(column_value(column));
        }
        let text = |text: &str| Ok(Sql::new(literal(text), Family::Literal));
        match (name, self.scope.column) {
            ("AR_M_SOURCE_SCHEMA", _) => text(self.scope.schema),
            ("AR_M_SOURCE_TABLE_NAME", _) => text(self.scope.table),
            ("AR_M_SOURCE_COLUMN_NAME", Some(column)) => text(column),
            ("AR_M_SOURCE_COLUMN_NAME", None) => {
                Err(RuleError::new("$AR_M_SOURCE_COLUMN_NAME needs a column of the source")
                    .hint("set the column-name of the object-locator"))
            }
            (name, _) if name.starts_with("AR_H_") => {
                Err(RuleError::new(format!("${name} is for changes, which are not supported yet")))
            }
            (name, _) if name.starts_with("AR_M_") => Err(RuleError::new(format!("${name} is not supported"))
                .hint("use $AR_M_SOURCE_SCHEMA, $AR_M_SOURCE_TABLE_NAME or $AR_M_SOURCE_COLUMN_NAME")),
            _ if column.is_none() => Ok(Sql::new("NULL", Family::Null)),
            (name, _) => Err(RuleError::new(format!("\"{name}\" is not a column of the table"))
                .hint("names are case-sensitive, and are those of the source")),
        }
    }

    fn unary(self, op: &UnaryOperator, expr: &Expr) -> Result<Sql, RuleError> {
        match op {
            UnaryOperator::Plus => self.value(expr),
            UnaryOperator::Minus => {
                let number = self.number(expr)?;
                Ok(Sql::new(format!("(-{})", number.text), number.family))
            }
            UnaryOperator::Not => Ok(condition_sql(format!("(NOT {})", self.condition(expr)?))),
            other => Err(RuleError::new(format!("the operator {other} is not supported"))),
        }
    }

    fn binary(self, left: &Expr, op: &BinaryOperator, right: &Expr) -> Result<Sql, RuleError> {
        use BinaryOperator as Op;
        match op {
            Op::And | Op::Or => {
                let (left, right) = (self.condition(left)?, self.condition(right)?);
                Ok(condition_sql(format!("({left} {op} {right})")))
            }
            Op::Eq => self.compare(left, "=", right),
            Op::NotEq => self.compare(left, "<>", right),
            Op::Lt => self.compare(left, "<", right),
            Op::LtEq => self.compare(left, "<=", right),
            Op::Gt => self.compare(left, ">", right),
            Op::GtEq => self.compare(left, ">=", right),
            Op::StringConcat => {
                let (left, right) = (self.text(left)?, self.text(right)?);
                Ok(Sql::new(format!("({left} || {right})"), Family::Text))
            }
            Op::Plus | Op::Minus | Op::Multiply | Op::Divide | Op::Modulo => self.arithmetic(left, op, right),
            other => Err(RuleError::new(format!("the operator {other} is not supported"))),
        }
    }

    fn arithmetic(self, left: &Expr, op: &BinaryOperator, right: &Expr) -> Result<Sql, RuleError> {
        let (mut left, mut right) = (self.number(left)?, self.number(right)?);
        if *op == BinaryOperator::Modulo {
            (left, right) = (truncate(left), truncate(right));
        }
        // In SQLite integers have 64 bits, and smaller ones don't overflow.
        let integers = [left.family, right.family];
        if integers.iter().all(|f| matches!(f, Family::Int4 | Family::Int8)) && left.family == Family::Int4 {
            left = Sql::new(cast(&left.text, "bigint"), Family::Int8);
        }
        let by = match op {
            BinaryOperator::Divide | BinaryOperator::Modulo => format!("NULLIF({}, 0)", right.text),
            _ => right.text,
        };
        let family = widest(left.family, right.family);
        Ok(Sql::new(format!("({} {op} {by})", left.text), family))
    }

    /// The SQL of a comparison.
    pub(super) fn compare(self, left: &Expr, op: &str, right: &Expr) -> Result<Sql, RuleError> {
        let (a, b) = (self.value(left)?, self.value(right)?);
        compare_values(a, op, b).map_err(|f| f.within(&format!("{left} {op} {right}")))
    }

    fn in_list(self, expr: &Expr, list: &[Expr], negated: bool) -> Result<Sql, RuleError> {
        if list.is_empty() {
            return Err(RuleError::new("IN needs at least one value"));
        }
        let value = self.value(expr)?;
        let mut terms = Vec::new();
        for item in list {
            terms.push(compare_values(value.clone(), "=", self.value(item)?).map_err(|f| f.within(item))?);
        }
        let terms: Vec<_> = terms.into_iter().map(|term| term.text).collect();
        let not = if negated { "NOT " } else { "" };
        Ok(condition_sql(format!("({not}({}))", terms.join(" OR "))))
    }

    fn like(self, expr: &Expr, pattern: &Expr, escape: Option<&Value>, negated: bool) -> Result<Sql, RuleError> {
        let escape = match escape {
            None => "''".to_owned(),
            Some(Value::SingleQuotedString(c)) if c.chars().count() == 1 => literal(c),
            Some(other) => return Err(RuleError::new(format!("ESCAPE {other} is not one character"))),
        };
        let (text, pattern) = (self.text(expr)?, self.text(pattern)?);
        let not = if negated { "NOT " } else { "" };
        // In the collation "C" only ASCII letters have a case, as in SQLite.
        Ok(condition_sql(format!("({text} COLLATE \"C\" {not}ILIKE {pattern} ESCAPE {escape})")))
    }

    fn case(self, operand: Option<&Expr>, whens: &[CaseWhen], otherwise: Option<&Expr>) -> Result<Sql, RuleError> {
        let mut results = Vec::new();
        for when in whens {
            results.push(self.value(&when.result)?);
        }
        if let Some(otherwise) = otherwise {
            results.push(self.value(otherwise)?);
        }
        let (results, family) = unify(results)?;
        let mut sql = "CASE".to_owned();
        let operand = operand.map(|e| self.value(e)).transpose()?;
        for (when, result) in whens.iter().zip(&results) {
            let condition = match &operand {
                Some(operand) => compare_values(operand.clone(), "=", self.value(&when.condition)?)?.text,
                None => self.condition(&when.condition)?,
            };
            sql += &format!(" WHEN {condition} THEN {}", result.text);
        }
        if otherwise.is_some()
            && let Some(result) = results.last()
        {
            sql += &format!(" ELSE {}", result.text);
        }
        Ok(Sql::new(sql + " END", family))
    }

    /// SQLite's CAST, which ignores the length of a text and the digits of a number.
    fn cast(self, expr: &Expr, to: &AstType) -> Result<Sql, RuleError> {
        use AstType as T;
        let from = self.value(expr)?;
        // A value of another type, such as money or a domain, is converted by its text.
        let number = |from: Sql| match from.family {
            Family::Other => number_of(from.into_text()?),
            _ => number_of(from).map_err(|f| f.within(expr)),
        };
        match to {
            T::Text
            | T::Varchar(_)
            | T::CharVarying(_)
            | T::Char(_)
            | T::Character(_)
            | T::CharacterVarying(_)
            | T::Nvarchar(_)
            | T::Clob(_)
            | T::String(_) => match from.family {
                Family::Text | Family::Literal => Ok(Sql::new(cast(&from.text, "text"), Family::Text)),
                _ => from.into_text(),
            },
            T::Int(_)
            | T::Integer(_)
            | T::BigInt(_)
            | T::SmallInt(_)
            | T::TinyInt(_)
            | T::MediumInt(_)
            | T::Int2(_)
            | T::Int4(_)
            | T::Int8(_) => {
                let whole = truncate(number(from)?);
                let wide = whole.family == Family::Int8;
                Ok(if wide { whole } else { Sql::new(cast(&whole.text, "bigint"), Family::Int8) })
            }
            T::Real | T::Double(_) | T::DoublePrecision | T::Float(_) => {
                Ok(Sql::new(cast(&number(from)?.text, "double precision"), Family::Float))
            }
            T::Numeric(_) | T::Decimal(_) | T::Dec(_) => {
                Ok(Sql::new(cast(&number(from)?.text, "numeric"), Family::Decimal))
            }
            other => Err(RuleError::new(format!("CAST to {other} is not supported"))
                .hint("cast to TEXT, INTEGER, REAL or NUMERIC; use date() and datetime() for dates")),
        }
    }
}

fn column_value(column: &Column<'_>) -> Sql {
    let family = Family::of(column.type_name);
    let plain = column.type_name == "text" || column.type_name.starts_with("character varying");
    let name = ident(column.name);
    // The cast removes the padding of `character` and the comparison rules of types such as citext.
    let text = if family == Family::Text && !plain { cast(&name, "text") } else { name };
    Sql::new(text, family)
}

fn number_literal(digits: &str) -> Sql {
    let family = match (digits.parse::<i32>(), digits.parse::<i64>()) {
        (Ok(_), _) => Family::Int4,
        (_, Ok(_)) => Family::Int8,
        _ => Family::Decimal,
    };
    Sql::new(digits, family)
}
