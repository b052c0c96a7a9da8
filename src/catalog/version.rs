//! The persisted form of a catalog version. Its JSON is described by `schemas/json/catalog.schema.json`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::block::{BlockSpec, BlockStats};
use crate::model::{BlockKind, Labels, Resolution, TenantId, TimeRange, Ulid};

/// The format that is written, and the newest one that is read.
pub const FORMAT: u32 = 1;

/// What this program is as a writer: it may write over versions whose `min_writer` is not above this.
pub const WRITER: u32 = 1;

/// Fields that a newer writer put there. They are kept as they are.
pub type UnknownFields = BTreeMap<String, Value>;

/// One version of a tenant's catalog.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// The format's number; a reader refuses one above its own.
    pub format: u32,
    /// The least writer that may build on this version.
    pub min_writer: u32,
    /// The version's number, from 1; also its key.
    pub version: u64,
    /// The id of the change that made this version; random, so that no two versions are equal.
    pub commit_id: Ulid,
    /// When it was made, by its writer's clock.
    pub written_at_ms: i64,
    /// Whose catalog.
    pub tenant: TenantId,
    /// The label names that are columns in this tenant's blocks. The list only grows.
    pub label_columns: Vec<String>,
    /// Recent live blocks, sorted by id.
    pub blocks: Vec<Arc<BlockEntry>>,
    /// Parts with the other live blocks.
    pub parts: Vec<PartEntry>,
    /// How far the log of each epoch is in blocks.
    pub covered: BTreeMap<Ulid, Covered>,
    /// Objects that no kept version names and that will be deleted.
    pub doomed: Vec<Doomed>,
    /// Deletions of series, not in use yet.
    pub tombstones: Vec<Value>,
    /// Work that somebody has reserved, not in use yet.
    pub leases: Vec<Value>,
    /// Blocks that were found damaged, not in use yet.
    pub quarantine: Vec<Value>,
    /// Fields of newer writers.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

/// A live block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BlockEntry {
    /// The block's id; its object is `blocks/<id>.parquet`.
    pub id: Ulid,
    /// What it holds.
    pub kind: BlockKind,
    /// The distance of its samples.
    pub resolution: Resolution,
    /// Time of its first sample.
    pub min_time_ms: i64,
    /// The first millisecond after its last sample.
    pub max_time_ms: i64,
    /// Size of the object.
    pub size_bytes: u64,
    /// Rows in it.
    pub rows: u64,
    /// Series in it; metric families where it holds metadata.
    pub series: u64,
    /// Samples in it; exemplars or entries of metadata where it holds those.
    pub samples: u64,
    /// SHA-256 of the object, in lower-case hexadecimal digits.
    pub sha256: String,
    /// The first metric name in it.
    pub metric_min: String,
    /// The last metric name in it.
    pub metric_max: String,
    /// The label names that are columns in it.
    pub label_columns: Vec<String>,
    /// The labels of its producer, which no row carries.
    #[serde(with = "labels_as_map")]
    pub external_labels: Labels,
    /// When it was made, by its writer's clock.
    pub created_ms: i64,
    /// Fields of newer writers.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

impl BlockEntry {
    /// Returns the entry of a file that was just written: what was asked for, what went in, and the file's size and hash.
    #[must_use]
    pub fn of_file(
        (spec, kind): (BlockSpec, BlockKind),
        stats: BlockStats,
        (size_bytes, sha256): (u64, String),
        created_ms: i64,
    ) -> Self {
        Self {
            id: spec.id,
            kind,
            resolution: spec.resolution,
            min_time_ms: stats.min_time_ms,
            max_time_ms: stats.max_time_ms,
            size_bytes,
            rows: stats.rows,
            series: stats.series,
            samples: stats.samples,
            sha256,
            metric_min: stats.metric_min,
            metric_max: stats.metric_max,
            label_columns: stats.label_columns,
            external_labels: spec.external_labels,
            created_ms,
            unknown: BTreeMap::new(),
        }
    }

    /// Returns the time that the block's samples lie in.
    #[must_use]
    pub const fn range(&self) -> TimeRange {
        TimeRange { start_ms: self.min_time_ms, end_ms: self.max_time_ms }
    }
}

/// A reference to a part: an immutable object with blocks, `catalog/parts/<id>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartEntry {
    /// The part's id.
    pub id: Ulid,
    /// SHA-256 of the object, in lower-case hexadecimal digits.
    pub sha256: String,
    /// Blocks in it.
    pub blocks: u64,
    /// The least block id in it.
    pub block_min: Ulid,
    /// The greatest block id in it.
    pub block_max: Ulid,
    /// The least `min_time_ms` of its blocks.
    pub min_time_ms: i64,
    /// The greatest `max_time_ms` of its blocks.
    pub max_time_ms: i64,
    /// Fields of newer writers.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

impl PartEntry {
    /// Returns the time that the samples of the part's blocks lie in.
    #[must_use]
    pub const fn range(&self) -> TimeRange {
        TimeRange { start_ms: self.min_time_ms, end_ms: self.max_time_ms }
    }
}

/// How far an epoch of a log is in blocks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Covered {
    /// Whose log.
    pub receiver: String,
    /// Entries up to this sequence number, inclusive, are in blocks.
    pub through_seq: u64,
    /// The receiver that has sealed the epoch: nobody else commits entries of it any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed_by: Option<String>,
    /// Fields of newer writers.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

/// An object that will be deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doomed {
    /// Its key.
    pub key: String,
    /// Since when, by the clock of the writer that doomed it.
    pub since_ms: i64,
}

impl Version {
    /// Returns the state of a tenant before its first version.
    #[must_use]
    pub fn nothing(tenant: TenantId) -> Self {
        Self {
            format: FORMAT,
            min_writer: WRITER,
            version: 0,
            commit_id: Ulid::nil(),
            written_at_ms: 0,
            tenant,
            label_columns: Vec::new(),
            blocks: Vec::new(),
            parts: Vec::new(),
            covered: BTreeMap::new(),
            doomed: Vec::new(),
            tombstones: Vec::new(),
            leases: Vec::new(),
            quarantine: Vec::new(),
            unknown: UnknownFields::new(),
        }
    }

    /// Returns up to which sequence number an epoch's entries are in blocks; 0 where none are.
    #[must_use]
    pub fn covered_through(&self, epoch: Ulid) -> u64 {
        self.covered.get(&epoch).map_or(0, |covered| covered.through_seq)
    }
}

/// Labels as a JSON object.
mod labels_as_map {
    use std::collections::BTreeMap;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::model::Labels;

    pub(super) fn serialize<S: Serializer>(labels: &Labels, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(labels.iter())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Labels, D::Error> {
        let pairs = BTreeMap::<String, String>::deserialize(deserializer)?;
        Labels::from_pairs(pairs).map_err(D::Error::custom)
    }
}
