//! Rows of histograms gathered column by column, until they are handed to the Parquet writer as one Arrow batch.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int32Array, RecordBatch, TimestampMillisecondArray};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, SchemaRef, TimestampMillisecondType};
use arrow::error::ArrowError;

use super::layout::{Side, is_bare};
use super::matrix::{Matrix, absolute};
use super::row::HistogramRow;
use super::schema::{
    CUSTOM_VALUES, FRACTIONAL, RESET_HINT, SIDES, SPANS, SUM, WHOLE, bucket_element, bucket_list, number,
};
use crate::block::label_buffer::{LabelBuffer, SplitLabels};
use crate::block::lists::{Lists, NestedLists};
use crate::block::schema::{ST, TS};
use crate::model::{HistogramSample, NativeHistogram, is_stale};

/// Rows are handed to the Parquet writer in batches of about this many samples and bucket counts.
const BATCH_ELEMENTS: usize = 1 << 18;

/// The bucket counts of one side.
struct SideLists {
    first: Lists<Int64Type>,
    increments: NestedLists<Int64Type>,
    float: NestedLists<Float64Type>,
}

impl SideLists {
    fn new() -> Self {
        Self { first: Lists::new(), increments: NestedLists::new(), float: NestedLists::new() }
    }

    fn push(&mut self, float: bool, side: &Side, samples: &[HistogramSample], positive: bool) {
        if float {
            let counts = Matrix::gather(side, samples, |sample| match &sample.histogram {
                NativeHistogram::Float(h) if positive => {
                    Some((&h.positive_spans, h.positive_buckets.clone()))
                }
                NativeHistogram::Float(h) => Some((&h.negative_spans, h.negative_buckets.clone())),
                NativeHistogram::Int(_) => None,
            });
            counts.buckets().for_each(|bucket| self.float.push(bucket.iter().copied()));
        } else {
            let counts = Matrix::gather(side, samples, |sample| match &sample.histogram {
                NativeHistogram::Int(h) if positive => {
                    Some((&h.positive_spans, absolute(&h.positive_buckets)))
                }
                NativeHistogram::Int(h) => Some((&h.negative_spans, absolute(&h.negative_buckets))),
                NativeHistogram::Float(_) => None,
            });
            for bucket in counts.buckets() {
                let first = bucket.iter().flatten().next().copied();
                self.first.extend_nullable([first]);
                let mut before = first.unwrap_or(0);
                self.increments.push(bucket.iter().map(|count| {
                    let increment = (*count)?.wrapping_sub(before);
                    before = before.wrapping_add(increment);
                    Some(increment)
                }));
            }
        }
        self.first.end_row(!float);
        self.increments.end_row(!float);
        self.float.end_row(float);
    }

    fn finish(self, [first, increments, float]: [&str; 3]) -> Result<[ArrayRef; 3], ArrowError> {
        Ok([
            self.first.finish(number(first))?,
            self.increments.finish(bucket_list(increments), bucket_element(increments))?,
            self.float.finish(bucket_list(float), bucket_element(float))?,
        ])
    }
}

/// The columns of the rows gathered so far.
pub(super) struct HistogramBuffer {
    labels: LabelBuffer,
    times: [Vec<i64>; 2],
    counts: [Vec<i32>; 2],
    schemas: Vec<i32>,
    zero_thresholds: Vec<f64>,
    custom_values: Lists<Float64Type>,
    spans: [Lists<Int64Type>; 4],
    ts: Lists<TimestampMillisecondType>,
    st: Lists<TimestampMillisecondType>,
    reset_hints: Lists<Int32Type>,
    whole: [Lists<Int64Type>; 2],
    fractional: [Lists<Float64Type>; 2],
    sum: Lists<Float64Type>,
    sides: [SideLists; 2],
}

