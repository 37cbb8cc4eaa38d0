//! Tables of PostgreSQL's catalogue that are always empty here.

use std::sync::Arc;

use datafusion::catalog::TableProvider;

use super::pg::{memory_table, schema_of};
use sql::error::Result;

/// Tables of `pg_catalog`: name, and columns as [`schema_of`] reads them.
pub(crate) const PG: [(&str, &str); 21] = [
    ("pg_group", "groname:t grosysid:o grolist:t"),
    ("pg_indexes", "schemaname:t tablename:t indexname:t tablespace:t indexdef:t"),
    ("pg_sequences", "schemaname:t sequencename:t sequenceowner:t data_type:t start_value:l last_value:l"),
    ("pg_policies", "schemaname:t tablename:t policyname:t permissive:t roles:t cmd:t qual:t with_check:t"),
    ("pg_rules", "schemaname:t tablename:t rulename:t definition:t"),
    ("pg_prepared_statements", "name:t statement:t prepare_time:z parameter_types:t from_sql:b"),
    ("pg_cursors", "name:t statement:t is_holdable:b is_binary:b is_scrollable:b creation_time:z"),
    ("pg_stats", "schemaname:t tablename:t attname:t inherited:b null_frac:f avg_width:i n_distinct:f"),
    ("pg_transform", "oid:o trftype:o trflang:o trffromsql:o trftosql:o"),
    ("pg_parameter_acl", "oid:o parname:t paracl:t"),
    ("pg_ts_config_map", "mapcfg:o maptokentype:i mapseqno:i mapdict:o"),
    ("pg_locks", "locktype:t database:o relation:o page:i pid:i mode:t granted:b waitstart:z"),
    ("pg_stat_database", "datid:o datname:t numbackends:i xact_commit:l xact_rollback:l blks_read:l blks_hit:l"),
    ("pg_stat_all_tables", "relid:o schemaname:t relname:t seq_scan:l n_live_tup:l last_analyze:z"),
    ("pg_stat_user_indexes", "relid:o indexrelid:o schemaname:t relname:t indexrelname:t idx_scan:l"),
    ("pg_statio_user_tables", "relid:o schemaname:t relname:t heap_blks_read:l heap_blks_hit:l"),
    ("pg_available_extensions", "name:t default_version:t installed_version:t comment:t"),
    ("pg_timezone_names", "name:t abbrev:t utc_offset:t is_dst:b"),
    ("pg_timezone_abbrevs", "abbrev:t utc_offset:t is_dst:b"),
    ("pg_stat_replication", "pid:i usename:t application_name:t state:t sent_lsn:t replay_lsn:t"),
    ("pg_stat_ssl", "pid:i ssl:b version:t cipher:t bits:i"),
];

const INFORMATION: [(&str, &str); 15] = [
    (
        "table_constraints",
        "constraint_catalog:t constraint_schema:t constraint_name:t table_catalog:t table_schema:t table_name:t \
         constraint_type:t is_deferrable:t initially_deferred:t enforced:t",
    ),
    (
        "key_column_usage",
        "constraint_catalog:t constraint_schema:t constraint_name:t table_catalog:t table_schema:t table_name:t \
         column_name:t ordinal_position:i position_in_unique_constraint:i",
    ),
    (
        "referential_constraints",
        "constraint_catalog:t constraint_schema:t constraint_name:t unique_constraint_catalog:t \
         unique_constraint_schema:t unique_constraint_name:t match_option:t update_rule:t delete_rule:t",
    ),
    (
        "constraint_column_usage",
        "table_catalog:t table_schema:t table_name:t column_name:t constraint_catalog:t constraint_schema:t \
         constraint_name:t",
    ),
    ("check_constraints", "constraint_catalog:t constraint_schema:t constraint_name:t check_clause:t"),
    (
        "role_table_grants",
        "grantor:t grantee:t table_catalog:t table_schema:t table_name:t privilege_type:t is_grantable:t \
         with_hierarchy:t",
    ),
    (
        "column_privileges",
        "grantor:t grantee:t table_catalog:t table_schema:t table_name:t column_name:t privilege_type:t is_grantable:t",
    ),
    ("sequences", "sequence_catalog:t sequence_schema:t sequence_name:t data_type:t start_value:t increment:t"),
    (
        "triggers",
        "trigger_catalog:t trigger_schema:t trigger_name:t event_manipulation:t event_object_schema:t \
         event_object_table:t action_statement:t action_timing:t",
    ),
    (
        "routines",
        "specific_catalog:t specific_schema:t specific_name:t routine_catalog:t routine_schema:t routine_name:t \
         routine_type:t data_type:t routine_definition:t external_language:t",
    ),
    (
        "parameters",
        "specific_catalog:t specific_schema:t specific_name:t ordinal_position:i parameter_name:t data_type:t",
    ),
    (
        "element_types",
        "object_catalog:t object_schema:t object_name:t object_type:t collection_type_identifier:t data_type:t",
    ),
    ("domains", "domain_catalog:t domain_schema:t domain_name:t data_type:t"),
    ("applicable_roles", "grantee:t role_name:t is_grantable:t"),
    ("character_sets", "character_set_catalog:t character_set_schema:t character_set_name:t character_repertoire:t"),
];

/// An empty table of `pg_catalog`; `None` if the name is not one of [`PG`].
pub(crate) fn pg(name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
    empty_table(&PG, name)
}

/// An empty table of `information_schema`; `None` if it is none of these.
pub(crate) fn information(name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
    empty_table(&INFORMATION, name)
}

fn empty_table(tables: &[(&str, &str)], name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
    let known = tables.iter().find(|(known, _)| *known == name);
    known.map(|(_, columns)| memory_table(schema_of(columns), &[])).transpose()
}
