//! RE2 expressions, as Prometheus reads them, on the `regex` crate.
//!
//! An expression is first rewritten into the crate's syntax (`translate`), which refuses what RE2 refuses. What it
//! then turns out to be decides how it is matched (`shape`): a set of strings is looked up, a literal with `.*`
//! around it is compared, and only the rest is compiled.

mod class;
mod shape;
mod translate;

#[cfg(test)]
mod tests;

use super::matcher::MatcherError;
use shape::Shape;

/// How large a compiled expression may be.
const COMPILED_BYTES_MAX: usize = 8 << 20;

/// An expression that is matched against whole values, `.` matching newlines: `^(?s:pattern)$`.
#[derive(Debug)]
pub(super) struct Re2 {
    shape: Shape,
    prefix: String,
}

/// Compiles an expression.
pub(super) fn compile_anchored(pattern: &str) -> Result<Re2, MatcherError> {
    let refused = |reason: String| MatcherError { pattern: pattern.to_owned(), reason };
    let translated = format!("(?s:{})", translate::translate(pattern).map_err(refused)?);
    let hir = regex_syntax::parse(&translated).map_err(|e| refused(e.to_string()))?;
    let shape = match shape::simple_shape(&hir) {
        Some(shape) => shape,
        None => Shape::Other(
            regex::RegexBuilder::new(&format!("^{translated}$"))
                .size_limit(COMPILED_BYTES_MAX)
                .build()
                .map_err(|e| refused(e.to_string()))?,
        ),
    };
    let prefix = match &shape {
        Shape::Values(values) => shape::common_prefix(values),
        _ => shape::literal_prefix(&hir),
    };
    Ok(Re2 { shape, prefix })
}

impl Re2 {
    /// Returns whether the whole value matches.
    pub(super) fn matches(&self, value: &str) -> bool {
        self.shape.matches(value)
    }

    /// Returns all values that match, sorted, where they are few.
    pub(super) fn values(&self) -> Option<&[String]> {
        match &self.shape {
            Shape::Values(values) => Some(values),
            _ => None,
        }
    }

    /// Returns what every value that matches starts with.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }
}