impl HistogramBuffer {
    pub(super) fn new(label_columns: usize) -> Self {
        Self {
            labels: LabelBuffer::new(label_columns),
            times: Default::default(),
            counts: Default::default(),
            schemas: Vec::new(),
            zero_thresholds: Vec::new(),
            custom_values: Lists::new(),
            spans: std::array::from_fn(|_| Lists::new()),
            ts: Lists::new(),
            st: Lists::new(),
            reset_hints: Lists::new(),
            whole: std::array::from_fn(|_| Lists::new()),
            fractional: std::array::from_fn(|_| Lists::new()),
            sum: Lists::new(),
            sides: std::array::from_fn(|_| SideLists::new()),
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.labels.rows()
    }

    /// Returns whether the rows gathered so far are enough for a batch.
    pub(super) fn is_full(&self) -> bool {
        self.labels.is_full() || self.elements() >= BATCH_ELEMENTS
    }

    /// Returns how many samples and bucket counts there are.
    pub(super) fn elements(&self) -> usize {
        let buckets = |side: &SideLists| side.increments.elements() + side.float.elements();
        self.ts.elements.len() + self.sides.iter().map(buckets).sum::<usize>()
    }

    /// Appends one row and returns how many stale markers it has.
    pub(super) fn push(&mut self, labels: &SplitLabels<'_>, row: &HistogramRow<'_>) -> usize {
        let (layout, samples) = (&row.layout, row.samples);
        self.labels.push(labels);
        self.times[0].push(samples.first().map_or(0, |s| s.ts_ms));
        self.times[1].push(samples.last().map_or(0, |s| s.ts_ms));
        let stale = samples.iter().filter(|s| s.histogram.is_stale()).count();
        for (column, number) in self.counts.iter_mut().zip([samples.len(), stale]) {
            column.push(number as i32);
        }
        self.schemas.push(layout.schema);
        self.zero_thresholds.push(layout.zero_threshold);
        self.custom_values.extend(layout.custom_values.iter().copied());
        self.custom_values.end_row(!layout.custom_values.is_empty());
        let [positive_offsets, positive_lengths, negative_offsets, negative_lengths] = &mut self.spans;
        for (offsets, lengths, side) in [
            (positive_offsets, positive_lengths, &layout.positive),
            (negative_offsets, negative_lengths, &layout.negative),
        ] {
            offsets.extend(side.spans.iter().map(|span| i64::from(span.offset)));
            offsets.end_row(true);
            lengths.extend(side.spans.iter().map(|span| i64::from(span.length)));
            lengths.end_row(true);
        }
        self.push_samples(layout.float, samples);
        let [positive, negative] = &mut self.sides;
        positive.push(layout.float, &layout.positive, samples, true);
        negative.push(layout.float, &layout.negative, samples, false);
        stale
    }

    fn push_samples(&mut self, float: bool, samples: &[HistogramSample]) {
        self.ts.extend(samples.iter().map(|s| s.ts_ms));
        self.ts.end_row(true);
        let started = samples.iter().any(|s| s.start_ms != 0);
        if started {
            self.st.extend_nullable(samples.iter().map(|s| (s.start_ms != 0).then_some(s.start_ms)));
        }
        self.st.end_row(started);
        for sample in samples {
            let (hint, bare) = (reset_hint(&sample.histogram), is_bare(sample));
            self.reset_hints.extend([i32::from(hint)]);
            match &sample.histogram {
                // The stored integer has the same bits.
                NativeHistogram::Int(h) => {
                    for (column, count) in self.whole.iter_mut().zip([h.count, h.zero_count]) {
                        column.extend_nullable([(!bare).then_some(count as i64)]);
                    }
                }
                NativeHistogram::Float(h) => {
                    for (column, count) in self.fractional.iter_mut().zip([h.count, h.zero_count]) {
                        column.extend_nullable([(!bare).then_some(count)]);
                    }
                }
            }
            let sum = sample.histogram.sum();
            self.sum.extend_nullable([(!is_stale(sum)).then_some(sum)]);
        }
        self.reset_hints.end_row(true);
        self.whole.iter_mut().for_each(|column| column.end_row(!float));
        self.fractional.iter_mut().for_each(|column| column.end_row(float));
        self.sum.end_row(true);
    }

    /// Returns the rows as a batch.
    ///
    /// # Errors
    /// None in practice: Arrow checks again what the columns are by construction.
    pub(super) fn finish(self, schema: SchemaRef) -> Result<RecordBatch, ArrowError> {
        let mut columns = self.labels.finish()?;
        for times in self.times {
            columns.push(Arc::new(TimestampMillisecondArray::from(times).with_timezone("UTC")));
        }
        columns.extend(self.counts.map(|c| Arc::new(Int32Array::from(c)) as ArrayRef));
        columns.push(Arc::new(Int32Array::from(self.schemas)));
        columns.push(Arc::new(Float64Array::from(self.zero_thresholds)));
        columns.push(self.custom_values.finish(number(CUSTOM_VALUES))?);
        for (lists, name) in self.spans.into_iter().zip(SPANS) {
            columns.push(lists.finish(number(name))?);
        }
        columns.push(self.ts.finish(number(TS))?);
        columns.push(self.st.finish(number(ST))?);
        columns.push(self.reset_hints.finish(number(RESET_HINT))?);
        let families = self.whole.into_iter().zip(self.fractional);
        for ((whole, fractional), (whole_name, fractional_name)) in
            families.zip(WHOLE.into_iter().zip(FRACTIONAL))
        {
            columns.push(whole.finish(number(whole_name))?);
            columns.push(fractional.finish(number(fractional_name))?);
        }
        columns.push(self.sum.finish(number(SUM))?);
        for (side, names) in self.sides.into_iter().zip(SIDES) {
            columns.extend(side.finish(names)?);
        }
        RecordBatch::try_new(schema, columns)
    }
}

fn reset_hint(histogram: &NativeHistogram) -> u8 {
    match histogram {
        NativeHistogram::Int(h) => h.counter_reset_hint,
        NativeHistogram::Float(h) => h.counter_reset_hint,
    }
}
