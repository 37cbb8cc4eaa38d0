//! A statement as a client gave it: read, planned far enough to say its columns and parameters,
//! and, when its parameters have values, ready to run.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock, Mutex};

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::logical_expr::expr::{InList, Placeholder};
use datafusion::logical_expr::{Expr, LogicalPlan, Operator};
use datafusion::sql::parser::Statement;
use datafusion_pg_catalog::sql::PostgresCompatibilityParser;
use pgwire::api::Type;
use pgwire::api::portal::{Format, Portal};
use pgwire::error::PgWireResult;
use sqlparser::ast;
use tokio_util::task::AbortOnDropHandle;

use super::connection::Connection;
use super::copy::Copy;
use super::problem::{self, NOT_SUPPORTED};
use super::{catalogue, encode, kinds, locked, parameters};
use sql::complexity::nesting;
use sql::session::{Planned, columns_of};
use sql::{frontend, statement};

/// Parentheses in one another that questions about the catalogue may have to be known by their words.
const CATALOGUE_NESTING_MAX: usize = 12;

static CATALOGUE_QUERIES: LazyLock<PostgresCompatibilityParser> = LazyLock::new(PostgresCompatibilityParser::new);

/// One statement of a text.
#[derive(Debug, Clone)]
pub(crate) struct Spoken {
    pub(crate) text: String,
    pub(crate) statement: Statement,
    /// Parameters that stand for arrays: `$1`.
    arrays: BTreeSet<String>,
    /// Parameters that are cast to `oid`, which is a number here and a type of its own to clients.
    oids: BTreeSet<String>,
}

#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) spoken: Spoken,
    /// Empty where there are no rows to come.
    pub(crate) columns: SchemaRef,
    pub(crate) parameters: Vec<Type>,
    /// The query that a cursor is declared for, which has the statement's parameters.
    declared: Option<Box<Prepared>>,
    /// Good until the client's next Sync, or as long as the block is open.
    planned: Mutex<Option<(u64, Planned)>>,
}

/// The statements of a text, in order.
pub(crate) fn read(sql: &str) -> PgWireResult<Vec<Spoken>> {
    let statements = match statement::read(sql) {
        Ok(statements) => statements,
        Err(error) => {
            // What PostgreSQL has and the parser does not know.
            if let Some(longer) = spelt_out(sql) {
                return read(&longer);
            }
            return Err(problem::of(&error, Some(sql)));
        }
    };
    let only = statements.len() == 1;
    statements.into_iter().map(|statement| spoken(statement, only.then_some(sql))).collect()
}

/// `ABORT`, `FETCH cursor`, `FETCH FROM cursor`.
fn spelt_out(sql: &str) -> Option<String> {
    let words: Vec<&str> = sql.trim().trim_end_matches(';').split_whitespace().collect();
    let is = |word: &str, known: &str| word.eq_ignore_ascii_case(known);
    match words[..] {
        [abort] if is(abort, "abort") => Some("ROLLBACK".to_owned()),
        [fetch, name] if is(fetch, "fetch") => Some(format!("FETCH NEXT FROM {name}")),
        [fetch, from, name] if is(fetch, "fetch") && (is(from, "from") || is(from, "in")) => {
            Some(format!("FETCH NEXT FROM {name}"))
        }
        _ => None,
    }
}

fn spoken(read: Statement, whole: Option<&str>) -> PgWireResult<Spoken> {
    let text = whole.map_or_else(|| read.to_string(), |sql| sql.trim().trim_end_matches(';').to_owned());
    let Statement::Statement(sql) = read else {
        return Ok(Spoken {
            text,
            statement: statement::prepared(read),
            arrays: BTreeSet::new(),
            oids: BTreeSet::new(),
        });
    };
    let mut sql = *sql;
    let oids = catalogue::cast_to_oid(&sql);
    let (mut arrays, mut words) = (BTreeSet::new(), text.clone());
    // The catalogue's library takes quotes of elements for the elements'.
    if text.contains("'{\"") {
        arrays = frontend::any_of_values(&mut sql);
        words = sql.to_string();
    }
    if catalogue::is_asked(&sql) {
        sql = of_catalogue(sql, &words)?;
    }
    arrays.extend(frontend::any_of_values(&mut sql));
    let statement = Statement::Statement(Box::new(frontend::prepared(sql)));
    Ok(Spoken { text, statement, arrays, oids })
}

