//! The Parse message of the extended protocol: a statement's parameter types and result columns.

use std::sync::Arc;

use async_trait::async_trait;
use pgwire::api::portal::Format;
use pgwire::api::results::FieldInfo;
use pgwire::api::stmt::QueryParser;
use pgwire::api::{ClientInfo, Type};
use pgwire::error::PgWireResult;
use pgwire::messages::response::TransactionStatus;

use super::connection::ConnectionCell;
use super::prepared::{PreparedStatement, parse};
use super::{encode, problem};

/// Prepares the statements of one connection.
pub(crate) struct Parser {
    /// Where the connection is found after its login.
    pub(crate) cell: ConnectionCell,
}

#[async_trait]
impl QueryParser for Parser {
    type Statement = Arc<PreparedStatement>;

    async fn parse_sql<C>(
        &self,
        client: &C,
        sql: &str,
        types: &[Option<Type>],
    ) -> PgWireResult<Option<Arc<PreparedStatement>>>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        let connection = self.cell.get().ok_or_else(|| problem::fatal("08P01", "the login is not complete"))?;
        let mut statements = parse(sql)?;
        let parsed = match (statements.pop(), statements.len()) {
            (None, _) => return Ok(None),
            (Some(only), 0) => only,
            _ => {
                let message = "cannot insert multiple commands into a prepared statement";
                return Err(problem::error("42601", message));
            }
        };
        if matches!(client.transaction_status(), TransactionStatus::Error)
            && !matches!(
                parsed.sql(),
                Some(sqlparser::ast::Statement::Commit { .. } | sqlparser::ast::Statement::Rollback { .. })
            )
        {
            let message = "current transaction is aborted, commands ignored until end of transaction block";
            return Err(problem::error(problem::ABORTED, message));
        }
        connection.start(&parsed.text);
        let prepared = PreparedStatement::new(parsed, connection, types).await;
        connection.finish();
        prepared.map(|prepared| Some(Arc::new(prepared)))
    }

    fn get_parameter_types(&self, prepared: &Arc<PreparedStatement>) -> PgWireResult<Vec<Type>> {
        Ok(prepared.parameters.clone())
    }

    fn get_result_schema(
        &self,
        prepared: &Arc<PreparedStatement>,
        format: Option<&Format>,
    ) -> PgWireResult<Vec<FieldInfo>> {
        if prepared.columns.fields().is_empty() {
            return Ok(Vec::new());
        }
        encode::fields(&prepared.columns, format.unwrap_or(&Format::UnifiedText))
    }
}
