//! The format of `recorded/*.sql`: the statements that a client sends. Each ends with a line `\g`, as
//! in psql, and has comments with what it must return.
//!
//! ```text
//! -- when: \dt                              what makes the client send it
//! -- way: simple                           only by the simple protocol
//! -- with: 'platform', '{platform.sites}'   the values of $1, $2, ...
//! -- row: platform | sites | table          a row that has these cells must be there
//! select ... where c.oid = {platform.sites} the object's OID on that server
//! \g
//! ```

/// One statement of a recording.
pub struct Statement {
    /// What makes the client send it.
    pub when: String,
    /// The values of `$1`, `$2` and so on.
    pub with: Vec<String>,
    /// For several commands in one statement, a type without a binary form, or a result that is never the
    /// same twice.
    pub only_simple: bool,
    /// Rows that must be there, each by some of its cells.
    pub rows: Vec<Vec<String>>,
    pub sql: String,
}

/// The statements of a recording.
pub fn parse(recording: &str) -> Vec<Statement> {
    // The first paragraph is about the file.
    let (_, statements) = recording.split_once("\n\n").unwrap();
    assert!(statements.trim_end().ends_with("\n\\g"), "a recording ends with \\g");
    statements.trim_end().split("\n\\g").filter(|text| !text.trim().is_empty()).map(statement).collect()
}

fn statement(text: &str) -> Statement {
    let (when, sql) = (String::new(), String::new());
    let mut read = Statement { when, with: Vec::new(), only_simple: false, rows: Vec::new(), sql };
    for line in text.trim_start().lines() {
        match line.strip_prefix("-- ").and_then(|comment| comment.split_once(": ")) {
            Some(("when", when)) if read.sql.is_empty() => read.when = when.to_owned(),
            Some(("with", values)) if read.sql.is_empty() => read.with = literals(values),
            Some(("way", "simple")) if read.sql.is_empty() => read.only_simple = true,
            Some(("row", cells)) if read.sql.is_empty() => {
                read.rows.push(cells.split(" | ").map(str::to_owned).collect());
            }
            _ => read.sql += &format!("{line}\n"),
        }
    }
    assert!(!read.sql.trim().is_empty(), "a statement of the recording is empty: {text}");
    read
}

/// `'a', 'it''s'`
fn literals(list: &str) -> Vec<String> {
    let inner = list.strip_prefix('\'').and_then(|list| list.strip_suffix('\'')).unwrap();
    inner.split("', '").map(|value| value.replace("''", "'")).collect()
}
