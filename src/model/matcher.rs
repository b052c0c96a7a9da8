//! Label matchers: `=`, `!=`, `=~`, `!~` with Prometheus' semantics.

use std::sync::Arc;

use super::labels::Labels;
use super::re2;

/// How a matcher compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MatchKind {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`, anchored at both ends
    Regex,
    /// `!~`, anchored at both ends
    NotRegex,
}

/// Why a matcher was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the regular expression {pattern:?} is not valid RE2: {reason}")]
pub struct MatcherError {
    /// The expression as given.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

/// A condition on one label. A label that a series lacks counts as the empty string.
#[derive(Debug, Clone)]
pub struct Matcher {
    kind: MatchKind,
    name: String,
    value: String,
    regex: Option<Arc<re2::Re2>>,
}

impl Matcher {
    /// Builds a matcher; regular expressions are RE2, matched against the whole value, `.` matching newlines.
    ///
    /// # Errors
    /// An expression that is not valid RE2 or too large once compiled.
    pub fn new(
        kind: MatchKind,
        name: impl Into<String>,
        value: impl Into<String>,
    ) -> Result<Self, MatcherError> {
        let (name, value) = (name.into(), value.into());
        let regex = match kind {
            MatchKind::Equal | MatchKind::NotEqual => None,
            MatchKind::Regex | MatchKind::NotRegex => Some(Arc::new(re2::compile_anchored(&value)?)),
        };
        Ok(Self { kind, name, value, regex })
    }

    /// Builds an equality matcher.
    #[must_use]
    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { kind: MatchKind::Equal, name: name.into(), value: value.into(), regex: None }
    }

    /// Returns how it compares.
    #[must_use]
    pub fn kind(&self) -> MatchKind {
        self.kind
    }

    /// Returns the label's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the value or expression as given.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Returns all values that satisfy the matcher, sorted, where they are few: of `=`, and of `=~` where the
    /// expression is an alternation of plain strings or the like. The empty string stands for an absent label too.
    #[must_use]
    pub fn set_values(&self) -> Option<&[String]> {
        match (&self.regex, self.kind) {
            (None, MatchKind::Equal) => Some(std::slice::from_ref(&self.value)),
            (Some(regex), MatchKind::Regex) => regex.values(),
            _ => None,
        }
    }

    /// Returns what every value that satisfies the matcher starts with; empty where nothing is known.
    #[must_use]
    pub fn literal_prefix(&self) -> &str {
        match (&self.regex, self.kind) {
            (None, MatchKind::Equal) => &self.value,
            (Some(regex), MatchKind::Regex) => regex.prefix(),
            _ => "",
        }
    }

    /// Returns whether a value matches; pass the empty string for a label that is absent.
    #[must_use]
    pub fn matches(&self, value: &str) -> bool {
        match (&self.regex, self.kind) {
            (None, MatchKind::Equal) => self.value == value,
            (None, _) => self.value != value,
            (Some(regex), MatchKind::NotRegex) => !regex.matches(value),
            (Some(regex), _) => regex.matches(value),
        }
    }
}

/// Returns whether a label set satisfies every matcher.
#[must_use]
pub fn match_labels(matchers: &[Matcher], labels: &Labels) -> bool {
    matchers.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or("")))
}
