//! Rows of histograms out of arbitrary lists.

use std::sync::Arc;

use arrow::array::{ArrayRef, ArrowPrimitiveType, Float64Array, Int32Array};
use arrow::datatypes::{DataType, Field, Float64Type, Int32Type, Int64Type, TimestampMillisecondType};

use super::read::append_rows;
use super::schema::{
    FIXED_BEFORE_LAYOUT, FRACTIONAL, SIDES, SPANS, WHOLE, arrow_schema, bucket_element, bucket_list,
    fixed_columns,
};
use super::{HistogramBuffer, split_rows};
use crate::block::label_buffer::SplitLabels;
use crate::block::lists::{Lists, NestedLists};
use crate::block::schema::LabelForm;
use crate::model::{HistogramSample, Labels};

/// Columns of `fixed_columns` before the layout.
const BEFORE_LAYOUT: usize = FIXED_BEFORE_LAYOUT - 1;

/// Decodes rows whose lists are made of arbitrary bytes: nothing may panic, and what is taken for histograms must come
/// back the same from a row of its own.
///
/// # Panics
/// When one of these rules is broken.
pub fn fuzz_histogram_rows(data: &[u8]) {
    let mut source = Source::new(data);
    let rows = usize::from(source.next() % 3) + 1;
    let columns = fixed_columns().into_iter().skip(BEFORE_LAYOUT);
    let columns: Vec<ArrayRef> = columns.map(|field| source.column(&field, rows)).collect();
    let mut decoded = Vec::new();
    if append_rows(&columns, rows, &mut decoded).is_none() {
        return;
    }
    for sample in decoded.into_iter().flatten() {
        assert_eq!(through_a_row(&sample), Some(sample));
    }
}

fn through_a_row(sample: &HistogramSample) -> Option<HistogramSample> {
    let mut buffer = HistogramBuffer::new(0);
    let places = std::collections::HashMap::new();
    for row in split_rows(std::slice::from_ref(sample)) {
        buffer.push(&SplitLabels::new(&Labels::empty(), &places), &row);
    }
    let batch = buffer.finish(arrow_schema(&[], LabelForm::Strings)).ok()?;
    let columns = batch.columns().get(1 + FIXED_BEFORE_LAYOUT..)?;
    let mut rows = Vec::new();
    append_rows(columns, batch.num_rows(), &mut rows)?;
    rows.into_iter().flatten().next()
}

/// Bytes that decide what columns hold; zeros after their end. Most lists fit together, some do not.
struct Source<'a> {
    bytes: &'a [u8],
    samples: usize,
    buckets: usize,
    float: bool,
}

impl<'a> Source<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let mut source = Self { bytes, samples: 0, buckets: 0, float: false };
        let [samples, buckets, float] = [5, 4, 2].map(|below| usize::from(source.next() % below));
        Self { samples, buckets, float: float == 1, ..source }
    }

    fn next(&mut self) -> u8 {
        let (first, rest) = self.bytes.split_first().unwrap_or((&0, &[]));
        self.bytes = rest;
        *first
    }

    /// Returns whether something is to be as it should not.
    fn odd(&mut self) -> bool {
        self.next() >= 0xf8
    }

    /// Returns a number: mostly a small one, sometimes one at an edge.
    fn number(&mut self) -> i64 {
        match self.next() {
            0xff => i64::MAX,
            0xfe => i64::MIN,
            0xfd => i64::from(i32::MAX),
            0xfc => i64::from(u32::MAX),
            small => i64::from(small % 8),
        }
    }

    /// Returns the length of a row's list; `None` where it is NULL.
    fn length(&mut self, field: &Field) -> Option<usize> {
        let name = field.name().as_str();
        let (whole, fractional) = (
            WHOLE.contains(&name) || SIDES.iter().any(|side| side[..2].contains(&name)),
            FRACTIONAL.contains(&name) || SIDES.iter().any(|side| side[2] == name),
        );
        let absent = (whole && self.float) || (fractional && !self.float);
        if field.is_nullable() && (absent != self.odd()) {
            return None;
        }
        let usual = match name {
            _ if SPANS.contains(&name) => 1,
            _ if SIDES.as_flattened().contains(&name) => self.buckets,
            _ => self.samples,
        };
        Some(if self.odd() { usize::from(self.next() % 5) } else { usual })
    }

    fn column(&mut self, field: &Field, rows: usize) -> ArrayRef {
        match field.data_type() {
            DataType::Int32 => {
                Arc::new(Int32Array::from_iter_values((0..rows).map(|_| self.number() as i32)))
            }
            DataType::List(element) => match element.data_type() {
                DataType::List(_) if SIDES.iter().any(|side| side[2] == field.name()) => {
                    self.nested::<Float64Type>(field, rows, as_double)
                }
                DataType::List(_) => self.nested::<Int64Type>(field, rows, |n| n),
                DataType::Int32 => self.list::<Int32Type>(field, element, rows, |n| n as i32),
                DataType::Int64 => self.list::<Int64Type>(field, element, rows, |n| n),
                DataType::Float64 => self.list::<Float64Type>(field, element, rows, as_double),
                _ => self.list::<TimestampMillisecondType>(field, element, rows, |n| n),
            },
            _ => Arc::new(Float64Array::from_iter_values((0..rows).map(|_| as_double(self.number())))),
        }
    }

    fn element<T>(&mut self, nullable: bool, from: fn(i64) -> T) -> Option<T> {
        let null = nullable && self.next().is_multiple_of(4);
        let number = from(self.number());
        (!null).then_some(number)
    }

    fn list<T: ArrowPrimitiveType>(
        &mut self,
        field: &Field,
        element: &Arc<Field>,
        rows: usize,
        from: fn(i64) -> T::Native,
    ) -> ArrayRef {
        let mut lists = Lists::<T>::new();
        for _ in 0..rows {
            let length = self.length(field);
            lists
                .extend_nullable((0..length.unwrap_or(0)).map(|_| self.element(element.is_nullable(), from)));
            lists.end_row(length.is_some());
        }
        lists.finish(Arc::clone(element)).expect("columns of one length")
    }

    fn nested<T: ArrowPrimitiveType>(
        &mut self,
        field: &Field,
        rows: usize,
        from: fn(i64) -> T::Native,
    ) -> ArrayRef {
        let mut lists = NestedLists::<T>::new();
        for _ in 0..rows {
            let length = self.length(field);
            for _ in 0..length.unwrap_or(0) {
                let samples = if self.odd() { 3 } else { self.samples };
                lists.push((0..samples).map(|_| self.element(true, from)).collect::<Vec<_>>());
            }
            lists.end_row(length.is_some());
        }
        lists.finish(bucket_list(field.name()), bucket_element(field.name())).expect("columns of one length")
    }
}

/// Returns a double with the bits of a number, or its value where that is small.
fn as_double(number: i64) -> f64 {
    if number.unsigned_abs() < 100 { number as f64 } else { f64::from_bits(number.cast_unsigned()) }
}
