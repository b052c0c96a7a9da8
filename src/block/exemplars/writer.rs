//! Writing a block of exemplars.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringBuilder, TimestampMillisecondArray};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use super::schema::{IDS, arrow_schema, writer_properties};
use crate::block::error::BlockError;
use crate::block::file::{BlockFile, check_times, file_columns};
use crate::block::label_buffer::{LabelBuffer, SplitLabels};
use crate::block::lists::LabelMaps;
use crate::block::meta::{BlockSpec, BlockStats};
use crate::block::schema::LabelForm;
use crate::model::{BlockKind, Exemplar, Labels};

/// Writes one block of exemplars and returns what it holds.
///
/// Series come in [`block_order`](crate::block::block_order), each once, with exemplars that are normalized and inside
/// `spec.range`; a series without exemplars is skipped.
///
/// # Errors
/// Input that breaks these rules, label columns that are not allowed, and what the output refuses.
pub fn write_exemplars<W: Write + Send>(
    out: W,
    spec: &BlockSpec,
    series: impl IntoIterator<Item = (Labels, Vec<Exemplar>)>,
) -> Result<BlockStats, BlockError> {
    let columns = file_columns(&spec.label_columns)?;
    let (schema, label_columns) = (arrow_schema(&columns, LabelForm::Strings), columns.len());
    let form = (SchemaRef::clone(&schema), writer_properties(&columns, spec.zstd_level));
    let mut file = BlockFile::start(out, spec, BlockKind::Exemplars, columns, form)?;
    let mut batch = ExemplarBuffer::new(label_columns);
    for (labels, exemplars) in series {
        let (Some(first), Some(last)) = (exemplars.first(), exemplars.last()) else { continue };
        let split = file.begin_series(&labels)?;
        check_times(&labels, exemplars.iter().map(|e| e.ts_ms), spec.range, false)?;
        for exemplar in &exemplars {
            batch.push(&split, exemplar);
            if batch.labels.is_full() {
                let full = std::mem::replace(&mut batch, ExemplarBuffer::new(label_columns));
                file.write(full.finish(SchemaRef::clone(&schema)))?;
                if file.is_full(0) {
                    file.end_row_group()?;
                }
            }
        }
        file.stats.rows += exemplars.len() as u64;
        file.count(labels.metric_name(), first.ts_ms, last.ts_ms, exemplars.len() as u64);
    }
    file.write(batch.finish(schema))?;
    file.finish()
}

struct ExemplarBuffer {
    labels: LabelBuffer,
    times: Vec<i64>,
    values: Vec<f64>,
    ids: [StringBuilder; 2],
    others: LabelMaps,
}

impl ExemplarBuffer {
    fn new(label_columns: usize) -> Self {
        Self {
            labels: LabelBuffer::new(label_columns),
            times: Vec::new(),
            values: Vec::new(),
            ids: Default::default(),
            others: LabelMaps::new(),
        }
    }

    fn push(&mut self, labels: &SplitLabels<'_>, exemplar: &Exemplar) {
        self.labels.push(labels);
        self.times.push(exemplar.ts_ms);
        self.values.push(exemplar.value);
        for (column, (label, _)) in self.ids.iter_mut().zip(IDS) {
            column.append_option(exemplar.labels.get(label));
        }
        let other = |(name, _): &(&str, &str)| IDS.iter().all(|(id, _)| id != name);
        self.others.push_row(&exemplar.labels.iter().filter(other).collect::<Vec<_>>());
    }

    fn finish(self, schema: SchemaRef) -> Result<RecordBatch, ArrowError> {
        let mut columns = self.labels.finish()?;
        columns.push(Arc::new(TimestampMillisecondArray::from(self.times).with_timezone("UTC")));
        columns.push(Arc::new(Float64Array::from(self.values)));
        columns.extend(self.ids.map(|mut ids| Arc::new(ids.finish()) as ArrayRef));
        columns.push(self.others.finish()?);
        RecordBatch::try_new(schema, columns)
    }
}
