//! Rows gathered column by column, until they are handed to the Parquet writer as one Arrow batch.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, Float64Builder, Int32Array, Int32Builder, Int64Array, ListArray, MapArray,
    NullBufferBuilder, PrimitiveArray, RecordBatch, StringBuilder, StructArray, TimestampMillisecondArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{ArrowPrimitiveType, Float64Type, Int64Type, SchemaRef, TimestampMillisecondType};
use arrow::error::ArrowError;

use super::decimal::scale_values;
use super::row::{RowSummary, summarize};
use super::schema;
use crate::model::{Labels, Sample, is_stale};

/// A list column under construction.
struct Lists<T: ArrowPrimitiveType> {
    offsets: Vec<i32>,
    rows: NullBufferBuilder,
    elements: Vec<T::Native>,
    valid: NullBufferBuilder,
}

impl<T: ArrowPrimitiveType> Lists<T> {
    fn new() -> Self {
        Self {
            offsets: vec![0],
            rows: NullBufferBuilder::new(0),
            elements: Vec::new(),
            valid: NullBufferBuilder::new(0),
        }
    }

    fn end_row(&mut self, present: bool) {
        // A batch ends soon after 65,536 elements.
        self.offsets.push(self.elements.len() as i32);
        self.rows.append(present);
    }

    fn finish(mut self, column: &str) -> Result<ArrayRef, ArrowError> {
        let element = schema::sample_element(column);
        let values = PrimitiveArray::<T>::try_new(self.elements.into(), self.valid.finish())?
            .with_data_type(element.data_type().clone());
        let offsets = OffsetBuffer::new(self.offsets.into());
        Ok(Arc::new(ListArray::try_new(element, offsets, Arc::new(values), self.rows.finish())?))
    }
}

/// The map column under construction.
struct RestLabels {
    offsets: Vec<i32>,
    rows: NullBufferBuilder,
    names: StringBuilder,
    values: StringBuilder,
    len: i32,
}

impl RestLabels {
    fn new() -> Self {
        let (names, values) = (StringBuilder::new(), StringBuilder::new());
        Self { offsets: vec![0], rows: NullBufferBuilder::new(0), names, values, len: 0 }
    }

    fn push_row(&mut self, labels: &[(&str, &str)]) {
        for (name, value) in labels {
            self.names.append_value(name);
            self.values.append_value(value);
            self.len += 1;
        }
        self.offsets.push(self.len);
        self.rows.append(!labels.is_empty());
    }

    fn finish(mut self) -> Result<ArrayRef, ArrowError> {
        let columns: Vec<ArrayRef> = vec![Arc::new(self.names.finish()), Arc::new(self.values.finish())];
        let entries = StructArray::try_new(schema::map_fields(), columns, None)?;
        let offsets = OffsetBuffer::new(self.offsets.into());
        let map = MapArray::try_new(schema::map_entries(), offsets, entries, self.rows.finish(), false)?;
        Ok(Arc::new(map))
    }
}

/// A series' labels, sorted into the columns of the file.
#[derive(Debug)]
pub(super) struct SplitLabels<'a> {
    pub(super) series_hash: i64,
    /// One value per label column.
    pub(super) columns: Vec<Option<&'a str>>,
    /// The labels without a column.
    pub(super) rest: Vec<(&'a str, &'a str)>,
}

impl<'a> SplitLabels<'a> {
    /// Sorts labels into columns, by a look-up from name to the column's place.
    pub(super) fn new(labels: &'a Labels, places: &std::collections::HashMap<String, usize>) -> Self {
        let mut split = Self {
            // The hash is stored as the signed integer of the same bits.
            series_hash: labels.series_hash() as i64,
            columns: vec![None; places.len()],
            rest: Vec::new(),
        };
        for (name, value) in labels {
            match places.get(name) {
                Some(place) => split.columns[*place] = Some(value),
                None => split.rest.push((name, value)),
            }
        }
        split
    }
}

/// The columns of the rows gathered so far.
pub(super) struct RowBuffer {
    schema: SchemaRef,
    series: Vec<i64>,
    labels: Vec<StringBuilder>,
    rest: RestLabels,
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
            series: Vec::new(),
            labels: (0..label_columns).map(|_| StringBuilder::new()).collect(),
            rest: RestLabels::new(),
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
        self.series.len()
    }

    pub(super) fn samples(&self) -> usize {
        self.ts.elements.len()
    }

    /// Appends one row and returns its statistics. `samples` holds at least one sample.
    pub(super) fn push(&mut self, labels: &SplitLabels<'_>, samples: &[Sample]) -> RowSummary {
        self.series.push(labels.series_hash);
        for (column, value) in self.labels.iter_mut().zip(&labels.columns) {
            column.append_option(*value);
        }
        self.rest.push_row(&labels.rest);
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
        self.ts.elements.extend(samples.iter().map(|s| s.ts_ms));
        self.ts.valid.append_n_non_nulls(samples.len());
        self.ts.end_row(true);
        let started = samples.iter().any(|s| s.start_ms != 0);
        if started {
            for sample in samples {
                self.st.elements.push(sample.start_ms);
                self.st.valid.append(sample.start_ms != 0);
            }
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
        let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(self.series))];
        for mut label in self.labels {
            columns.push(Arc::new(label.finish()));
        }
        columns.push(self.rest.finish()?);
        columns.push(Arc::new(utc(self.min_times)));
        columns.push(Arc::new(utc(self.max_times)));
        columns.extend(self.counts.map(|c| Arc::new(Int32Array::from(c)) as ArrayRef));
        for mut statistic in self.finite {
            let array: Float64Array = statistic.finish();
            columns.push(Arc::new(array));
        }
        columns.push(self.ts.finish(schema::TS)?);
        columns.push(self.st.finish(schema::ST)?);
        let mut scales = self.scales;
        columns.push(Arc::new(scales.finish()));
        columns.push(self.scaled.finish(schema::SCALED)?);
        columns.push(self.values.finish(schema::VALUES)?);
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
        lists.elements.extend_from_slice(live);
        lists.valid.append_n_non_nulls(live.len());
        return;
    }
    let mut live = live.iter();
    for sample in samples {
        let element = if is_stale(sample.value) { None } else { live.next() };
        lists.elements.push(element.copied().unwrap_or_default());
        lists.valid.append(element.is_some());
    }
}
