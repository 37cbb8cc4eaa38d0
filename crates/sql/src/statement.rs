//! From text to statements: PostgreSQL's dialect, with time travel, without anything that writes.
//!
//! `FROM t FOR SYSTEM_TIME AS OF '...'`, `FROM t TIMESTAMP AS OF '...'` and `FROM t VERSION AS OF 3`
//! are rewritten, token by token, to the one form that sessions know: `FROM "t@..." AS t`.

use std::ops::ControlFlow;

use datafusion::error::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::{LogicalPlan, Statement as Setting};
use datafusion::sql::parser::{DFParserBuilder, Statement};
use sqlparser::ast::{self, SetExpr, SetOperator, SetQuantifier, Visit, Visitor};
use sqlparser::keywords::{Keyword, RESERVED_FOR_TABLE_ALIAS};
use sqlparser::parser::ParserError;
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer, Whitespace, Word};

use crate::error::{Context, Error, Kind, Refusal, Result};
use crate::grammar::Grammar;
use crate::numbers::written_out;
use crate::{complexity, frontend};
use series::asof;

const RECURSION_LIMIT: usize = 100;

/// The statements of a text, in order; an error where one of them would write.
pub fn parse(sql: &str) -> Result<Vec<Statement>> {
    let statements = read(sql)?;
    statements.iter().try_for_each(reads)?;
    Ok(statements.into_iter().map(prepared).collect())
}

/// A condition on a row, read as the WHERE of a query is.
pub(crate) fn condition(text: &str) -> Result<ast::Expr> {
    let statements = parse(&format!("SELECT 1 WHERE {text}"))?;
    if let [Statement::Statement(only)] = statements.as_slice()
        && let ast::Statement::Query(query) = only.as_ref()
        && let (None, None, None) = (&query.order_by, &query.limit_clause, &query.with)
        && let ast::SetExpr::Select(select) = query.body.as_ref()
        && let Some(condition) = &select.selection
        && select.having.is_none()
        && matches!(&select.group_by, ast::GroupByExpr::Expressions(by, _) if by.is_empty())
    {
        return Ok(condition.clone());
    }
    Err(Error::new(Kind::FixInput, format!("read the condition {text:?}: it is more than one")))
}

/// The statement as it is planned.
pub fn prepared(statement: Statement) -> Statement {
    match statement {
        Statement::Statement(sql) => Statement::Statement(Box::new(frontend::prepared(*sql))),
        Statement::Explain(mut explain) => {
            explain.statement = Box::new(prepared(*explain.statement));
            Statement::Explain(explain)
        }
        other => other,
    }
}

/// The statements of a text, whatever they would do. COPY is PostgreSQL's, not DataFusion's.
pub fn read(sql: &str) -> Result<Vec<Statement>> {
    const READ: &str = "read the query";
    let dialect = Grammar;
    let read = Tokenizer::new(&dialect, sql).tokenize_with_location();
    let read = read.map_err(|e| DataFusionError::from(ParserError::from(e)));
    let tokens = read.context(READ)?;
    complexity::check(&tokens)?;
    let mut tokens = time_travel(tokens)?;
    written_out(&mut tokens);
    asof::mark_tokens(&mut tokens);
    let builder = DFParserBuilder::new(tokens).with_dialect(&dialect).with_recursion_limit(RECURSION_LIMIT);
    let mut parser = builder.build().context(READ)?;
    let mut statements = Vec::new();
    loop {
        let mut separated = statements.is_empty();
        while parser.parser.consume_token(&Token::SemiColon) {
            separated = true;
        }
        let next = parser.parser.peek_token();
        match next.token {
            Token::EOF => break,
            _ if !separated => {
                let found = format!("Expected: end of statement, found: {}{}", next.token, next.span.start);
                return Err(DataFusionError::from(ParserError::ParserError(found))).context(READ);
            }
            Token::Word(word) if word.keyword == Keyword::COPY => {
                let copy = parser.parser.parse_statement().map_err(DataFusionError::from);
                statements.push(Statement::Statement(Box::new(copy.context(READ)?)));
            }
            _ => statements.push(parser.parse_statement().context(READ)?),
        }
    }
    statements.iter().try_for_each(check_sets)?;
    statements.iter_mut().for_each(rewritten);
    Ok(statements)
}

