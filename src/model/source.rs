//! Names of archived Prometheus servers.

use std::fmt;
use std::sync::Arc;

use super::tenant::is_safe_name;

/// The name of a source, the Prometheus whose data is archived: as safe a path segment as a tenant's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceName(Arc<str>);

/// Why a source's name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("source name {0:?} is not allowed: use 1 to 128 of A-Z a-z 0-9 _ . - and no leading dot")]
pub struct SourceNameError(pub String);

impl SourceName {
    /// Checks a name.
    ///
    /// # Errors
    /// Any other character or length, or a leading dot.
    pub fn new(name: &str) -> Result<Self, SourceNameError> {
        if is_safe_name(name) {
            Ok(Self(Arc::from(name)))
        } else {
            Err(SourceNameError(name.chars().take(160).collect()))
        }
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for SourceName {
    type Err = SourceNameError;

    fn from_str(name: &str) -> Result<Self, SourceNameError> {
        Self::new(name)
    }
}

impl serde::Serialize for SourceName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for SourceName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::new(&name).map_err(serde::de::Error::custom)
    }
}
