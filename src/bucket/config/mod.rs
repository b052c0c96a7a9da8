//! The bucket's configuration: Thanos' YAML with Thanos' keys.
//!
//! Owns the reading of the YAML and what each key means. A key either works, or is accepted because nothing depends on
//! it here (its field is an `IgnoredAny`), or is refused with what to do instead; a key that Thanos does not have is
//! refused by its name. Nothing is opened and nothing sent here.
//!
//! **Invariants**
//! - Secrets are held in a type whose debug form hides them.
//! - What is refused is told with its key, and with what is allowed.

mod azure;
mod gcs;
mod http;
mod s3;

use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_yaml_ng::Value;

use super::BucketError;
use super::azure::AzureSettings;
use super::gcs::GcsSettings;
use super::hedge::HedgeSettings;
use super::s3::S3Settings;

use azure::AzureYaml;
use gcs::GcsYaml;
use s3::S3Yaml;

pub(super) use http::{HttpSettings, RetrySettings, no_retries};

/// What one part of a large upload may have: from S3's least on.
const PART_BYTES_ALLOWED: RangeInclusive<u64> = 5 << 20..=1 << 30;

/// More requests for one read than anybody needs.
const HEDGES_MAX: u32 = 10;

/// Where the bucket is and how it is reached. Its debug form shows no secrets.
#[derive(Debug, Clone)]
pub struct BucketConfig {
    pub(super) backend: Backend,
    /// What stands before every key of a store that is not a folder, without slashes at its ends.
    pub(super) prefix: String,
    pub(super) hedging: HedgeSettings,
}

#[derive(Debug, Clone)]
pub(super) enum Backend {
    Filesystem { directory: PathBuf },
    S3(Box<S3Settings>),
    Gcs(Box<GcsSettings>),
    Azure(Box<AzureSettings>),
}

/// A text that debug output does not show.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(super) struct Secret(pub(super) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "\"\"" } else { "<secret>" })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    config: Value,
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    hedging_config: HedgingYaml,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FilesystemYaml {
    directory: PathBuf,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct HedgingYaml {
    enabled: bool,
    up_to: u32,
    quantile: f64,
}

impl Default for HedgingYaml {
    fn default() -> Self {
        let HedgeSettings { requests_max, quantile } = HedgeSettings::DEFAULT;
        Self { enabled: true, up_to: requests_max, quantile }
    }
}

impl HedgingYaml {
    fn check(self) -> Result<HedgeSettings, BucketError> {
        if !self.enabled {
            return Ok(HedgeSettings::OFF);
        }
        if !(1..=HEDGES_MAX).contains(&self.up_to) {
            return Err(refused(format!("hedging_config.up_to must lie between 1 and {HEDGES_MAX}")));
        }
        if !(0.5..=1.0).contains(&self.quantile) {
            return Err(refused("hedging_config.quantile must lie between 0.5 and 1"));
        }
        Ok(HedgeSettings { requests_max: self.up_to, quantile: self.quantile })
    }
}

impl BucketConfig {
    /// Reads Thanos' object storage YAML. Types are FILESYSTEM, S3, GCS and AZURE.
    ///
    /// # Errors
    /// Anything that is not understood, by its key and with what is allowed.
    pub fn from_yaml(text: &str) -> Result<Self, BucketError> {
        let document: Document = serde_yaml_ng::from_str(text).map_err(|e| refused(e.to_string()))?;
        let prefix = check_prefix(&document.prefix)?;
        let backend = match document.kind.to_ascii_uppercase().as_str() {
            "FILESYSTEM" => {
                let yaml: FilesystemYaml = read_section(document.config)?;
                if yaml.directory.as_os_str().is_empty() {
                    return Err(refused("config.directory is empty: name a folder"));
                }
                Backend::Filesystem { directory: yaml.directory.join(&prefix) }
            }
            "S3" => Backend::S3(Box::new(read_section::<S3Yaml>(document.config)?.check()?)),
            "GCS" => Backend::Gcs(Box::new(read_section::<GcsYaml>(document.config)?.check()?)),
            "AZURE" => Backend::Azure(Box::new(read_section::<AzureYaml>(document.config)?.check()?)),
            _ => {
                return Err(refused(format!(
                    "type {:?} is not supported: FILESYSTEM, S3, GCS and AZURE are allowed",
                    document.kind
                )));
            }
        };
        Ok(Self { backend, prefix, hedging: document.hedging_config.check()? })
    }

    /// Returns the configuration of a bucket in a local folder.
    #[must_use]
    pub fn filesystem(directory: impl AsRef<Path>) -> Self {
        let directory = directory.as_ref().to_owned();
        Self {
            backend: Backend::Filesystem { directory },
            prefix: String::new(),
            hedging: HedgeSettings::OFF,
        }
    }
}

impl fmt::Display for BucketConfig {
    /// Says where the bucket is, without secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name, at) = match &self.backend {
            Backend::Filesystem { directory } => return write!(f, "FILESYSTEM {}", directory.display()),
            Backend::S3(settings) => ("S3", &settings.bucket, settings.endpoint.as_str()),
            Backend::Gcs(settings) => ("GCS", &settings.bucket, ""),
            Backend::Azure(settings) => ("AZURE", &settings.container, settings.url.as_str()),
        };
        write!(f, "{kind} {name}")?;
        if !self.prefix.is_empty() {
            write!(f, "/{}", self.prefix)?;
        }
        if !at.is_empty() {
            write!(f, " at {at}")?;
        }
        Ok(())
    }
}

fn check_prefix(text: &str) -> Result<String, BucketError> {
    let prefix = text.trim_matches('/');
    let allowed = |segment: &str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-' | b'=');
        !matches!(segment, "" | "." | "..") && segment.bytes().all(plain)
    };
    if prefix.is_empty() || prefix.split('/').all(allowed) {
        Ok(prefix.to_owned())
    } else {
        Err(refused(format!(
            "prefix {text:?} is refused: segments of A-Z a-z 0-9 _ . - = with one slash between are allowed"
        )))
    }
}

fn read_section<T: DeserializeOwned>(section: Value) -> Result<T, BucketError> {
    let section = if section.is_null() { Value::Mapping(serde_yaml_ng::Mapping::new()) } else { section };
    serde_yaml_ng::from_value(section).map_err(|e| refused(format!("config: {e}")))
}

fn refused(reason: impl Into<String>) -> BucketError {
    BucketError::Config { reason: reason.into() }
}