/// The engine keeps every row of the left side, or none, where these take each row of the right side once.
fn check_sets(statement: &Statement) -> Result<()> {
    struct SetOperations;
    impl Visitor for SetOperations {
        type Break = &'static str;

        fn pre_visit_query(&mut self, query: &ast::Query) -> ControlFlow<&'static str> {
            let mut open = vec![query.body.as_ref()];
            while let Some(body) = open.pop() {
                let SetExpr::SetOperation { op, set_quantifier, left, right } = body else { continue };
                match (op, set_quantifier) {
                    (SetOperator::Intersect, SetQuantifier::All) => return ControlFlow::Break("INTERSECT ALL"),
                    (SetOperator::Except, SetQuantifier::All) => return ControlFlow::Break("EXCEPT ALL"),
                    _ => open.extend([left.as_ref(), right.as_ref()]),
                }
            }
            ControlFlow::Continue(())
        }
    }
    let Statement::Statement(sql) = statement else { return Ok(()) };
    match sql.visit(&mut SetOperations) {
        ControlFlow::Break(what) => {
            let hint = "number equal rows by row_number() OVER (PARTITION BY ...) and leave ALL out";
            Err(Error::new(Kind::FixInput, format!("read the query: {what} is not supported; {hint}")))
        }
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// The passes that run as a statement is read.
fn rewritten(statement: &mut Statement) {
    match statement {
        Statement::Statement(sql) => frontend::PASSES[..frontend::READING].iter().for_each(|pass| (pass.apply)(sql)),
        Statement::Explain(explain) => rewritten(&mut explain.statement),
        _ => {}
    }
}

/// What a session refuses, it refuses by what it allows.
pub fn reads(statement: &Statement) -> Result<()> {
    use ast::Statement as Sql;
    let allowed = match statement {
        Statement::Explain(explain) => return reads(&explain.statement),
        Statement::Reset(_) => true,
        Statement::Statement(sql) => match sql.as_ref() {
            Sql::Explain { statement, .. } => return reads(&Statement::Statement(statement.clone())),
            Sql::Query(_) | Sql::ExplainTable { .. } | Sql::Set(_) => true,
            Sql::ShowVariable { .. } | Sql::ShowTables { .. } | Sql::ShowColumns { .. } => true,
            Sql::ShowFunctions { .. } | Sql::ShowCreate { .. } => true,
            _ => false,
        },
        Statement::CopyTo(_) | Statement::CreateExternalTable(_) => false,
    };
    if allowed { Ok(()) } else { Err(read_only(&first_words(&statement.to_string()))) }
}

pub fn first_words(sql: &str) -> String {
    sql.split_whitespace().take(2).collect::<Vec<_>>().join(" ").to_uppercase()
}

pub fn read_only(what: &str) -> Error {
    Error::new(
        Kind::FixInput,
        format!("run {what}: a SQL session only reads the lake (SELECT, EXPLAIN, SHOW, DESCRIBE, SET)"),
    )
    .because(Refusal::ReadOnly { what: what.split(' ').next().unwrap_or(what).to_owned() })
}

/// The last word on a plan: no statement that writes hides in it, and no setting by which a query
/// could leave its bounds of memory or change what names mean.
pub fn check(plan: &LogicalPlan) -> Result<()> {
    const OPEN: [&str; 4] =
        ["datafusion.explain.", "datafusion.optimizer.", "datafusion.format.", "datafusion.execution.time_zone"];
    let options = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false);
    options.verify_plan(plan).map_err(|_| read_only("a statement that writes"))?;
    let variable = match plan {
        LogicalPlan::Statement(Setting::SetVariable(set)) => &set.variable,
        LogicalPlan::Statement(Setting::ResetVariable(reset)) => &reset.variable,
        _ => return Ok(()),
    };
    if variable.starts_with("datafusion.") && !OPEN.iter().any(|prefix| variable.starts_with(prefix)) {
        return Err(Error::new(Kind::FixInput, format!("set {variable}: fixed for the session")));
    }
    Ok(())
}

/// Which kind of state an `AS OF` names.
#[derive(Clone, Copy, PartialEq)]
enum By {
    Instant,
    Version,
}

fn time_travel(tokens: Vec<TokenWithSpan>) -> Result<Vec<TokenWithSpan>> {
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let named = out.iter().rposition(|t| !is_space(&t.token));
        match (named, as_of(&tokens, at)) {
            (Some(named), Some((by, value_at))) if is_name(&out[named].token) => {
                let (state, next) = state_of(&tokens, value_at, by)?;
                put_state(&mut out, named, &state, !followed_by_alias(&tokens, next));
                at = next;
            }
            _ => {
                out.push(token.clone());
                at += 1;
            }
        }
    }
    Ok(out)
}

