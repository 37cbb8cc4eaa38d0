//! Limits of a statement's size, checked on its tokens before it is parsed. Its syntax tree and its plans are walked,
//! copied and dropped by recursion: a chain of 100,000 ORs is a tree of that depth, and a stack overflow ends the
//! process.

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use crate::error::{Error, Kind, Refusal, Result};
use crate::grammar::Grammar;

/// The most operators in an expression. Those in parentheses within it are counted apart.
pub const OPERATORS_MAX: usize = 1000;

/// The most `+`, `-` and `*` in an expression, those in parentheses included: the type of each depends on the types of
/// its operands, through all levels.
pub const ARITHMETIC_MAX: usize = 200;

/// The most tables that are joined in a FROM clause.
pub const JOINS_MAX: usize = 200;

/// The most queries in a statement: parts of a UNION, WITH queries and subqueries.
pub const QUERIES_MAX: usize = 200;

/// What encloses a place in the text: a statement, a pair of parentheses or a CASE.
#[derive(Default)]
struct Level {
    operators: usize,
    joins: usize,
    arithmetic: usize,
    /// The `arithmetic` of the enclosing level, where this one began.
    outer: usize,
    /// In a FROM clause, where a comma separates tables.
    is_from: bool,
    is_case: bool,
}

impl Level {
    /// A new level, nested in an expression of this one.
    fn inner(&self) -> Level {
        Level { arithmetic: self.arithmetic, outer: self.arithmetic, ..Level::default() }
    }
}

/// Checks the tokens of one or more statements.
///
/// # Errors
/// Where a statement exceeds a limit of this module.
pub(crate) fn check(tokens: &[TokenWithSpan]) -> Result<()> {
    let mut open = vec![Level::default()];
    let (mut queries, mut is_name, mut is_distinct) = (0, false, false);
    let written = tokens.iter().map(|token| &token.token).filter(|token| !matches!(token, Token::Whitespace(_)));
    for token in written {
        let Some(level) = open.last_mut() else { return Ok(()) };
        // A word after a period is a name, even if it is a keyword elsewhere.
        let is_name = std::mem::replace(&mut is_name, *token == Token::Period);
        let distinct = matches!(token, Token::Word(word) if word.keyword == Keyword::DISTINCT);
        let is_distinct = std::mem::replace(&mut is_distinct, distinct);
        match token {
            Token::LParen => {
                let inner = level.inner();
                open.push(inner);
            }
            Token::LBracket => {
                operator(level)?;
                let inner = level.inner();
                open.push(inner);
            }
            Token::RParen | Token::RBracket => {
                let inner = level.arithmetic;
                // The parser reports a CASE without END.
                while open.len() > 1 && open.pop().is_some_and(|level| level.is_case) {}
                if let Some(level) = open.last_mut() {
                    level.arithmetic = level.arithmetic.max(inner);
                }
            }
            Token::Comma => {
                (level.operators, level.arithmetic) = (0, level.outer);
                if level.is_from {
                    join(level)?;
                }
            }
            Token::SemiColon => (open, queries) = (vec![Level::default()], 0),
            Token::Word(word) if word.quote_style.is_some() || is_name => {}
            Token::Word(word) if word.keyword == Keyword::CASE => {
                let inner = Level { is_case: true, ..level.inner() };
                open.push(inner);
            }
            Token::Word(word) if word.keyword == Keyword::END && level.is_case => {
                let inner = level.arithmetic;
                open.pop();
                if let Some(level) = open.last_mut() {
                    level.arithmetic = level.arithmetic.max(inner);
                }
            }
            // `a IS DISTINCT FROM b` names no table.
            Token::Word(word) if word.keyword == Keyword::FROM && is_distinct => {}
            Token::Word(word) => keyword(word.keyword, level, &mut queries)?,
            Token::Plus | Token::Minus | Token::Mul => {
                operator(level)?;
                level.arithmetic += 1;
                if level.arithmetic > ARITHMETIC_MAX {
                    return Err(too_complex(format!("more than {ARITHMETIC_MAX} of +, - and * in an expression")));
                }
            }
            token if is_operator(token) => operator(level)?,
            _ => {}
        }
    }
    Ok(())
}

fn keyword(keyword: Keyword, level: &mut Level, queries: &mut usize) -> Result<()> {
    match keyword {
        Keyword::WHEN | Keyword::THEN | Keyword::ELSE if level.is_case => {
            (level.operators, level.arithmetic) = (0, level.outer);
        }
        Keyword::SELECT => {
            (level.operators, level.arithmetic, level.joins, level.is_from) = (0, level.outer, 0, false);
            query(queries)?;
        }
        Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT | Keyword::MINUS => {
            level.is_from = false;
            query(queries)?;
        }
        Keyword::FROM => level.is_from = true,
        Keyword::JOIN => join(level)?,
        Keyword::WHERE | Keyword::GROUP | Keyword::HAVING | Keyword::ORDER | Keyword::LIMIT | Keyword::WINDOW => {
            level.is_from = false;
        }
        Keyword::OR
        | Keyword::AND
        | Keyword::NOT
        | Keyword::IS
        | Keyword::IN
        | Keyword::LIKE
        | Keyword::ILIKE
        | Keyword::SIMILAR
        | Keyword::BETWEEN
        | Keyword::COLLATE
        | Keyword::OPERATOR
        | Keyword::XOR
        | Keyword::OVERLAPS
        | Keyword::NOTNULL
        | Keyword::MEMBER
        | Keyword::DIV
        | Keyword::REGEXP
        | Keyword::RLIKE
        | Keyword::ZONE => operator(level)?,
        _ => {}
    }
    Ok(())
}

