//! Tenant names.

use std::fmt;
use std::sync::Arc;

/// The name of a tenant: `[A-Za-z0-9_.-]{1,128}` without a leading dot, so that it is one safe path segment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(Arc<str>);

/// Why a tenant name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("tenant name {0:?} is not allowed: use 1 to 128 of A-Z a-z 0-9 _ . - and no leading dot")]
pub struct TenantError(pub String);

/// Returns whether a name is one safe path segment: `[A-Za-z0-9_.-]{1,128}` without a leading dot.
pub(super) fn is_safe_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    (1..=128).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(allowed)
}

impl TenantId {
    /// Checks a name.
    ///
    /// # Errors
    /// Any other character or length, or a leading dot.
    pub fn new(name: &str) -> Result<Self, TenantError> {
        if is_safe_name(name) {
            Ok(Self(Arc::from(name)))
        } else {
            Err(TenantError(name.chars().take(160).collect()))
        }
    }

    /// Returns the tenant that a request's header names, or `default` where it has none.
    ///
    /// # Errors
    /// A header that is not a tenant name.
    pub fn from_header(value: Option<&[u8]>, default: &Self) -> Result<Self, TenantError> {
        value.map_or_else(|| Ok(default.clone()), |bytes| Self::new(&String::from_utf8_lossy(bytes)))
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for TenantId {
    type Err = TenantError;

    fn from_str(name: &str) -> Result<Self, TenantError> {
        Self::new(name)
    }
}

impl serde::Serialize for TenantId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for TenantId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::new(&name).map_err(serde::de::Error::custom)
    }
}
