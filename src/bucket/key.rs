//! Every object key, as one type that is printed and parsed here and nowhere else.

use std::fmt;

use object_store::path::Path as StorePath;

use crate::model::{SourceName, TenantId, Ulid};

use super::BucketError;
use super::archive_key::ArchiveObject;

/// The digits of a number in a key, so that a listing sorts by number.
const NUMBER_DIGITS: usize = 20;

/// The name of an object in the bucket.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKey {
    /// `tenants/<tenant>/catalog/<version, 20 digits>`: one version of a tenant's catalog.
    CatalogVersion {
        /// Whose catalog.
        tenant: TenantId,
        /// Which version, from 1.
        version: u64,
    },
    /// `tenants/<tenant>/catalog/latest`: a hint at the newest version.
    CatalogLatest {
        /// Whose catalog.
        tenant: TenantId,
    },
    /// `tenants/<tenant>/catalog/parts/<ULID>`: blocks that a version lists by reference.
    CatalogPart {
        /// Whose catalog.
        tenant: TenantId,
        /// The part's id.
        id: Ulid,
    },
    /// `tenants/<tenant>/blocks/<ULID>.parquet`: a block.
    Block {
        /// Whose block.
        tenant: TenantId,
        /// The block's id.
        id: Ulid,
    },
    /// `archives/<source>/…`: an object of a source's archive.
    Archive {
        /// Whose archive.
        source: SourceName,
        /// Which object.
        object: ArchiveObject,
    },
    /// `log/<epoch ULID>/<sequence number, 20 digits>`: an entry of a log in the bucket, or what ends its epoch.
    LogEntry {
        /// The epoch.
        epoch: Ulid,
        /// The sequence number, from 1.
        seq: u64,
    },
    /// `probes/<ULID>`: made and deleted at start to see whether the store has a conditional create, and later to see what
    /// time the store has.
    Probe {
        /// A random id.
        id: Ulid,
    },
}

impl ObjectKey {
    /// The folder that holds one folder per tenant.
    pub const TENANTS: &'static str = "tenants";

    /// The folder that holds one folder per archived source.
    pub const ARCHIVES: &'static str = "archives";

    /// The folder that holds one folder per epoch of a log.
    pub const LOG: &'static str = "log";

    /// The folder of all probes.
    pub(super) const PROBES: &'static str = "probes";

    /// Returns the folder that holds an epoch of a log.
    #[must_use]
    pub fn log_folder(epoch: Ulid) -> String {
        format!("{}/{epoch}", Self::LOG)
    }

    /// Reads the name of an epoch's folder back.
    #[must_use]
    pub fn parse_log_folder(name: &str) -> Option<Ulid> {
        parse_ulid(name)
    }

    /// Returns the key of an object in a source's archive.
    #[must_use]
    pub fn archive(source: &SourceName, object: ArchiveObject) -> Self {
        Self::Archive { source: source.clone(), object }
    }

    /// Returns the folder that holds everything of a source's archive.
    #[must_use]
    pub fn archive_folder(source: &SourceName) -> String {
        format!("{}/{source}", Self::ARCHIVES)
    }

    /// Returns the key of a catalog version.
    #[must_use]
    pub fn catalog_version(tenant: &TenantId, version: u64) -> Self {
        Self::CatalogVersion { tenant: tenant.clone(), version }
    }

    /// Returns the key of the hint at the newest catalog version.
    #[must_use]
    pub fn catalog_latest(tenant: &TenantId) -> Self {
        Self::CatalogLatest { tenant: tenant.clone() }
    }

    /// Returns the key of a catalog part.
    #[must_use]
    pub fn catalog_part(tenant: &TenantId, id: Ulid) -> Self {
        Self::CatalogPart { tenant: tenant.clone(), id }
    }

    /// Returns the key of a block.
    #[must_use]
    pub fn block(tenant: &TenantId, id: Ulid) -> Self {
        Self::Block { tenant: tenant.clone(), id }
    }

    /// Returns the folder that holds everything of a tenant.
    #[must_use]
    pub fn tenant_folder(tenant: &TenantId) -> String {
        format!("{}/{tenant}", Self::TENANTS)
    }

