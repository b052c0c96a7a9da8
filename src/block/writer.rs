//! Writing float samples: runs in, row groups out, with at most one row group in memory.

use std::io::Write;

use arrow::datatypes::SchemaRef;

use super::error::BlockError;
use super::file::{BlockFile, check_times, file_columns};
use super::meta::{BlockSpec, BlockStats};
use super::row::{SeriesRun, split_rows};
use super::row_buffer::RowBuffer;
use super::schema::{LabelForm, ScalePlace, arrow_schema, writer_properties};
use crate::model::BlockKind;

/// A row group ends with the series that reaches this many samples: the rows of one series are read together.
pub(super) const ROW_GROUP_SAMPLES: u64 = 4_000_000;
/// A row group ends within a series that reaches this many samples.
const ROW_GROUP_SAMPLES_MAX: u64 = 2 * ROW_GROUP_SAMPLES;

/// Writes one block of float samples and returns what it holds.
///
/// Series come in [`block_order`](super::block_order), each once, with samples that are sorted, unique per timestamp
/// and inside `spec.range`; a series without samples is skipped. Memory is bounded by one compressed row group.
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
    writer.write_batch()?;
    writer.file.finish()
}

struct BlockWriter<'a, W: Write + Send> {
    file: BlockFile<'a, W>,
    schema: SchemaRef,
    label_columns: usize,
    batch: RowBuffer,
    group_samples: u64,
}

impl<'a, W: Write + Send> BlockWriter<'a, W> {
    fn start(out: W, spec: &'a BlockSpec) -> Result<Self, BlockError> {
        let columns = file_columns(&spec.label_columns)?;
        let schema = arrow_schema(&columns, LabelForm::Strings, ScalePlace::AfterCounts);
        let properties = writer_properties(&columns, spec.zstd_level);
        let form = (SchemaRef::clone(&schema), properties);
        let label_columns = columns.len();
        let file = BlockFile::start(out, spec, BlockKind::Samples, columns, form)?;
        let batch = RowBuffer::new(SchemaRef::clone(&schema), label_columns);
        Ok(Self { file, schema, label_columns, batch, group_samples: 0 })
    }

    fn push_run(&mut self, run: &SeriesRun) -> Result<(), BlockError> {
        let (Some(first), Some(last)) = (run.samples.first(), run.samples.last()) else { return Ok(()) };
        let labels = self.file.begin_series(&run.labels)?;
        check_times(&run.labels, run.samples.iter().map(|s| s.ts_ms), self.file.spec.range, true)?;
        for row in split_rows(&run.samples) {
            let summary = self.batch.push(&labels, row);
            self.file.stats.rows += 1;
            self.file.stats.stale += summary.stale as u64;
            self.group_samples += row.len() as u64;
            if self.batch.is_full() {
                self.write_batch()?;
            }
            if self.group_samples >= ROW_GROUP_SAMPLES_MAX {
                self.end_row_group()?;
            }
        }
        if self.group_samples >= ROW_GROUP_SAMPLES || self.file.is_full(self.batch.rows()) {
            self.end_row_group()?;
        }
        self.file.count(run.labels.metric_name(), first.ts_ms, last.ts_ms, run.samples.len() as u64);
        Ok(())
    }

    fn end_row_group(&mut self) -> Result<(), BlockError> {
        self.write_batch()?;
        self.group_samples = 0;
        self.file.end_row_group()
    }

    fn write_batch(&mut self) -> Result<(), BlockError> {
        if self.batch.rows() == 0 {
            return Ok(());
        }
        let empty = RowBuffer::new(SchemaRef::clone(&self.schema), self.label_columns);
        self.file.write(std::mem::replace(&mut self.batch, empty).finish())
    }
}
