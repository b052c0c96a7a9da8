//! RE2 expressions, as Prometheus reads them, on the `regex` crate.

use super::matcher::MatcherError;

/// Compiles `^(?s:pattern)$`.
pub(super) fn compile_anchored(pattern: &str) -> Result<regex::Regex, MatcherError> {
    let refused = |reason: String| MatcherError { pattern: pattern.to_owned(), reason };
    regex::RegexBuilder::new(&format!("^(?s:{pattern})$"))
        .size_limit(8 << 20)
        .build()
        .map_err(|e| refused(e.to_string()))
}
