//! Batches of label columns: dictionary codes, matchers evaluated once per distinct value, label sets.

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, MapArray, RecordBatch, StringArray};
use arrow::datatypes::{Int32Type, TimestampMillisecondType};

use super::error::BlockError;
use super::reader::OpenBlock;
use crate::model::{BlockKind, Labels, Matcher, TimeRange, encode_label};

/// The label columns of a batch. The times of its rows are always in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LabelProjection {
    /// Which label columns, ascending.
    labels: Vec<usize>,
    /// Whether `_labels_rest` is in it.
    rest: bool,
    /// Whether `_count` is in it.
    count: bool,
}

impl LabelProjection {
    /// All labels, and how many samples a row has where it has a count.
    pub(super) fn all(block: &OpenBlock) -> Self {
        let count = block.time_columns() > 1;
        Self { labels: (0..block.label_columns.len()).collect(), rest: true, count }
    }

    /// What some labels need.
    pub(super) fn of_labels<'a>(block: &OpenBlock, names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut projection = Self { labels: Vec::new(), rest: false, count: false };
        for name in names {
            match block.label_column(name) {
                Some(place) => projection.labels.push(place),
                None => projection.rest = true,
            }
        }
        projection.labels.sort_unstable();
        projection.labels.dedup();
        projection
    }

    /// Returns the file's columns, ascending.
    pub(super) fn columns(&self, block: &OpenBlock) -> Vec<usize> {
        let rest = block.rest_column();
        let mut columns: Vec<usize> = self.labels.iter().map(|place| place + 1).collect();
        columns.extend(self.rest.then_some(rest));
        let times = block.time_columns();
        columns.extend(rest + 1..=rest + times);
        columns.extend(self.count.then_some(rest + times + 1));
        columns
    }
}

impl OpenBlock {
    /// Returns the place of a label among the label columns.
    pub(super) fn label_column(&self, name: &str) -> Option<usize> {
        self.label_columns.iter().position(|column| column == name)
    }

    /// Returns how many times a row has: an exemplar one, a row of samples its first and last.
    fn time_columns(&self) -> usize {
        if self.meta.kind == BlockKind::Exemplars { 1 } else { 2 }
    }

    /// Returns the place of `_labels_rest` among the file's columns; the two times and the counts follow it.
    pub(super) fn rest_column(&self) -> usize {
        self.label_columns.len() + 1
    }
}

/// Returns whether a row's samples, from the first to the last, may be in a range.
pub(super) const fn touches(range: TimeRange, min_ms: i64, max_ms: i64) -> bool {
    // A range up to the end of time includes the last millisecond, which half-open bounds cannot say otherwise.
    (min_ms < range.end_ms || range.end_ms == i64::MAX) && range.start_ms <= max_ms
}

/// The label columns of a batch of rows.
pub(super) struct LabelRows<'a> {
    /// Sorted by name.
    columns: Vec<(&'a str, Codes<'a>)>,
    rest: Option<Rest<'a>>,
    pub(super) min_times: &'a [i64],
    pub(super) max_times: &'a [i64],
    /// Empty where they were not read.
    counts: &'a [i32],
}

/// One label column: a code per row into its distinct values.
#[derive(Clone, Copy)]
pub(super) struct Codes<'a> {
    codes: &'a DictionaryArray<Int32Type>,
    values: &'a StringArray,
}

impl<'a> Codes<'a> {
    pub(super) fn code(&self, row: usize) -> Option<usize> {
        self.codes.key(row)
    }

    /// Returns the distinct values, by code; some may be of no row.
    pub(super) fn values(&self) -> impl ExactSizeIterator<Item = &'a str> {
        self.values.iter().map(|value| value.unwrap_or(""))
    }

    fn value(&self, row: usize) -> Option<&'a str> {
        self.codes.key(row).map(|code| self.values.value(code))
    }
}

/// The column of labels without a column.
pub(super) struct Rest<'a> {
    map: &'a MapArray,
    names: &'a StringArray,
    values: &'a StringArray,
}

impl<'a> Rest<'a> {
    pub(super) fn new(column: &'a ArrayRef) -> Option<Self> {
        let map = column.as_map_opt()?;
        Some(Self { map, names: map.keys().as_string_opt()?, values: map.values().as_string_opt()? })
    }

    pub(super) fn labels(&self, row: usize) -> impl Iterator<Item = (&'a str, &'a str)> {
        let offsets = self.map.value_offsets();
        let entries = match self.map.is_valid(row) {
            true => offsets[row] as usize..offsets[row + 1] as usize,
            false => 0..0,
        };
        let (names, values) = (self.names, self.values);
        entries.map(move |i| (names.value(i), values.value(i)))
    }
}

impl<'a> LabelRows<'a> {
    /// Takes a batch apart.
    ///
    /// # Errors
    /// A column of an unexpected type.
    pub(super) fn new(
        block: &'a OpenBlock,
        projection: &LabelProjection,
        batch: &'a RecordBatch,
    ) -> Result<Self, BlockError> {
        let malformed = || BlockError::Footer("a label or time column has the wrong type".to_owned());
        Self::parse(block, projection, batch).ok_or_else(malformed)
    }