/// Whether an `AS OF` clause starts here, and where its value is.
fn as_of(tokens: &[TokenWithSpan], at: usize) -> Option<(By, usize)> {
    const FORMS: [(&[&str], By); 5] = [
        (&["FOR", "SYSTEM_TIME", "AS", "OF"], By::Instant),
        (&["FOR", "TIMESTAMP", "AS", "OF"], By::Instant),
        (&["FOR", "VERSION", "AS", "OF"], By::Version),
        (&["TIMESTAMP", "AS", "OF"], By::Instant),
        (&["VERSION", "AS", "OF"], By::Version),
    ];
    if is_space(&tokens[at].token) {
        return None;
    }
    FORMS.iter().find_map(|(words, by)| {
        let mut next = at;
        for word in *words {
            next = skip_space(tokens, next);
            match &tokens.get(next)?.token {
                Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word) => next += 1,
                _ => return None,
            }
        }
        let value = skip_space(tokens, next);
        // Without FOR the words may be ordinary names (`SELECT version AS of FROM t`).
        let value = if words[0] == "FOR" || literal(tokens, value).is_some() { value } else { return None };
        Some((*by, value))
    })
}

/// The text of a string or number, or of a typed one (`TIMESTAMP '...'`), and what comes after it.
fn literal(tokens: &[TokenWithSpan], at: usize) -> Option<(String, usize)> {
    match &tokens.get(at)?.token {
        Token::SingleQuotedString(text) => Some((text.clone(), at + 1)),
        Token::Number(digits, _) => Some((digits.clone(), at + 1)),
        Token::Word(w) if matches!(w.keyword, Keyword::TIMESTAMP | Keyword::TIMESTAMPTZ | Keyword::DATE) => {
            let value = skip_space(tokens, at + 1);
            match &tokens.get(value)?.token {
                Token::SingleQuotedString(text) => Some((text.clone(), value + 1)),
                _ => None,
            }
        }
        _ => None,
    }
}

fn state_of(tokens: &[TokenWithSpan], at: usize, by: By) -> Result<(String, usize)> {
    let place = tokens.get(at).or(tokens.last()).map_or_else(Location::empty, |t| t.span.start);
    let wrong = |what: &str| {
        let context = format!("read AS OF at line {}, column {}: {what}", place.line, place.column);
        Error::new(Kind::FixInput, context)
    };
    let (text, next) =
        literal(tokens, at).ok_or_else(|| wrong("it takes an instant in quotes or a version's number"))?;
    let state = match by {
        By::Version => format!("v{}", text.trim()),
        By::Instant => text.clone(),
    };
    match crate::instant::state(&state) {
        Some(_) => Ok((state, next)),
        None => Err(wrong(&format!("'{text}' is neither an instant nor a version's number"))),
    }
}

/// `name` becomes `"name@state" AS "name"`: the name stays what the rest of the query calls it.
fn put_state(out: &mut Vec<TokenWithSpan>, named: usize, state: &str, alias: bool) {
    let span = out[named].span;
    let Token::Word(word) = &out[named].token else { return };
    let name = if word.quote_style.is_some() { word.value.clone() } else { word.value.to_lowercase() };
    out.truncate(named);
    let mut push = |token| out.push(TokenWithSpan { token, span });
    push(quoted(format!("{name}@{state}")));
    if alias {
        push(Token::Whitespace(Whitespace::Space));
        push(Token::make_keyword("AS"));
        push(Token::Whitespace(Whitespace::Space));
        push(quoted(name));
    }
}

fn quoted(value: String) -> Token {
    Token::Word(Word { value, quote_style: Some('"'), keyword: Keyword::NoKeyword })
}

fn followed_by_alias(tokens: &[TokenWithSpan], at: usize) -> bool {
    match tokens.get(skip_space(tokens, at)).map(|t| &t.token) {
        Some(Token::Word(w)) => {
            w.quote_style.is_some() || w.keyword == Keyword::AS || !RESERVED_FOR_TABLE_ALIAS.contains(&w.keyword)
        }
        _ => false,
    }
}

fn is_name(token: &Token) -> bool {
    matches!(token, Token::Word(w) if w.quote_style.is_some() || w.keyword != Keyword::SELECT)
}

fn is_space(token: &Token) -> bool {
    matches!(token, Token::Whitespace(_))
}

fn skip_space(tokens: &[TokenWithSpan], mut at: usize) -> usize {
    while tokens.get(at).is_some_and(|t| is_space(&t.token)) {
        at += 1;
    }
    at
}