    /// Returns the folder that holds a tenant's catalog.
    #[must_use]
    pub fn catalog_folder(tenant: &TenantId) -> String {
        format!("{}/{tenant}/catalog", Self::TENANTS)
    }

    /// Returns the folder that holds a tenant's blocks.
    #[must_use]
    pub fn blocks_folder(tenant: &TenantId) -> String {
        format!("{}/{tenant}/blocks", Self::TENANTS)
    }

    /// Reads a key back. What is not exactly as printed here is not ours.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let segments: Vec<&str> = text.split('/').collect();
        let key = match segments.as_slice() {
            ["probes", id] => Self::Probe { id: parse_ulid(id)? },
            ["tenants", tenant, "catalog", "latest"] => Self::CatalogLatest { tenant: tenant.parse().ok()? },
            ["tenants", tenant, "catalog", "parts", id] => {
                Self::CatalogPart { tenant: tenant.parse().ok()?, id: parse_ulid(id)? }
            }
            ["tenants", tenant, "catalog", version] => {
                Self::CatalogVersion { tenant: tenant.parse().ok()?, version: parse_number(version)? }
            }
            ["log", epoch, seq] => Self::LogEntry { epoch: parse_ulid(epoch)?, seq: parse_number(seq)? },
            ["tenants", tenant, "blocks", file] => {
                Self::Block { tenant: tenant.parse().ok()?, id: parse_ulid(file.strip_suffix(".parquet")?)? }
            }
            ["archives", source, rest @ ..] => {
                Self::Archive { source: source.parse().ok()?, object: ArchiveObject::parse(rest)? }
            }
            _ => return None,
        };
        Some(key)
    }

    /// Returns the tenant whose object this is.
    #[must_use]
    pub fn tenant(&self) -> Option<&TenantId> {
        match self {
            Self::CatalogVersion { tenant, .. }
            | Self::CatalogLatest { tenant }
            | Self::CatalogPart { tenant, .. }
            | Self::Block { tenant, .. } => Some(tenant),
            Self::Archive { .. } | Self::LogEntry { .. } | Self::Probe { .. } => None,
        }
    }

    /// Returns the key as the store takes it.
    pub(super) fn path(&self) -> StorePath {
        StorePath::from(self.to_string())
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenants = Self::TENANTS;
        match self {
            Self::CatalogVersion { tenant, version } => {
                write!(f, "{tenants}/{tenant}/catalog/{version:0width$}", width = NUMBER_DIGITS)
            }
            Self::CatalogLatest { tenant } => write!(f, "{tenants}/{tenant}/catalog/latest"),
            Self::CatalogPart { tenant, id } => write!(f, "{tenants}/{tenant}/catalog/parts/{id}"),
            Self::Block { tenant, id } => write!(f, "{tenants}/{tenant}/blocks/{id}.parquet"),
            Self::Archive { source, object } => write!(f, "{}/{source}/{object}", Self::ARCHIVES),
            Self::LogEntry { epoch, seq } => {
                write!(f, "{}/{epoch}/{seq:0width$}", Self::LOG, width = NUMBER_DIGITS)
            }
            Self::Probe { id } => write!(f, "probes/{id}"),
        }
    }
}

/// Reads a ULID in the one form that it is printed in: lower case and the letters I, L, O are other names.
pub(super) fn parse_ulid(text: &str) -> Option<Ulid> {
    Ulid::from_string(text).ok().filter(|id| id.to_string() == text)
}

fn parse_number(text: &str) -> Option<u64> {
    let digits = text.len() == NUMBER_DIGITS && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// Checks the name of a folder to list.
pub(super) fn folder_path(folder: &str) -> Result<StorePath, BucketError> {
    let relative = !folder.starts_with('/') && folder.split('/').all(|s| !matches!(s, "" | "." | ".."));
    match StorePath::parse(folder) {
        Ok(path) if relative => Ok(path),
        _ => Err(BucketError::Name { name: folder.to_owned() }),
    }
}
