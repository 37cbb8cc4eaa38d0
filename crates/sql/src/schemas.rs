//! The name of the catalog, and of the schemas that have a meaning of their own in every lake.

/// The name of the only catalog, or database in PostgreSQL's terms.
pub const CATALOG: &str = "wattlake";
/// The schema that is searched first for names without a schema.
pub const DEFAULT_SCHEMA: &str = "public";
/// The schema of the SQL standard that describes tables and columns.
pub const INFORMATION_SCHEMA: &str = "information_schema";