fn of_catalogue(mut sql: ast::Statement, text: &str) -> PgWireResult<ast::Statement> {
    if let Some(short) = catalogue::in_short(&sql) {
        return Ok(catalogue::rewritten(short));
    }
    if let Some(nothing) = catalogue::answered(&sql) {
        return Ok(nothing);
    }
    let failed = |error| problem::error("42601", format!("syntax error: {error}"));
    // The library's parser reads nested calls in exponential time; what is nested so is no tool's question.
    if catalogue::procedures(&mut sql) || nesting(text) > CATALOGUE_NESTING_MAX {
        sql = CATALOGUE_QUERIES.rewrite(sql);
    } else if let [again] = CATALOGUE_QUERIES.parse(text).map_err(failed)?.as_mut_slice() {
        // Some of these are known by their words as they came.
        sql = again.clone();
    }
    Ok(catalogue::rewritten(sql))
}

impl Spoken {
    pub(crate) fn sql(&self) -> Option<&ast::Statement> {
        match &self.statement {
            Statement::Statement(sql) => Some(sql),
            _ => None,
        }
    }

    /// Planned in threads of their own, so that nobody else waits for it.
    pub(crate) async fn plan(&self, connection: &Arc<Connection>) -> PgWireResult<Planned> {
        statement::reads(&self.statement).map_err(|error| problem::of(&error, Some(&self.text)))?;
        let (view, statement, owned) = (connection.view(), self.statement.clone(), Arc::clone(connection));
        let planning = connection.shared.planning().spawn(async move { owned.session.plan(statement, &view).await });
        let planned = connection.unless_cancelled(async {
            AbortOnDropHandle::new(planning).await.map_err(|_| problem::broken_off("planning"))
        });
        planned.await?.map_err(|error| problem::of(&error, Some(&self.text)))
    }
}

impl Prepared {
    /// `given` are the types that the client says its parameters have.
    pub(crate) async fn new(
        spoken: Spoken,
        connection: &Arc<Connection>,
        given: &[Option<Type>],
    ) -> PgWireResult<Self> {
        let nothing = || Arc::new(Schema::empty());
        let text = |name: &str| Arc::new(Schema::new(vec![Field::new(name, DataType::Utf8, false)]));
        let columns = match (&spoken.statement, spoken.sql()) {
            (_, Some(ast::Statement::ShowVariable { variable })) => text(&super::acts::shown_name(variable)),
            (_, Some(ast::Statement::Fetch { name, .. })) => super::acts::cursor_columns(connection, &name.value)?,
            (_, Some(ast::Statement::Declare { stmts })) => {
                let declared = match super::acts::declared(stmts)? {
                    Some(query) => Some(Box::new(Prepared::query(query, connection, given).await?)),
                    None => None,
                };
                let parameters = declared.as_ref().map(|declared| declared.parameters.clone()).unwrap_or_default();
                return Ok(Prepared { spoken, columns: nothing(), parameters, declared, planned: Mutex::default() });
            }
            (_, Some(sql)) if super::acts::is_act(sql) || Copy::of(sql).is_some() => nothing(),
            (Statement::Reset(_), _) => nothing(),
            _ => return Prepared::query(spoken, connection, given).await,
        };
        Ok(Prepared { spoken, columns, parameters: Vec::new(), declared: None, planned: Mutex::default() })
    }

    pub(crate) fn declared(&self) -> Option<&Prepared> {
        self.declared.as_deref()
    }

