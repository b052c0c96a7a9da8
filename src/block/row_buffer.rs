//! Rows gathered column by column, until they are handed to the Parquet writer as one Arrow batch.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, Float64Builder, Int32Array, Int32Builder, RecordBatch, TimestampMillisecondArray,
};
use arrow::datatypes::{ArrowPrimitiveType, Float64Type, Int64Type, SchemaRef, TimestampMillisecondType};
use arrow::error::ArrowError;

use super::decimal::scale_values;
use super::label_buffer::{LabelBuffer, SplitLabels};
use super::lists::Lists;
use super::row::{RowSummary, summarize};
use super::schema;
use crate::model::{Sample, is_stale};

/// Rows are handed to the Parquet writer in batches of about this many samples; more leaves the processor's cache.
const BATCH_SAMPLES: usize = 1 << 16;

/// The columns of the rows gathered so far.
pub(super) struct RowBuffer {
    schema: SchemaRef,
    labels: LabelBuffer,
    min_times: Vec<i64>,
    max_times: Vec<i64>,
    counts: [Vec<i32>; 3],
    finite: [Float64Builder; 6],
    ts: Lists<TimestampMillisecondType>,
    st: Lists<TimestampMillisecondType>,
    scales: Int32Builder,
    scaled: Lists<Int64Type>,
    values: Lists<Float64Type>,
    /// The row's values that are not stale markers.
    live: Vec<f64>,
    /// The row's scaled integers, one per live value.
    integers: Vec<i64>,
}

impl RowBuffer {
    pub(super) fn new(schema: SchemaRef, label_columns: usize) -> Self {
        Self {
            schema,
            labels: LabelBuffer::new(label_columns),
            min_times: Vec::new(),
            max_times: Vec::new(),
            counts: Default::default(),
            finite: Default::default(),
            ts: Lists::new(),
            st: Lists::new(),
            scales: Int32Builder::new(),
            scaled: Lists::new(),
            values: Lists::new(),
            live: Vec::new(),
            integers: Vec::new(),
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.labels.rows()
    }

    /// Returns whether the rows gathered so far are enough for a batch.
    pub(super) fn is_full(&self) -> bool {
        self.labels.is_full() || self.ts.elements.len() >= BATCH_SAMPLES
    }

    /// Appends one row and returns its statistics. `samples` holds at least one sample.
    pub(super) fn push(&mut self, labels: &SplitLabels<'_>, samples: &[Sample]) -> RowSummary {
        self.labels.push(labels);
        self.min_times.push(samples.first().map_or(0, |s| s.ts_ms));
        self.max_times.push(samples.last().map_or(0, |s| s.ts_ms));
        let summary = summarize(samples);
        for (column, number) in self.counts.iter_mut().zip([samples.len(), summary.stale, summary.nonfinite])
        {
            column.push(number as i32);
        }
        let finite = summary.finite.map(|f| [f.sum, f.min, f.max, f.first, f.last, f.increase]);
        for (i, column) in self.finite.iter_mut().enumerate() {
            column.append_option(finite.map(|f| f[i]));
        }
        self.push_times(samples);
        self.push_values(samples, &summary);
        summary
    }

    fn push_times(&mut self, samples: &[Sample]) {
        self.ts.extend(samples.iter().map(|s| s.ts_ms));
        self.ts.end_row(true);
        let started = samples.iter().any(|s| s.start_ms != 0);
        if started {
            self.st.extend_nullable(samples.iter().map(|s| (s.start_ms != 0).then_some(s.start_ms)));
        }
        self.st.end_row(started);
    }

    fn push_values(&mut self, samples: &[Sample], summary: &RowSummary) {
        self.live.clear();
        self.integers.clear();
        self.live.extend(samples.iter().map(|s| s.value).filter(|v| !is_stale(*v)));
        let scale = match summary.finite {
            Some(_) if summary.nonfinite == 0 => scale_values(&self.live, &mut self.integers),
            _ => None,
        };
        self.scales.append_option(scale.map(i32::from));
        if scale.is_some() {
            append_live(&mut self.scaled, &self.integers, samples, summary.stale);
        } else {
            append_live(&mut self.values, &self.live, samples, summary.stale);
        }
        self.scaled.end_row(scale.is_some());
        self.values.end_row(scale.is_none());
    }

    /// Returns the rows as a batch.
    ///
    /// # Errors
    /// None in practice: Arrow checks again what the columns are by construction.
    pub(super) fn finish(self) -> Result<RecordBatch, ArrowError> {
        let utc = |times: Vec<i64>| TimestampMillisecondArray::from(times).with_timezone("UTC");
        let mut columns = self.labels.finish()?;
        columns.push(Arc::new(utc(self.min_times)));
        columns.push(Arc::new(utc(self.max_times)));
        columns.extend(self.counts.map(|c| Arc::new(Int32Array::from(c)) as ArrayRef));
        let mut scales = self.scales;
        columns.push(Arc::new(scales.finish()));
        for mut statistic in self.finite {
            let array: Float64Array = statistic.finish();
            columns.push(Arc::new(array));
        }
        columns.push(self.ts.finish(schema::sample_element(schema::TS))?);
        columns.push(self.st.finish(schema::sample_element(schema::ST))?);
        columns.push(self.scaled.finish(schema::sample_element(schema::SCALED))?);
        columns.push(self.values.finish(schema::sample_element(schema::VALUES))?);
        RecordBatch::try_new(self.schema, columns)
    }
}

/// Appends live elements, with a NULL where the sample is a stale marker.
fn append_live<T: ArrowPrimitiveType>(
    lists: &mut Lists<T>,
    live: &[T::Native],
    samples: &[Sample],
    stale: usize,
) {
    if stale == 0 {
        return lists.extend(live.iter().copied());
    }
    let mut live = live.iter();
    lists
        .extend_nullable(samples.iter().map(|s| if is_stale(s.value) { None } else { live.next().copied() }));
}