    fn parse(block: &'a OpenBlock, projection: &LabelProjection, batch: &'a RecordBatch) -> Option<Self> {
        let (labels, mut others) = batch.columns().split_at_checked(projection.labels.len())?;
        let names = projection.labels.iter().map(|place| block.label_columns[*place].as_str());
        let rest = if projection.rest { Some(others.split_off_first()?) } else { None };
        let mut time =
            || Some(others.split_off_first()?.as_primitive_opt::<TimestampMillisecondType>()?.values());
        let min_times = time()?;
        let max_times = if block.time_columns() > 1 { time()? } else { min_times };
        let counts: &[i32] = match others {
            [counts] if projection.count => counts.as_primitive_opt::<Int32Type>()?.values(),
            [] if !projection.count => &[],
            _ => return None,
        };
        Self::of_columns(names, labels, rest, [min_times, max_times], counts)
    }

    /// Takes label columns with their names, the rest, first and last times, and counts.
    pub(super) fn of_columns(
        names: impl Iterator<Item = &'a str>,
        labels: &'a [ArrayRef],
        rest: Option<&'a ArrayRef>,
        [min_times, max_times]: [&'a [i64]; 2],
        counts: &'a [i32],
    ) -> Option<Self> {
        let mut columns = Vec::with_capacity(labels.len());
        for (name, column) in names.zip(labels) {
            let codes = column.as_dictionary_opt::<Int32Type>()?;
            columns.push((name, Codes { codes, values: codes.values().as_string_opt()? }));
        }
        columns.sort_unstable_by_key(|(name, _)| *name);
        let rest = match rest {
            Some(column) => Some(Rest::new(column)?),
            None => None,
        };
        Some(Self { columns, rest, min_times, max_times, counts })
    }

    pub(super) fn len(&self) -> usize {
        self.min_times.len()
    }

    /// Returns how many samples a row has.
    pub(super) fn samples(&self, row: usize) -> u32 {
        self.counts.get(row).and_then(|count| u32::try_from(*count).ok()).unwrap_or(0)
    }

    /// Returns the column of a label, where it has one that was read.
    pub(super) fn codes(&self, name: &str) -> Option<Codes<'a>> {
        self.columns.iter().find(|(column, _)| *column == name).map(|(_, codes)| *codes)
    }

    /// Returns the label columns that were read, sorted by name.
    pub(super) fn columns(&self) -> &[(&'a str, Codes<'a>)] {
        &self.columns
    }

    /// Returns a row's labels that have no column.
    pub(super) fn rest_labels(&self, row: usize) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.rest.iter().flat_map(move |rest| rest.labels(row))
    }

    /// Returns the rows that satisfy all matchers and touch a range.
    pub(super) fn matching(&self, matchers: &[Matcher], range: TimeRange) -> Vec<u32> {
        let mut conditions: Vec<Condition<'_>> =
            matchers.iter().map(|matcher| self.condition(matcher)).collect();
        let holds = |row: &u32| {
            let row = *row as usize;
            touches(range, self.min_times[row], self.max_times[row])
                && conditions.iter_mut().all(|condition| condition.holds(row))
        };
        (0..self.len() as u32).filter(holds).collect()
    }

    /// Returns a row's labels; neighbours of one series share them. `bytes` is kept for its memory.
    pub(super) fn labels(
        &self,
        row: usize,
        neighbour: Option<&Labels>,
        bytes: &mut Vec<u8>,
    ) -> Result<Labels, BlockError> {
        bytes.clear();
        self.encode_labels(row, bytes);
        match neighbour {
            Some(labels) if labels.as_bytes() == bytes => Ok(labels.clone()),
            _ => Labels::from_canonical(bytes).map_err(BlockError::Labels),
        }
    }

    /// Appends a row's labels, merged by name from columns and rest, in their canonical form.
    fn encode_labels(&self, row: usize, bytes: &mut Vec<u8>) {
        let mut rest = self.rest_labels(row).peekable();
        for (name, codes) in &self.columns {
            let Some(value) = codes.value(row) else { continue };
            while let Some((name, value)) = rest.next_if(|(other, _)| other < name) {
                encode_label(name, value, bytes);
            }
            encode_label(name, value, bytes);
        }
        for (name, value) in rest {
            encode_label(name, value, bytes);
        }
    }

    fn condition<'m>(&'m self, matcher: &'m Matcher) -> Condition<'m> {
        match self.codes(matcher.name()) {
            Some(codes) => Condition::Column {
                codes,
                verdicts: codes.values().map(|value| matcher.matches(value)).collect(),
                absent: matcher.matches(""),
            },
            None => Condition::Rest { rows: self, matcher, verdicts: HashMap::new() },
        }
    }
}

/// A matcher, evaluated once per distinct value.
enum Condition<'a> {
    Column { codes: Codes<'a>, verdicts: Vec<bool>, absent: bool },
    Rest { rows: &'a LabelRows<'a>, matcher: &'a Matcher, verdicts: HashMap<&'a str, bool> },
}

impl Condition<'_> {
    fn holds(&mut self, row: usize) -> bool {
        match self {
            Self::Column { codes, verdicts, absent } => {
                codes.code(row).map_or(*absent, |code| verdicts[code])
            }
            Self::Rest { rows, matcher, verdicts } => {
                let label = rows.rest_labels(row).find(|(name, _)| *name == matcher.name());
                let value = label.map_or("", |(_, value)| value);
                *verdicts.entry(value).or_insert_with(|| matcher.matches(value))
            }
        }
    }
}
