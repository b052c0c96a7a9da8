//! Writing a block: runs in, row groups out, with at most one row group in memory.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::io::Write;

use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;

use super::columns::{block_order, folded, may_be_column};
use super::error::BlockError;
use super::meta::{BlockSpec, BlockStats, encode_meta};
use super::row::{SeriesRun, split_rows};
use super::row_buffer::{RowBuffer, SplitLabels};
use super::schema::{LabelForm, arrow_schema, writer_properties};
use crate::model::{Labels, METRIC_NAME, Sample, TimeRange};

/// A row group ends with the row that reaches this many samples.
const ROW_GROUP_SAMPLES: u64 = 4_000_000;
/// A row group ends with this many rows: series with few samples must not make label columns huge.
const ROW_GROUP_ROWS: usize = 1 << 20;
/// Rows are handed to the Parquet writer in batches of about this many samples; more leaves the processor's cache.
const BATCH_SAMPLES: usize = 1 << 16;
/// Rows are handed to the Parquet writer in batches of at most this many rows.
const BATCH_ROWS: usize = 1 << 13;

/// Writes one block and returns what it holds.
///
/// Series come in [`block_order`], each once, with samples that are sorted, unique per timestamp and inside
/// `spec.range`; a series without samples is skipped. Memory is bounded by one compressed row group.
///
/// # Errors
/// Input that breaks these rules, label columns that are not allowed, and what the output refuses.
pub fn write_block<W: Write + Send>(
    out: W,
    spec: &BlockSpec,
    series: impl IntoIterator<Item = SeriesRun>,
) -> Result<BlockStats, BlockError> {
    let mut writer = BlockWriter::start(out, spec)?;
    for run in series {
        writer.push_run(&run)?;
    }
    writer.finish()
}

/// Returns the columns of the file: `__name__` first, then the list as given.
fn file_columns(label_columns: &[String]) -> Result<Vec<String>, BlockError> {
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

struct BlockWriter<'a, W: Write + Send> {
    spec: &'a BlockSpec,
    columns: Vec<String>,
    places: HashMap<String, usize>,
    used: Vec<bool>,
    schema: SchemaRef,
    out: ArrowWriter<W>,
    batch: RowBuffer,
    group_samples: u64,
    previous: Option<Labels>,
    stats: BlockStats,
}

impl<'a, W: Write + Send> BlockWriter<'a, W> {
    fn start(out: W, spec: &'a BlockSpec) -> Result<Self, BlockError> {
        let columns = file_columns(&spec.label_columns)?;
        let schema = arrow_schema(&columns, LabelForm::Strings);
        let properties = writer_properties(&columns, spec.zstd_level).map_err(BlockError::Write)?;
        let options = ArrowWriterOptions::new()
            .with_properties(properties)
            .with_skip_arrow_metadata(true)
            .with_schema_root("perennial_samples".to_owned());
        let out = ArrowWriter::try_new_with_options(out, SchemaRef::clone(&schema), options);
        Ok(Self {
            spec,
            places: columns.iter().cloned().enumerate().map(|(i, name)| (name, i)).collect(),
            used: vec![false; columns.len()],
            batch: RowBuffer::new(SchemaRef::clone(&schema), columns.len()),
            out: out.map_err(BlockError::Write)?,
            columns,
            schema,
            group_samples: 0,
            previous: None,
            stats: BlockStats::default(),
        })
    }

    fn push_run(&mut self, run: &SeriesRun) -> Result<(), BlockError> {
        if let Some(previous) = &self.previous
            && block_order(previous, &run.labels) != Ordering::Less
        {
            let (previous, series) = (previous.to_string(), run.labels.to_string());
            return Err(BlockError::SeriesOrder { previous, series });
        }
        check_samples(run, self.spec.range)?;
        let (Some(first), Some(last)) = (run.samples.first(), run.samples.last()) else { return Ok(()) };
        let labels = SplitLabels::new(&run.labels, &self.places);
        for (used, value) in self.used.iter_mut().zip(&labels.columns) {
            *used |= value.is_some();
        }
        for row in split_rows(&run.samples) {
            let summary = self.batch.push(&labels, row);
            self.stats.rows += 1;
            self.stats.stale += summary.stale as u64;
            self.group_samples += row.len() as u64;
            if self.batch.samples() >= BATCH_SAMPLES || self.batch.rows() >= BATCH_ROWS {
                self.write_batch()?;
            }
            let rows = self.out.in_progress_rows() + self.batch.rows();
            if self.group_samples >= ROW_GROUP_SAMPLES || rows >= ROW_GROUP_ROWS {
                self.end_row_group()?;
            }
        }
        self.count_run(run, *first, *last);
        self.previous = Some(run.labels.clone());
        Ok(())
    }

    fn count_run(&mut self, run: &SeriesRun, first: Sample, last: Sample) {
        let stats = &mut self.stats;
        let end_ms = last.ts_ms.saturating_add(1);
        if stats.series == 0 {
            run.labels.metric_name().clone_into(&mut stats.metric_min);
            (stats.min_time_ms, stats.max_time_ms) = (first.ts_ms, end_ms);
        }
        stats.series += 1;
        stats.samples += run.samples.len() as u64;
        stats.min_time_ms = stats.min_time_ms.min(first.ts_ms);
        stats.max_time_ms = stats.max_time_ms.max(end_ms);
        run.labels.metric_name().clone_into(&mut stats.metric_max);
    }

    fn write_batch(&mut self) -> Result<(), BlockError> {
        if self.batch.rows() == 0 {
            return Ok(());
        }
        let empty = RowBuffer::new(SchemaRef::clone(&self.schema), self.columns.len());
        let full = std::mem::replace(&mut self.batch, empty);
        let batch = full.finish().map_err(|e| BlockError::Write(e.into()))?;
        self.out.write(&batch).map_err(BlockError::Write)
    }

    fn end_row_group(&mut self) -> Result<(), BlockError> {
        self.write_batch()?;
        self.group_samples = 0;
        self.out.flush().map_err(BlockError::Write)
    }

    fn finish(mut self) -> Result<BlockStats, BlockError> {
        self.write_batch()?;
        let used = self.columns.into_iter().zip(self.used);
        self.stats.label_columns = used.filter(|(_, used)| *used).map(|(name, _)| name).collect();
        for pair in encode_meta(self.spec, &self.stats) {
            self.out.append_key_value_metadata(pair);
        }
        self.out.close().map_err(BlockError::Write)?;
        Ok(self.stats)
    }
}

fn check_samples(run: &SeriesRun, range: TimeRange) -> Result<(), BlockError> {
    let refused = |sample: &Sample, reason| {
        Err(BlockError::SampleOrder { series: run.labels.to_string(), ts_ms: sample.ts_ms, reason })
    };
    if let Some(pair) = run.samples.windows(2).find(|w| w[0].ts_ms >= w[1].ts_ms) {
        return refused(&pair[1], "not after the one before it");
    }
    for end in [run.samples.first(), run.samples.last()].into_iter().flatten() {
        // `end_ms == i64::MAX` means the end of time, which half-open ranges cannot say otherwise.
        let at_end_of_time = end.ts_ms == i64::MAX && range.end_ms == i64::MAX;
        if !range.contains(end.ts_ms) && !at_end_of_time {
            return refused(end, "outside of the block's range");
        }
    }
    Ok(())
}
