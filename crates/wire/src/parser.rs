//! A statement taken apart for the extended protocol: its parameters' types and its columns.

use std::sync::Arc;

use async_trait::async_trait;
use pgwire::api::portal::Format;
use pgwire::api::results::FieldInfo;
use pgwire::api::stmt::QueryParser;
use pgwire::api::{ClientInfo, Type};
use pgwire::error::PgWireResult;
use pgwire::messages::response::TransactionStatus;

use super::prepared::{Prepared, read};
use super::queries::Slot;
use super::{encode, problem};

pub(crate) struct Parser {
    pub(crate) slot: Slot,
}

#[async_trait]
impl QueryParser for Parser {
    type Statement = Arc<Prepared>;

    async fn parse_sql<C>(&self, client: &C, sql: &str, types: &[Option<Type>]) -> PgWireResult<Option<Arc<Prepared>>>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        let connection = self.slot.get().ok_or_else(|| problem::fatal("08P01", "the login is not complete"))?;
        let mut statements = read(sql)?;
        let spoken = match (statements.pop(), statements.len()) {
            (None, _) => return Ok(None),
            (Some(only), 0) => only,
            _ => {
                let message = "cannot insert multiple commands into a prepared statement";
                return Err(problem::error("42601", message));
            }
        };
        if matches!(client.transaction_status(), TransactionStatus::Error)
            && !matches!(
                spoken.sql(),
                Some(sqlparser::ast::Statement::Commit { .. } | sqlparser::ast::Statement::Rollback { .. })
            )
        {
            let message = "current transaction is aborted, commands ignored until end of transaction block";
            return Err(problem::error(problem::ABORTED, message));
        }
        connection.start(&spoken.text);
        let prepared = Prepared::new(spoken, connection, types).await;
        connection.finish();
        prepared.map(|prepared| Some(Arc::new(prepared)))
    }

    fn get_parameter_types(&self, prepared: &Arc<Prepared>) -> PgWireResult<Vec<Type>> {
        Ok(prepared.parameters.clone())
    }

    fn get_result_schema(&self, prepared: &Arc<Prepared>, format: Option<&Format>) -> PgWireResult<Vec<FieldInfo>> {
        if prepared.columns.fields().is_empty() {
            return Ok(Vec::new());
        }
        encode::fields(&prepared.columns, format.unwrap_or(&Format::UnifiedText))
    }
}
