//! `meta.json`: what a block covers, what it holds and what it came from.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use ulid::Ulid;

use super::BlockError;

/// The hint of a block that out-of-order samples were compacted into. It does not move the replay cut-off.
pub const HINT_FROM_OUT_OF_ORDER: &str = "from-out-of-order";

const VERSION: u32 = 1;
/// A block of a year has some thousand sources of 30 bytes each.
const META_BYTES_MAX: u64 = 16 << 20;

/// The content of `meta.json`. Keys that are not known here are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BlockMeta {
    /// The block's id, which is also its folder's name.
    pub ulid: Ulid,
    /// Time before which no sample lies.
    #[serde(rename = "minTime")]
    pub min_time_ms: i64,
    /// Time from which on no sample lies.
    #[serde(rename = "maxTime")]
    pub max_time_ms: i64,
    /// What the block holds.
    #[serde(default, deserialize_with = "null_as_default")]
    pub stats: BlockStats,
    /// What the block came from.
    pub compaction: BlockCompaction,
    /// Always 1.
    pub version: u32,
    /// What Thanos adds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thanos: Option<ThanosMeta>,
    /// Keys that are not known here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// What a block holds. Zero stands for "not given" too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BlockStats {
    /// Samples of all kinds.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_samples: u64,
    /// Floats; given by Prometheus 3.6 and later.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_float_samples: u64,
    /// Native histograms; given by Prometheus 3.6 and later.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_histogram_samples: u64,
    /// Series.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_series: u64,
    /// Chunks.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_chunks: u64,
    /// Intervals in the tombstones file, when the meta was last written.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_tombstones: u64,
    /// Keys that are not known here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// What a block came from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockCompaction {
    /// How often its samples were compacted; 1 is straight from the head.
    pub level: u32,
    /// The level-1 blocks inside of it.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Ulid>,
    /// The block is empty and may go.
    #[serde(default, skip_serializing_if = "is_false")]
    pub deletable: bool,
    /// The blocks it was made of, which Prometheus deletes when it loads this one.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<BlockParent>,
    /// Compacting the block failed before.
    #[serde(default, skip_serializing_if = "is_false")]
    pub failed: bool,
    /// Further facts, such as [`HINT_FROM_OUT_OF_ORDER`].
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
    /// Keys that are not known here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A block that another one was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockParent {
    /// Its id.
    pub ulid: Ulid,
    /// Time before which it has no sample.
    #[serde(rename = "minTime")]
    pub min_time_ms: i64,
    /// Time from which on it has no sample.
    #[serde(rename = "maxTime")]
    pub max_time_ms: i64,
}

/// What Thanos adds. What has no field of its own here (files, rewrites, upload time) stands in `extra`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ThanosMeta {
    /// The external labels of the producer.
    #[serde(default, deserialize_with = "null_as_default")]
    pub labels: BTreeMap<String, String>,
    /// How far the samples are apart.
    #[serde(default)]
    pub downsample: ThanosDownsample,
    /// Which component wrote the block.
    #[serde(default)]
    pub source: String,
    /// Further keys.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// How far the samples of a block are apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThanosDownsample {
    /// 0 for samples as they came, else 300 000 or 3 600 000.
    #[serde(rename = "resolution")]
    pub resolution_ms: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

/// Go writes `null` for a list or map that was never set.
fn null_as_default<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}

impl BlockMeta {
    /// Reads a meta.json.
    ///
    /// # Errors
    /// More than 16 MiB, no JSON of this shape, or another version.
    pub fn decode(bytes: &[u8]) -> Result<Self, BlockError> {
        if bytes.len() as u64 > META_BYTES_MAX {
            let (bytes, limit) = (bytes.len() as u64, META_BYTES_MAX);
            return Err(BlockError::TooLarge { part: "meta.json", bytes, limit });
        }
        let meta: Self = serde_json::from_slice(bytes).map_err(BlockError::Meta)?;
        if meta.version != VERSION {
            let found = format!("version {}", meta.version);
            return Err(BlockError::Header { file: "meta.json", found, expected: "version 1" });
        }
        Ok(meta)
    }

    /// Writes a meta.json as Prometheus does, indented with tabs.
    ///
    /// # Panics
    /// Never: all keys are texts.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let tabs = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut serializer = serde_json::Serializer::with_formatter(&mut out, tabs);
        self.serialize(&mut serializer).expect("all keys are texts and writing to memory cannot fail");
        out
    }

    /// Returns whether the block was made of out-of-order samples.
    #[must_use]
    pub fn is_out_of_order(&self) -> bool {
        self.compaction.hints.iter().any(|hint| hint == HINT_FROM_OUT_OF_ORDER)
    }
}
