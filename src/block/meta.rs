//! What a block says about itself: the key-value metadata of its footer.

use std::collections::{BTreeMap, HashMap};

use parquet::file::metadata::KeyValue;
use serde::{Deserialize, Serialize};

use super::error::BlockError;
use crate::model::{BlockKind, Labels, Resolution, TenantId, TimeRange, Ulid};

/// The version of the format that is written, and the only one that is read.
pub const FORMAT_VERSION: u32 = 1;

/// The prefix of all keys.
const PREFIX: &str = "perennial.";
/// How rows are sorted.
const SORT: &str = "__name__, labels, time";
/// How the rows of metadata are sorted.
const METADATA_SORT: &str = "family, time";

/// Entries of one receiver's log that a block holds: those after `after_seq`, up to and including `through_seq`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPositions {
    /// The process start whose log it is.
    pub epoch: Ulid,
    /// The last entry before.
    pub after_seq: u64,
    /// The last entry within.
    pub through_seq: u64,
}

/// What the writer of a block is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockSpec {
    /// The block's name.
    pub id: Ulid,
    /// Whose samples it holds.
    pub tenant: TenantId,
    /// The distance between its samples.
    pub resolution: Resolution,
    /// The aligned span that all its samples lie in.
    pub range: TimeRange,
    /// The labels that the receiver adds to every series.
    pub external_labels: Labels,
    /// The labels that get columns. One that no series has becomes a column of NULLs.
    pub label_columns: Vec<String>,
    /// The log entries whose samples it holds.
    pub positions: Vec<LogPositions>,
    /// The blocks it was merged from.
    pub sources: Vec<Ulid>,
    /// How hard to compress.
    pub zstd_level: i32,
}

/// What writing a block found out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BlockStats {
    /// Rows in the file.
    pub rows: u64,
    /// Series in the file; metric families where it holds metadata.
    pub series: u64,
    /// Samples in the file, stale markers included; exemplars or entries of metadata where it holds those.
    pub samples: u64,
    /// Stale markers.
    pub stale: u64,
    /// Time of the first sample; 0 in a block without samples.
    pub min_time_ms: i64,
    /// The millisecond after the last sample; 0 in a block without samples.
    pub max_time_ms: i64,
    /// The least metric name or family.
    pub metric_min: String,
    /// The greatest metric name or family.
    pub metric_max: String,
    /// The label columns in which some series has a value.
    pub label_columns: Vec<String>,
}

/// What a block says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockMeta {
    /// What it holds.
    pub kind: BlockKind,
    /// The block's name.
    pub id: Ulid,
    /// Whose samples it holds.
    pub tenant: TenantId,
    /// The distance between its samples.
    pub resolution: Resolution,
    /// The aligned span that all its samples lie in.
    pub range: TimeRange,
    /// The labels that the receiver adds to every series.
    pub external_labels: Labels,
    /// The log entries whose samples it holds.
    pub positions: Vec<LogPositions>,
    /// The blocks it was merged from.
    pub sources: Vec<Ulid>,
    /// Counts, times and names of its content.
    pub stats: BlockStats,
}

/// Returns the key-value metadata of a block.
pub(super) fn encode_meta(spec: &BlockSpec, kind: &BlockKind, stats: &BlockStats) -> Vec<KeyValue> {
    let sort = if *kind == BlockKind::Metadata { METADATA_SORT } else { SORT };
    let external: BTreeMap<&str, &str> = spec.external_labels.iter().collect();
    let pairs = [
        ("format", FORMAT_VERSION.to_string()),
        ("kind", kind.to_string()),
        ("id", spec.id.to_string()),
        ("tenant", spec.tenant.to_string()),
        ("resolution", json(&spec.resolution).trim_matches('"').to_owned()),
        ("sort", sort.to_owned()),
        ("external_labels", json(&external)),
        ("range_start_ms", spec.range.start_ms.to_string()),
        ("range_end_ms", spec.range.end_ms.to_string()),
        ("min_time_ms", stats.min_time_ms.to_string()),
        ("max_time_ms", stats.max_time_ms.to_string()),
        ("rows", stats.rows.to_string()),
        ("series", stats.series.to_string()),
        ("samples", stats.samples.to_string()),
        ("stale", stats.stale.to_string()),
        ("metric_min", stats.metric_min.clone()),
        ("metric_max", stats.metric_max.clone()),
        ("label_columns", json(&stats.label_columns)),
        ("positions", json(&spec.positions)),
        ("sources", json(&spec.sources)),
    ];
    pairs.into_iter().map(|(key, value)| KeyValue::new(format!("{PREFIX}{key}"), value)).collect()
}

fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("strings, numbers and lists of them always have a JSON form")
}

/// Reads the key-value metadata of a block.
///
/// # Errors
/// Another format version; a missing or malformed key.
pub(super) fn decode_meta(pairs: Option<&Vec<KeyValue>>) -> Result<BlockMeta, BlockError> {
    let keys = Keys::new(pairs);
    let format = keys.0.get("format").copied().unwrap_or_default();
    if format != FORMAT_VERSION.to_string() {
        return Err(BlockError::Version { found: format.chars().take(32).collect() });
    }
    let external: BTreeMap<String, String> = keys.json("external_labels")?;
    let tenant = TenantId::new(keys.text("tenant")?).map_err(|_| keys.invalid("tenant"))?;
    let resolution = serde_json::from_value(keys.text("resolution")?.into());
    Ok(BlockMeta {
        kind: keys.text("kind")?.to_owned().into(),
        id: keys.number("id")?,
        tenant,
        resolution: resolution.map_err(|_| keys.invalid("resolution"))?,
        range: TimeRange { start_ms: keys.number("range_start_ms")?, end_ms: keys.number("range_end_ms")? },
        external_labels: Labels::from_pairs(external).map_err(|_| keys.invalid("external_labels"))?,
        positions: keys.json("positions")?,
        sources: keys.json("sources")?,
        stats: BlockStats {
            rows: keys.number("rows")?,
            series: keys.number("series")?,
            samples: keys.number("samples")?,
            stale: keys.number("stale")?,
            min_time_ms: keys.number("min_time_ms")?,
            max_time_ms: keys.number("max_time_ms")?,
            metric_min: keys.text("metric_min")?.to_owned(),
            metric_max: keys.text("metric_max")?.to_owned(),
            label_columns: keys.json("label_columns")?,
        },
    })
}

struct Keys<'a>(HashMap<&'a str, &'a str>);

impl<'a> Keys<'a> {
    fn new(pairs: Option<&'a Vec<KeyValue>>) -> Self {
        let ours = |pair: &'a KeyValue| Some((pair.key.strip_prefix(PREFIX)?, pair.value.as_deref()?));
        Self(pairs.into_iter().flatten().filter_map(ours).collect())
    }

    fn text(&self, key: &str) -> Result<&'a str, BlockError> {
        let missing = || BlockError::Footer(format!("key {PREFIX}{key} is missing"));
        self.0.get(key).copied().ok_or_else(missing)
    }

    fn number<T: std::str::FromStr>(&self, key: &str) -> Result<T, BlockError> {
        self.text(key)?.parse().map_err(|_| self.invalid(key))
    }

    fn json<T: for<'de> Deserialize<'de>>(&self, key: &str) -> Result<T, BlockError> {
        serde_json::from_str(self.text(key)?).map_err(|_| self.invalid(key))
    }

    fn invalid(&self, key: &str) -> BlockError {
        let found: String = self.0.get(key).unwrap_or(&"").chars().take(80).collect();
        BlockError::Footer(format!("key {PREFIX}{key} has the invalid value {found:?}"))
    }
}
