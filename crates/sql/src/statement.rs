//! Parses SQL: PostgreSQL's dialect with time travel, and without statements that write.
//!
//! `FROM t FOR SYSTEM_TIME AS OF '...'`, `FROM t TIMESTAMP AS OF '...'` and `FROM t VERSION AS OF 3` are rewritten, as
//! tokens, to the form that is planned: `FROM "t@..." AS t`.

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
use crate::numbers::expand_exponents;
use crate::{complexity, frontend};
use series::asof;

const RECURSION_LIMIT: usize = 100;

/// Parses the statements of a text, in order, and rewrites them for planning.
///
/// # Errors
/// Where the text can't be parsed, exceeds a limit of [`complexity`], or has a statement that would write.
pub fn parse(sql: &str) -> Result<Vec<Statement>> {
    let statements = parse_any(sql)?;
    statements.iter().try_for_each(check_read_only)?;
    Ok(statements.into_iter().map(rewrite).collect())
}

/// Parses a condition on a row, as that of a query's WHERE clause.
///
/// # Errors
/// Where the text can't be parsed, or is more than a condition.
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
    Err(Error::new(Kind::FixInput, format!("read the condition {text:?}: it must be one condition")))
}

/// Rewrites a parsed statement to the form that is planned, by the passes of [`frontend`].
pub fn rewrite(statement: Statement) -> Statement {
    match statement {
        Statement::Statement(sql) => Statement::Statement(Box::new(frontend::rewrite(*sql))),
        Statement::Explain(mut explain) => {
            explain.statement = Box::new(rewrite(*explain.statement));
            Statement::Explain(explain)
        }
        other => other,
    }
}

/// Parses the statements of a text, in order, those that would write too. COPY is parsed by PostgreSQL's grammar, not
/// by DataFusion's. Before planning, a statement must pass [`check_read_only`] and [`rewrite`].
///
/// # Errors
/// Where the text can't be parsed, exceeds a limit of [`complexity`], or uses INTERSECT ALL or EXCEPT ALL.
pub fn parse_any(sql: &str) -> Result<Vec<Statement>> {
    const READ: &str = "read the query";
    let dialect = Grammar;
    let read = Tokenizer::new(&dialect, sql).tokenize_with_location();
    let read = read.map_err(|e| DataFusionError::from(ParserError::from(e)));
    let tokens = read.context(READ)?;
    complexity::check(&tokens)?;
    let mut tokens = time_travel(joined_strings(tokens))?;
    expand_exponents(&mut tokens);
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
    statements.iter_mut().for_each(rewrite_at_parse);
    Ok(statements)
}

/// Joins string literals with only spaces and a line break between them, which are one literal.
fn joined_strings(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut joined: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    for token in tokens {
        if let Token::SingleQuotedString(text) = &token.token {
            let spaces = joined.iter().rev().take_while(|token| matches!(token.token, Token::Whitespace(_))).count();
            let at = joined.len() - spaces;
            let has_line_break = joined[at..].iter().any(|token| {
                let Token::Whitespace(space) = &token.token else { return false };
                matches!(space, Whitespace::SingleLineComment { .. } | Whitespace::Newline)
            });
            let before = at.checked_sub(1).map(|at| &mut joined[at].token);
            if let (true, Some(Token::SingleQuotedString(first) | Token::EscapedStringLiteral(first))) =
                (has_line_break, before)
            {
                first.push_str(text);
                joined.truncate(at);
                continue;
            }
        }
        joined.push(token);
    }
    joined
}

/// Refuses INTERSECT ALL and EXCEPT ALL: DataFusion keeps all equal rows of the left side or none of them, while
/// PostgreSQL counts them against those of the right side.
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
            let hint = "number equal rows with row_number() OVER (PARTITION BY ...) and omit ALL";
            Err(Error::new(Kind::FixInput, format!("read the query: {what} is not supported; {hint}")))
        }
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// Runs the passes that belong to parsing.
fn rewrite_at_parse(statement: &mut Statement) {
    match statement {
        Statement::Statement(sql) => {
            frontend::PASSES[..frontend::PASSES_AT_PARSE].iter().for_each(|pass| (pass.apply)(sql))
        }
        Statement::Explain(explain) => rewrite_at_parse(&mut explain.statement),
        _ => {}
    }
}