    async fn query(spoken: Spoken, connection: &Arc<Connection>, given: &[Option<Type>]) -> PgWireResult<Self> {
        let planned = spoken.plan(connection).await?;
        let parameters = types_of_parameters(&planned.plan, &spoken, given)?;
        let columns = described(&planned, &parameters, &spoken.arrays);
        let batch = connection.batch.load(Ordering::Relaxed);
        Ok(Prepared { spoken, columns, parameters, declared: None, planned: Mutex::new(Some((batch, planned))) })
    }

    /// The query with its parameters' values, over what is to be seen now.
    pub(crate) async fn bound<S: Clone>(
        &self,
        connection: &Arc<Connection>,
        portal: &Portal<S>,
    ) -> PgWireResult<Planned> {
        let fresh = locked(&self.planned)
            .clone()
            .filter(|(batch, _)| connection.in_block() || *batch == connection.batch.load(Ordering::Relaxed));
        let Planned { plan, state, .. } = match fresh {
            Some((_, planned)) => planned,
            None => self.spoken.plan(connection).await?,
        };
        if portal.parameter_len() != self.parameters.len() {
            let message = format!(
                "bind message supplies {} parameters, but prepared statement requires {}",
                portal.parameter_len(),
                self.parameters.len()
            );
            return Err(problem::error("08P01", message));
        }
        let values = self.values(portal, &connection.zone())?;
        let plan = with_values(plan, values, &self.spoken.arrays)?;
        let columns = columns_of(&plan, &state).map_err(problem::of_run)?;
        if types_of(&columns)? != types_of(&self.columns)? {
            return Err(problem::error(NOT_SUPPORTED, "cached plan must not change result type"));
        }
        Ok(Planned { plan, columns, state })
    }

    fn values<S: Clone>(&self, portal: &Portal<S>, zone: &str) -> PgWireResult<Vec<ScalarValue>> {
        let given = &portal.statement.parameter_types;
        let mut values = Vec::with_capacity(self.parameters.len());
        for (at, parameter) in self.parameters.iter().enumerate() {
            let pg_type = given.get(at).cloned().flatten().unwrap_or_else(|| parameter.clone());
            let binary = portal.parameter_format.is_binary(at);
            values.push(parameters::value(portal.parameters[at].as_deref(), &pg_type, binary, zone)?);
        }
        Ok(values)
    }
}

fn number_of(id: &str) -> Option<usize> {
    id.strip_prefix('$')?.parse().ok().filter(|number| *number > 0)
}

fn types_of(columns: &Schema) -> PgWireResult<Vec<Type>> {
    let fields = encode::fields(columns, &Format::UnifiedText)?;
    Ok(fields.iter().map(|field| field.datatype().clone()).collect())
}

/// By what the client says, else by what stands beside it, else a text, as in PostgreSQL.
fn types_of_parameters(plan: &LogicalPlan, spoken: &Spoken, given: &[Option<Type>]) -> PgWireResult<Vec<Type>> {
    let arrays = &spoken.arrays;
    let known = plan.get_parameter_types().map_err(problem::of_run)?;
    let count = known.keys().filter_map(|id| number_of(id)).max().unwrap_or(0);
    let mut types = Vec::with_capacity(count);
    for number in 1..=count {
        let id = format!("${number}");
        let told = given.get(number - 1).cloned().flatten().filter(|pg_type| *pg_type != Type::UNKNOWN);
        let inferred = known.get(&id).cloned().flatten().or_else(|| cast_of(plan, &id));
        let inferred = inferred.map(|data_type| match data_type {
            DataType::Int32 if spoken.oids.contains(&id) => Type::OID,
            other => kinds::of(&other),
        });
        let own = if arrays.contains(&id) { inferred.map(|element| kinds::array_of(&element)) } else { inferred };
        let unknown = if arrays.contains(&id) { Type::TEXT_ARRAY } else { Type::TEXT };
        types.push(told.or(own).filter(|pg_type| *pg_type != Type::UNKNOWN).unwrap_or(unknown));
    }
    Ok(types)
}

