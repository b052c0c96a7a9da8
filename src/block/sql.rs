//! SQL views.

use crate::model::TimeRange;

/// A file of a view.
#[derive(Debug, Clone)]
pub struct SqlFile {
    /// Where it is.
    pub path: String,
    /// Its samples' span.
    pub range: TimeRange,
    /// Its label columns.
    pub label_columns: Vec<String>,
}

/// Prints views.
#[must_use]
pub fn duckdb_views(files: &[SqlFile], label_columns: &[String]) -> String {
    let _ = (files, label_columns);
    String::new()
}