/// Checks that a statement only reads. It is a list of what is allowed: any other statement is refused.
///
/// # Errors
/// Where the statement is not on the list.
pub fn check_read_only(statement: &Statement) -> Result<()> {
    use ast::Statement as Sql;
    let allowed = match statement {
        Statement::Explain(explain) => return check_read_only(&explain.statement),
        Statement::Reset(_) => true,
        Statement::Statement(sql) => match sql.as_ref() {
            Sql::Explain { statement, .. } => return check_read_only(&Statement::Statement(statement.clone())),
            Sql::Query(_) | Sql::ExplainTable { .. } | Sql::Set(_) => true,
            Sql::ShowVariable { .. } | Sql::ShowTables { .. } | Sql::ShowColumns { .. } => true,
            Sql::ShowFunctions { .. } | Sql::ShowCreate { .. } => true,
            _ => false,
        },
        Statement::CopyTo(_) | Statement::CreateExternalTable(_) => false,
    };
    if allowed { Ok(()) } else { Err(read_only_error(&first_words(&statement.to_string()))) }
}

/// The first two words of a statement, in upper case, by which messages name it.
pub fn first_words(sql: &str) -> String {
    sql.split_whitespace().take(2).collect::<Vec<_>>().join(" ").to_uppercase()
}

/// The error for a statement that is not allowed; `what` are its first words.
pub fn read_only_error(what: &str) -> Error {
    Error::new(Kind::FixInput, format!("run {what}: a SQL session is read-only (SELECT, EXPLAIN, SHOW, DESCRIBE, SET)"))
        .because(Refusal::ReadOnly { what: what.split(' ').next().unwrap_or(what).to_owned() })
}

/// Checks a plan: it must not write, and may change only settings that neither lift a session's limits nor change what
/// names mean.
///
/// # Errors
/// Where the plan writes, or sets a setting that is fixed.
pub fn check_plan(plan: &LogicalPlan) -> Result<()> {
    const OPEN: [&str; 4] =
        ["datafusion.explain.", "datafusion.optimizer.", "datafusion.format.", "datafusion.execution.time_zone"];
    let options = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false);
    options.verify_plan(plan).map_err(|_| read_only_error("a statement that writes"))?;
    let variable = match plan {
        LogicalPlan::Statement(Setting::SetVariable(set)) => &set.variable,
        LogicalPlan::Statement(Setting::ResetVariable(reset)) => &reset.variable,
        _ => return Ok(()),
    };
    if variable.starts_with("datafusion.") && !OPEN.iter().any(|prefix| variable.starts_with(prefix)) {
        return Err(Error::new(Kind::FixInput, format!("set {variable}: it can't be changed in a session")));
    }
    Ok(())
}

/// What an `AS OF` clause names.
#[derive(Clone, Copy, PartialEq)]
enum AsOfKind {
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

/// If an `AS OF` clause starts at `at`: its kind, and where its value is.
fn as_of(tokens: &[TokenWithSpan], at: usize) -> Option<(AsOfKind, usize)> {
    const FORMS: [(&[&str], AsOfKind); 5] = [
        (&["FOR", "SYSTEM_TIME", "AS", "OF"], AsOfKind::Instant),
        (&["FOR", "TIMESTAMP", "AS", "OF"], AsOfKind::Instant),
        (&["FOR", "VERSION", "AS", "OF"], AsOfKind::Version),
        (&["TIMESTAMP", "AS", "OF"], AsOfKind::Instant),
        (&["VERSION", "AS", "OF"], AsOfKind::Version),
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
        // Without FOR the words may be plain names (`SELECT version AS of FROM t`).
        let value = if words[0] == "FOR" || literal(tokens, value).is_some() { value } else { return None };
        Some((*by, value))
    })
}

/// The text of a string, a number or a typed string (`TIMESTAMP '...'`) at `at`, and where the next token is.
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

fn state_of(tokens: &[TokenWithSpan], at: usize, by: AsOfKind) -> Result<(String, usize)> {
    let place = tokens.get(at).or(tokens.last()).map_or_else(Location::empty, |t| t.span.start);
    let wrong = |what: &str| {
        let context = format!("read AS OF at line {}, column {}: {what}", place.line, place.column);
        Error::new(Kind::FixInput, context)
    };
    let (text, next) =
        literal(tokens, at).ok_or_else(|| wrong("an instant in quotes or a version number must follow"))?;
    let state = match by {
        AsOfKind::Version => format!("v{}", text.trim()),
        AsOfKind::Instant => text.clone(),
    };
    match crate::instant::parse_as_of(&state) {
        Some(_) => Ok((state, next)),
        None => Err(wrong(&format!("'{text}' is neither an instant nor a version number"))),
    }
}

/// Replaces `name` by `"name@state" AS "name"`, so that the rest of the query can still use the name.
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
