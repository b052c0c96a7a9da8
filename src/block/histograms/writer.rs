//! Writing a block of histograms.

use std::io::Write;

use arrow::datatypes::SchemaRef;

use super::schema::{arrow_schema, writer_properties};
use super::{HistogramBuffer, HistogramRun, split_rows};
use crate::block::error::BlockError;
use crate::block::file::{BlockFile, check_times, file_columns};
use crate::block::meta::{BlockSpec, BlockStats};
use crate::block::schema::LabelForm;
use crate::model::BlockKind;

/// A row group ends with the row that reaches this many samples and bucket counts.
const ROW_GROUP_ELEMENTS: usize = 16_000_000;

/// Writes one block of native histograms and returns what it holds.
///
/// Series come in [`block_order`](crate::block::block_order), each once, with samples that are sorted, unique per
/// timestamp and inside `spec.range`; a series without samples is skipped.
///
/// # Errors
/// Input that breaks these rules, label columns that are not allowed, and what the output refuses.
pub fn write_histograms<W: Write + Send>(
    out: W,
    spec: &BlockSpec,
    series: impl IntoIterator<Item = HistogramRun>,
) -> Result<BlockStats, BlockError> {
    let columns = file_columns(&spec.label_columns)?;
    let (schema, label_columns) = (arrow_schema(&columns, LabelForm::Strings), columns.len());
    let form = (SchemaRef::clone(&schema), writer_properties(&columns, spec.zstd_level));
    let file = BlockFile::start(out, spec, BlockKind::Histograms, columns, form)?;
    let batch = HistogramBuffer::new(label_columns);
    let mut writer = HistogramWriter { file, schema, label_columns, batch, group_elements: 0 };
    for run in series {
        writer.push_run(&run)?;
    }
    writer.write_batch()?;
    writer.file.finish()
}

struct HistogramWriter<'a, W: Write + Send> {
    file: BlockFile<'a, W>,
    schema: SchemaRef,
    label_columns: usize,
    batch: HistogramBuffer,
    group_elements: usize,
}

impl<W: Write + Send> HistogramWriter<'_, W> {
    fn push_run(&mut self, run: &HistogramRun) -> Result<(), BlockError> {
        let (Some(first), Some(last)) = (run.histograms.first(), run.histograms.last()) else {
            return Ok(());
        };
        let labels = self.file.begin_series(&run.labels)?;
        check_times(&run.labels, run.histograms.iter().map(|h| h.ts_ms), self.file.spec.range, true)?;
        for row in split_rows(&run.histograms) {
            self.file.stats.stale += self.batch.push(&labels, &row) as u64;
            self.file.stats.rows += 1;
            if self.batch.is_full() {
                self.write_batch()?;
            }
            let elements = self.group_elements + self.batch.elements();
            if elements >= ROW_GROUP_ELEMENTS || self.file.is_full(self.batch.rows()) {
                self.write_batch()?;
                self.group_elements = 0;
                self.file.end_row_group()?;
            }
        }
        self.file.count(run.labels.metric_name(), first.ts_ms, last.ts_ms, run.histograms.len() as u64);
        Ok(())
    }

    fn write_batch(&mut self) -> Result<(), BlockError> {
        if self.batch.rows() == 0 {
            return Ok(());
        }
        self.group_elements += self.batch.elements();
        let batch = std::mem::replace(&mut self.batch, HistogramBuffer::new(self.label_columns));
        self.file.write(batch.finish(SchemaRef::clone(&self.schema)))
    }
}