fn operator(level: &mut Level) -> Result<()> {
    level.operators += 1;
    if level.operators > OPERATORS_MAX {
        return Err(too_complex(format!("more than {OPERATORS_MAX} operators in an expression")));
    }
    Ok(())
}

fn join(level: &mut Level) -> Result<()> {
    level.joins += 1;
    if level.joins > JOINS_MAX {
        return Err(too_complex(format!("more than {JOINS_MAX} tables in a FROM")));
    }
    Ok(())
}

/// Counts halves of queries: a SELECT and the UNION that combines it with another one count half each.
fn query(halves: &mut usize) -> Result<()> {
    *halves += 1;
    if *halves > 2 * QUERIES_MAX {
        return Err(too_complex(format!("more than {QUERIES_MAX} queries in a statement")));
    }
    Ok(())
}

fn is_operator(token: &Token) -> bool {
    !matches!(
        token,
        Token::EOF
            | Token::Word(_)
            | Token::Number(..)
            | Token::Char(_)
            | Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::DollarQuotedString(_)
            | Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::NationalStringLiteral(_)
            | Token::HexStringLiteral(_)
            | Token::Whitespace(_)
            | Token::Period
            | Token::Placeholder(_)
            | Token::LBrace
            | Token::RBrace
            | Token::Backslash
    )
}

fn too_complex(what: String) -> Error {
    let hint = "an array or a list takes any number of values: x = ANY ($1), x IN (1, 2, 3); or join a list of VALUES";
    Error::new(Kind::FixInput, "read the query").because(Refusal::TooComplex { what, hint: hint.to_owned() })
}

/// How deeply the parentheses of a text are nested; 0 if the text can't be split into tokens.
pub fn nesting(sql: &str) -> usize {
    let tokens = Tokenizer::new(&Grammar, sql).tokenize().unwrap_or_default();
    let (mut open, mut deepest) = (0usize, 0);
    for token in tokens {
        match token {
            Token::LParen => open += 1,
            Token::RParen => open = open.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(open);
    }
    deepest
}

#[cfg(test)]
mod tests {
    use sqlparser::dialect::PostgreSqlDialect;
    use sqlparser::tokenizer::Tokenizer;

    use super::{OPERATORS_MAX, QUERIES_MAX};

    fn passes(sql: &str) -> bool {
        let tokens = Tokenizer::new(&PostgreSqlDialect {}, sql).tokenize_with_location().unwrap();
        super::check(&tokens).is_ok()
    }

    #[test]
    fn parentheses_of_texts_don_t_count() {
        assert_eq!(super::nesting("SELECT f(')', f(')', \"(\" /* ))) */))"), 2);
    }

    #[test]
    fn lists_may_be_long() {
        let many = OPERATORS_MAX * 3;
        for sql in [
            format!("SELECT x IN ({})", vec!["-1"; many].join(", ")),
            format!("SELECT {}", vec!["a + 1"; many].join(", ")),
            format!("VALUES {}", vec!["(1 + 1, 'a' || 'b')"; many].join(", ")),
            format!("SELECT CASE {} END", vec!["WHEN a = 1 THEN 2"; many].join(" ")),
            vec!["SELECT a + 1"; 10 * OPERATORS_MAX].join("; "),
            vec!["SELECT a = 1 OR b = 2"; QUERIES_MAX].join(" UNION ALL "),
            "SELECT ) 1 END".to_owned(),
            format!("SELECT a IS DISTINCT FROM b, {} FROM t", vec!["a"; many].join(", ")),
            format!("SELECT 1 FROM t UNION ALL VALUES {}", vec!["(1)"; many].join(", ")),
            format!("SELECT extract(hour FROM t), {} FROM t", vec!["a"; many].join(", ")),
        ] {
            assert!(passes(&sql), "{}", &sql[..50]);
        }
    }

    #[test]
    fn chains_are_limited_everywhere() {
        let many = OPERATORS_MAX + 1;
        for sql in [
            format!("SELECT 1{}", " + 1".repeat(many)),
            format!("SELECT 1{}", "::int".repeat(many)),
            format!("SELECT a{}", " OR a".repeat(many)),
            format!("SELECT a{}", " OR CASE WHEN a THEN b END".repeat(many)),
            format!("SELECT a{}", " OR (a AND b)".repeat(many)),
            format!("SELECT f(a{})", " || a".repeat(many)),
            vec!["SELECT 1"; QUERIES_MAX + 2].join(" UNION "),
            vec!["VALUES (1)"; 2 * QUERIES_MAX + 2].join(" UNION ALL "),
            format!("SELECT t.case{}", " OR t.case".repeat(many)),
            format!("SELECT 1{}", " XOR 1".repeat(many)),
            format!("SELECT {}1{}", "(1 + 1 + ".repeat(150), ")".repeat(150)),
            format!("SELECT {}1{}", "CASE WHEN a THEN 1 + 1 + ".repeat(150), " END".repeat(150)),
            format!("SELECT {}1{}", "(".repeat(150), " + 1 + 1)".repeat(150)),
            format!("SELECT a{}", " NOTNULL".repeat(many)),
            format!("SELECT a{}", "[1]".repeat(many)),
            format!("SELECT 1 FROM t{}", ", t".repeat(super::JOINS_MAX + 1)),
            format!("SELECT 1 FROM a{}", " JOIN b USING (c)".repeat(super::JOINS_MAX + 1)),
        ] {
            assert!(!passes(&sql), "{}", &sql[..50]);
        }
    }
}
