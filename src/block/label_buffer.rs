//! The first columns of every file with series: hash and labels, gathered row by row.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringBuilder};
use arrow::error::ArrowError;

use super::lists::LabelMaps;
use crate::model::Labels;

/// Rows are handed to the Parquet writer in batches of at most this many rows.
const BATCH_ROWS: usize = 1 << 13;
/// A batch ends with the row that reaches this many bytes of labels.
const BATCH_LABEL_BYTES: usize = 4 << 20;

/// A series' labels, sorted into the columns of the file.
#[derive(Debug)]
pub(super) struct SplitLabels<'a> {
    series_hash: i64,
    /// One value per label column.
    pub(super) columns: Vec<Option<&'a str>>,
    /// The labels without a column.
    rest: Vec<(&'a str, &'a str)>,
    /// Bytes of all labels.
    bytes: usize,
}

impl<'a> SplitLabels<'a> {
    /// Sorts labels into columns, by a look-up from name to the column's place.
    pub(super) fn new(labels: &'a Labels, places: &HashMap<String, usize>) -> Self {
        let mut split = Self {
            // The hash is stored as the signed integer of the same bits.
            series_hash: labels.series_hash() as i64,
            columns: vec![None; places.len()],
            rest: Vec::new(),
            bytes: labels.as_bytes().len(),
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

/// `_series`, the label columns and `_labels_rest` of the rows gathered so far.
pub(super) struct LabelBuffer {
    series: Vec<i64>,
    labels: Vec<StringBuilder>,
    rest: LabelMaps,
    bytes: usize,
}

impl LabelBuffer {
    pub(super) fn new(label_columns: usize) -> Self {
        Self {
            series: Vec::new(),
            labels: (0..label_columns).map(|_| StringBuilder::new()).collect(),
            rest: LabelMaps::new(),
            bytes: 0,
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.series.len()
    }

    /// Returns whether the rows gathered so far are enough for a batch.
    pub(super) fn is_full(&self) -> bool {
        self.rows() >= BATCH_ROWS || self.bytes >= BATCH_LABEL_BYTES
    }

    pub(super) fn push(&mut self, labels: &SplitLabels<'_>) {
        self.series.push(labels.series_hash);
        for (column, value) in self.labels.iter_mut().zip(&labels.columns) {
            column.append_option(*value);
        }
        self.rest.push_row(&labels.rest);
        self.bytes += labels.bytes;
    }

    /// Returns the columns in the order of the file.
    pub(super) fn finish(self) -> Result<Vec<ArrayRef>, ArrowError> {
        let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(self.series))];
        for mut label in self.labels {
            columns.push(Arc::new(label.finish()));
        }
        columns.push(self.rest.finish()?);
        Ok(columns)
    }
}
