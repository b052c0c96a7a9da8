//! Bytes of versions and parts: JSON in one zstd frame.

use std::io::Read;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::model::TenantId;

use super::version::{BlockEntry, FORMAT, UnknownFields, Version};
use super::{CatalogError, check_invariants};

/// The most that a version or part may have before compression: about 100,000 blocks.
const JSON_BYTES_MAX: u64 = 128 << 20;

/// The largest window that a frame may ask for: 8 MiB.
const WINDOW_LOG_MAX: u32 = 23;

const ZSTD_LEVEL: i32 = 3;

/// The persisted form of a part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) format: u32,
    pub(super) tenant: TenantId,
    pub(super) blocks: Vec<Arc<BlockEntry>>,
    #[serde(flatten)]
    pub(super) unknown: UnknownFields,
}

/// Why bytes were refused; the caller knows their key.
#[derive(Debug)]
pub(super) enum DecodeError {
    Damaged(String),
    NewerFormat(u32),
}

impl DecodeError {
    pub(super) fn at(self, key: impl ToString) -> CatalogError {
        let key = key.to_string();
        match self {
            Self::Damaged(reason) => CatalogError::Damaged { key, reason },
            Self::NewerFormat(found) => CatalogError::NewerFormat { key, found, known: FORMAT },
        }
    }
}

/// Only the format, which is read before anything that a later format may have changed.
#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

/// Encodes a version or part.
pub(super) fn encode<T: Serialize>(document: &T) -> Vec<u8> {
    let json = serde_json::to_vec(document).expect("maps have text keys and numbers are integers");
    zstd::encode_all(json.as_slice(), ZSTD_LEVEL).expect("compressing into memory does no input or output")
}

/// Decodes and checks a version.
pub(super) fn decode_version(bytes: &[u8]) -> Result<Version, DecodeError> {
    let version: Version = decode(bytes)?;
    check_invariants(&version).map_err(|e| DecodeError::Damaged(e.to_string()))?;
    Ok(version)
}

/// Decodes a part.
pub(super) fn decode_part(bytes: &[u8]) -> Result<Part, DecodeError> {
    decode(bytes)
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let damaged = |e: &dyn std::fmt::Display| DecodeError::Damaged(e.to_string());
    let mut decoder = zstd::stream::read::Decoder::new(bytes).map_err(|e| damaged(&e))?.single_frame();
    decoder.window_log_max(WINDOW_LOG_MAX).map_err(|e| damaged(&e))?;
    let mut json = Vec::new();
    decoder.take(JSON_BYTES_MAX + 1).read_to_end(&mut json).map_err(|e| damaged(&e))?;
    if json.len() as u64 > JSON_BYTES_MAX {
        return Err(DecodeError::Damaged(format!("more than {JSON_BYTES_MAX} bytes of JSON")));
    }
    let FormatOnly { format } = serde_json::from_slice(&json).map_err(|e| damaged(&e))?;
    if format > FORMAT {
        return Err(DecodeError::NewerFormat(format));
    }
    serde_json::from_slice(&json).map_err(|e| damaged(&e))
}

/// Decodes arbitrary bytes as a version and as a part; for fuzzing.
pub fn fuzz_catalog(data: &[u8]) {
    if let Ok(version) = decode_version(data) {
        let again = decode_version(&encode(&version)).map_err(|e| format!("{e:?}"));
        assert!(again.is_ok(), "a version that was read can be written and read again");
    }
    if let Ok(part) = decode_part(data) {
        let again = decode_part(&encode(&part)).map_err(|e| format!("{e:?}"));
        assert!(again.is_ok(), "a part that was read can be written and read again");
    }
}
