//! What the writers of all kinds share: the file's columns, the order of series, counts and the footer.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::io::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::columns::{block_order, folded, may_be_column};
use super::error::BlockError;
use super::label_buffer::SplitLabels;
use super::meta::{BlockSpec, BlockStats, encode_meta};
use crate::model::{BlockKind, Labels, METRIC_NAME, TimeRange};

/// A row group ends with about this many rows: series with few samples must not make label columns, of which every
/// find reads dictionaries and pages, huge.
pub(super) const ROW_GROUP_ROWS: usize = 1 << 17;
/// A row group ends with the batch that reaches this many bytes: it is in memory until it ends.
const ROW_GROUP_BYTES: usize = 48 << 20;

/// Returns the label columns of a file: `__name__` first, then the list as given.
///
/// # Errors
/// A label that may not be a column, or two that collide.
pub(super) fn file_columns(label_columns: &[String]) -> Result<Vec<String>, BlockError> {
    let mut columns = vec![METRIC_NAME.to_owned()];
    columns.extend(label_columns.iter().filter(|c| *c != METRIC_NAME).cloned());
    let mut taken = HashSet::new();
    for column in &columns {
        if !may_be_column(column) || !taken.insert(folded(column)) {
            return Err(BlockError::LabelColumn(column.clone()));
        }
    }
    Ok(columns)
}

/// A block under construction.
pub(super) struct BlockFile<'a, W: Write + Send> {
    pub(super) spec: &'a BlockSpec,
    kind: BlockKind,
    columns: Vec<String>,
    places: HashMap<String, usize>,
    used: Vec<bool>,
    out: ArrowWriter<W>,
    /// Memory that the row group takes, as of its last batch.
    group_bytes: usize,
    previous: Option<Labels>,
    pub(super) stats: BlockStats,
}

impl<'a, W: Write + Send> BlockFile<'a, W> {
    /// Starts a file with these label columns; `schema` and `properties` are made for them.
    pub(super) fn start(
        out: W,
        spec: &'a BlockSpec,
        kind: BlockKind,
        columns: Vec<String>,
        (schema, properties): (SchemaRef, Result<WriterProperties, ParquetError>),
    ) -> Result<Self, BlockError> {
        let options = ArrowWriterOptions::new()
            .with_properties(properties.map_err(BlockError::Write)?)
            .with_skip_arrow_metadata(true)
            .with_schema_root(format!("perennial_{kind}"));
        let out = ArrowWriter::try_new_with_options(out, schema, options).map_err(BlockError::Write)?;
        Ok(Self {
            spec,
            kind,
            places: columns.iter().cloned().enumerate().map(|(i, name)| (name, i)).collect(),
            used: vec![false; columns.len()],
            columns,
            out,
            group_bytes: 0,
            previous: None,
            stats: BlockStats::default(),
        })
    }

    /// Begins the next series and returns its labels by column.
    pub(super) fn begin_series<'l>(&mut self, labels: &'l Labels) -> Result<SplitLabels<'l>, BlockError> {
        if let Some(previous) = &self.previous
            && block_order(previous, labels) != Ordering::Less
        {
            let (previous, series) = (previous.to_string(), labels.to_string());
            return Err(BlockError::SeriesOrder { previous, series });
        }
        self.previous = Some(labels.clone());
        let split = SplitLabels::new(labels, &self.places);
        for (used, value) in self.used.iter_mut().zip(&split.columns) {
            *used |= value.is_some();
        }
        Ok(split)
    }

    /// Counts a series, or a family, with so many samples between two times, both inclusive.
    pub(super) fn count(&mut self, name: &str, first_ms: i64, last_ms: i64, samples: u64) {
        let stats = &mut self.stats;
        let end_ms = last_ms.saturating_add(1);
        if stats.series == 0 {
            name.clone_into(&mut stats.metric_min);
            (stats.min_time_ms, stats.max_time_ms) = (first_ms, end_ms);
        }
        stats.series += 1;
        stats.samples += samples;
        stats.min_time_ms = stats.min_time_ms.min(first_ms);
        stats.max_time_ms = stats.max_time_ms.max(end_ms);
        name.clone_into(&mut stats.metric_max);
    }

    /// Returns whether the row group is full with the rows of it that wait in a batch.
    pub(super) fn is_full(&self, waiting: usize) -> bool {
        self.out.in_progress_rows() + waiting >= ROW_GROUP_ROWS || self.group_bytes >= ROW_GROUP_BYTES
    }

    pub(super) fn write(&mut self, batch: Result<RecordBatch, ArrowError>) -> Result<(), BlockError> {
        let batch = batch.map_err(|e| BlockError::Write(e.into()))?;
        self.out.write(&batch).map_err(BlockError::Write)?;
        self.group_bytes = self.out.memory_size();
        Ok(())
    }

    pub(super) fn end_row_group(&mut self) -> Result<(), BlockError> {
        self.group_bytes = 0;
        self.out.flush().map_err(BlockError::Write)
    }

    pub(super) fn finish(mut self) -> Result<BlockStats, BlockError> {
        let used = self.columns.into_iter().zip(self.used);
        self.stats.label_columns = used.filter(|(_, used)| *used).map(|(name, _)| name).collect();
        for pair in encode_meta(self.spec, &self.kind, &self.stats) {
            self.out.append_key_value_metadata(pair);
        }
        self.out.close().map_err(BlockError::Write)?;
        Ok(self.stats)
    }
}

/// Checks that times ascend, strictly where `unique`, and lie in the block's range.
pub(super) fn check_times(
    labels: &Labels,
    times: impl IntoIterator<Item = i64>,
    range: TimeRange,
    unique: bool,
) -> Result<(), BlockError> {
    let mut previous: Option<i64> = None;
    for ts_ms in times {
        // `end_ms == i64::MAX` means the end of time, which half-open ranges cannot say otherwise.
        let at_end_of_time = ts_ms == i64::MAX && range.end_ms == i64::MAX;
        let reason = if previous.is_some_and(|p| p > ts_ms || (unique && p == ts_ms)) {
            "not after the one before it"
        } else if !range.contains(ts_ms) && !at_end_of_time {
            "outside of the block's range"
        } else {
            previous = Some(ts_ms);
            continue;
        };
        return Err(BlockError::SampleOrder { series: labels.to_string(), ts_ms, reason });
    }
    Ok(())
}