/// The type that the query itself gives a parameter: `$1::date`, `LIMIT $1`.
fn cast_of(plan: &LogicalPlan, id: &str) -> Option<DataType> {
    let mut found = None;
    let is_it = |expr: &Expr| matches!(expr, Expr::Placeholder(inner) if inner.id == id);
    let _ = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Limit(limit) = node
            && [&limit.skip, &limit.fetch]
                .into_iter()
                .flatten()
                .any(|expr| expr.exists(|e| Ok(is_it(e))).unwrap_or(false))
        {
            found = Some(DataType::Int64);
        }
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::Cast(cast) = expr
                    && is_it(&cast.expr)
                {
                    found = Some(cast.field.data_type().clone());
                }
                Ok(datafusion::common::tree_node::TreeNodeRecursion::Continue)
            })
        })
    });
    found
}

/// The columns as they will be when the parameters have values.
fn described(planned: &Planned, given: &[Type], arrays: &BTreeSet<String>) -> SchemaRef {
    let plan = &planned.plan;
    let nulls = given.iter().enumerate().map(|(at, pg_type)| match arrays.contains(&format!("${}", at + 1)) {
        true => Ok(ScalarValue::Null),
        false => parameters::value(None, pg_type, false, "UTC"),
    });
    let with_nulls = nulls.collect::<PgWireResult<Vec<_>>>().and_then(|nulls| with_values(plan.clone(), nulls, arrays));
    let plan = with_nulls.as_ref().unwrap_or(plan);
    columns_of(plan, &planned.state).unwrap_or_else(|_| Arc::clone(plan.schema().inner()))
}

fn with_values(plan: LogicalPlan, values: Vec<ScalarValue>, arrays: &BTreeSet<String>) -> PgWireResult<LogicalPlan> {
    if values.is_empty() {
        return Ok(plan);
    }
    let mut plan = plan;
    for id in arrays {
        let Some(array) = number_of(id).and_then(|number| values.get(number - 1)) else { continue };
        let elements = parameters::elements(array)?;
        let listed = plan.transform_up_with_subqueries(|node| {
            node.map_expressions(|expr| expr.transform_up(|expr| Ok(in_list(expr, id, elements.as_deref()))))
        });
        plan = listed.map_err(problem::of_run)?.data;
    }
    plan.replace_params_with_values(&ParamValues::from(values)).map_err(problem::of_run)
}

fn in_list(expr: Expr, id: &str, elements: Option<&[ScalarValue]>) -> Transformed<Expr> {
    let Expr::BinaryExpr(binary) = &expr else { return Transformed::no(expr) };
    let cast = match binary.right.as_ref() {
        Expr::Placeholder(Placeholder { id: name, .. }) if name == id => None,
        Expr::Cast(cast) => match cast.expr.as_ref() {
            Expr::Placeholder(Placeholder { id: name, .. }) if name == id => Some(cast.clone()),
            _ => return Transformed::no(expr),
        },
        _ => return Transformed::no(expr),
    };
    let negated = match binary.op {
        Operator::Eq => false,
        Operator::NotEq => true,
        _ => return Transformed::no(expr),
    };
    let boolean = |value| Expr::Literal(ScalarValue::Boolean(value), None);
    Transformed::yes(match elements {
        None => boolean(None),
        Some([]) => boolean(Some(negated)),
        Some(elements) => {
            let list = elements.iter().map(|value| {
                let literal = Expr::Literal(value.clone(), None);
                match &cast {
                    Some(cast) => {
                        let mut cast = cast.clone();
                        cast.expr = Box::new(literal);
                        Expr::Cast(cast)
                    }
                    None => literal,
                }
            });
            Expr::InList(InList { expr: binary.left.clone(), list: list.collect(), negated })
        }
    })
}
