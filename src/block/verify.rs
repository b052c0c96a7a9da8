//! Verification: every row of a block against its own samples and against the footer.

mod others;

use std::cmp::Ordering;

use arrow::array::{Array, AsArray, PrimitiveArray, RecordBatch};
use arrow::datatypes::{ArrowPrimitiveType, Float64Type, Int32Type, Int64Type};

use super::columns::block_order;
use super::error::BlockError;
use super::fetch::{Held, Use};
use super::find::BlockRow;
use super::parts::{Fetching, Part};
use super::reader::BlockReader;
use super::row::{ROW_SAMPLES_MAX, RowSummary, summarize};
use super::schema::{COUNTS, FINITE};
use crate::model::{BlockKind, Labels, Sample, TimeRange};

/// So many samples are decoded at once: 24 bytes each.
const BATCH_SAMPLES: u64 = 1 << 20;

/// So many findings are reported of one block; one cause often damages many rows.
const FINDINGS_MAX: usize = 20;

/// What a row says about itself.
#[derive(Debug, Clone, Copy)]
struct RowStatistics {
    series_hash: i64,
    stale: i32,
    nonfinite: i32,
    finite: [Option<f64>; FINITE.len()],
}

/// What was found while the rows of a block are gone through.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) found: Vec<String>,
    series: u64,
    samples: u64,
    stale: u64,
    times: Option<(i64, i64)>,
}

impl Findings {
    pub(super) fn add(&mut self, finding: impl FnOnce() -> String) {
        if self.found.len() < FINDINGS_MAX {
            self.found.push(finding());
        }
    }
}

impl BlockReader {
    /// Decodes all samples and compares: the order of rows and samples, the labels' hashes, each row's statistics with
    /// its samples, and the footer with the whole. Returns what is wrong, the first [`FINDINGS_MAX`] findings of it.
    /// `advance` is told of the samples that were checked.
    ///
    /// # Errors
    /// Failed reads, and damage that keeps the rest from being decoded.
    pub async fn verify(&self, advance: &(dyn Fn(u64) + Send + Sync)) -> Result<Vec<String>, BlockError> {
        if self.meta().kind == BlockKind::Histograms {
            return self.verify_histograms(advance).await;
        }
        let rows = self.find_rows(&[], TimeRange::ALL).await?;
        let statistics = self.read_statistics().await?;
        let mut findings = Findings::default();
        if !are_all_found(&rows, statistics.len(), &mut findings) {
            return Ok(findings.found);
        }
        let mut start = 0;
        while start < rows.len() {
            let end = batch_end(&rows, start);
            let numbers: Vec<u32> = rows[start..end].iter().map(|row| row.row).collect();
            let samples = self.read_samples(&numbers).await?;
            for (at, samples) in (start..end).zip(&samples) {
                let previous = at.checked_sub(1).map(|before| &rows[before]);
                check_order(previous, &rows[at], &mut findings);
                check_row(&rows[at], &statistics[at], samples, &mut findings);
            }
            advance(samples.iter().map(|samples| samples.len() as u64).sum());
            start = end;
        }
        self.check_footer(&rows, &mut findings);
        Ok(findings.found)
    }

    /// Returns all rows of the file, one part a row group, with some columns.
    pub(super) fn whole_groups(&self, columns: &[usize]) -> Vec<Part> {
        let groups = self.block.row_ranges().enumerate().filter(|(_, rows)| !rows.is_empty());
        groups.map(|(group, rows)| Part::new(group, columns.to_vec(), None, rows.len())).collect()
    }

    /// Reads a number of each row.
    async fn read_column<T: ArrowPrimitiveType>(&self, column: usize) -> Result<Vec<T::Native>, BlockError> {
        let collect = |_: &Part, batch: RecordBatch, numbers: &mut Vec<T::Native>| {
            let column = primitive::<T>(&batch, 0);
            let column = column
                .ok_or_else(|| BlockError::Footer("a column of numbers has the wrong type".to_owned()))?;
            numbers.extend(column.values());
            Ok(())
        };
        let mut held = Held::default();
        let fetching = Fetching::new(Use::Samples, &mut held);
        let groups: Vec<Vec<T::Native>> =
            self.decode(self.whole_groups(&[column]), fetching, collect).await?;
        Ok(groups.into_iter().flatten().collect())
    }

    /// Reads `_series` of all rows.
    async fn read_hashes(&self) -> Result<Vec<i64>, BlockError> {
        self.read_column::<Int64Type>(0).await
    }

    /// Reads the hash and the statistics of all rows.
    async fn read_statistics(&self) -> Result<Vec<RowStatistics>, BlockError> {
        let block = &self.block;
        let columns = COUNTS[1..].iter().chain(&FINITE);
        let columns = columns.map(|name| block.sample_column(name)).collect::<Result<Vec<usize>, _>>()?;
        let collect = |_: &Part, batch: RecordBatch, rows: &mut Vec<RowStatistics>| {
            append_statistics(&batch, rows).ok_or_else(|| {
                BlockError::Footer("a statistics column has the wrong type or lacks values".to_owned())
            })
        };
        let hashes = self.read_hashes().await?;
        let mut held = Held::default();
        let fetching = Fetching::new(Use::Samples, &mut held);
        let rows: Vec<Vec<RowStatistics>> =
            self.decode(self.whole_groups(&columns), fetching, collect).await?;
        let mut rows: Vec<RowStatistics> = rows.into_iter().flatten().collect();
        rows.iter_mut().zip(hashes).for_each(|(row, hash)| row.series_hash = hash);
        Ok(rows)
    }

    fn check_footer(&self, rows: &[BlockRow], findings: &mut Findings) {
        let stats = &self.meta().stats;
        let (min_ms, max_ms) = findings.times.unwrap_or((stats.min_time_ms, stats.max_time_ms - 1));
        let metric = |row: Option<&BlockRow>| row.map_or("", |row| row.labels.metric_name()).to_owned();
        let counted = [
            ("rows", stats.rows, rows.len() as u64),
            ("series", stats.series, findings.series),
            ("samples", stats.samples, findings.samples),
            ("stale markers", stats.stale, findings.stale),
        ];
        for (what, said, found) in counted {
            if said != found {
                findings.add(|| format!("the footer says {said} {what}, there are {found}"));
            }
        }
        if (stats.min_time_ms, stats.max_time_ms) != (min_ms, max_ms.saturating_add(1)) {
            findings
                .add(|| format!("the footer's times are not those of its samples, {min_ms} to {max_ms} ms"));
        }
        if (&stats.metric_min, &stats.metric_max) != (&metric(rows.first()), &metric(rows.last())) {
            findings.add(|| "the footer's metric names are not the first and the last".to_owned());
        }
    }
}

/// Returns whether every row of the file can be found by its labels and times.
fn are_all_found(rows: &[BlockRow], in_file: usize, findings: &mut Findings) -> bool {
    let all = rows.len() == in_file && rows.iter().zip(0..).all(|(row, number)| row.row == number);
    if !all {
        findings.add(|| format!("{} of {in_file} rows can be found", rows.len()));
    }
    all
}

fn batch_end(rows: &[BlockRow], start: usize) -> usize {
    let mut samples = 0;
    let fits = rows[start..].iter().take_while(|row| {
        samples += u64::from(row.samples);
        samples <= BATCH_SAMPLES
    });
    start + fits.count().max(1)
}

fn primitive<T: ArrowPrimitiveType>(batch: &RecordBatch, column: usize) -> Option<&PrimitiveArray<T>> {
    batch.columns().get(column)?.as_primitive_opt::<T>()
}

fn append_statistics(batch: &RecordBatch, rows: &mut Vec<RowStatistics>) -> Option<()> {
    let stale = primitive::<Int32Type>(batch, 0)?;
    let nonfinite = primitive::<Int32Type>(batch, 1)?;
    let finite: Vec<&PrimitiveArray<Float64Type>> =
        (0..FINITE.len()).map(|column| primitive(batch, column + 2)).collect::<Option<_>>()?;
    for row in 0..batch.num_rows() {
        let mut values = [None; FINITE.len()];
        for (value, column) in values.iter_mut().zip(&finite) {
            *value = column.is_valid(row).then(|| column.value(row));
        }
        let (stale, nonfinite) = (stale.value(row), nonfinite.value(row));
        rows.push(RowStatistics { series_hash: 0, stale, nonfinite, finite: values });
    }
    Some(())
}

/// A series comes after the one before it, its rows after each other.
fn check_order(previous: Option<&BlockRow>, row: &BlockRow, findings: &mut Findings) {
    let order = previous.map_or(Ordering::Less, |previous| block_order(&previous.labels, &row.labels));
    let later = previous.is_none_or(|previous| previous.max_time_ms < row.min_time_ms);
    findings.series += u64::from(order == Ordering::Less);
    if order == Ordering::Greater || (order == Ordering::Equal && !later) {
        findings.add(|| format!("row {} ({}) is not in order", row.row, row.labels));
    }
}

/// Returns what is wrong with the hash of a row.
pub(super) fn wrong_hash(said: i64, labels: &Labels) -> Option<&'static str> {
    (said != labels.series_hash().cast_signed()).then_some("_series is not the hash of its labels")
}

fn check_row(row: &BlockRow, said: &RowStatistics, samples: &[Sample], findings: &mut Findings) {
    let mut wrong = Vec::from_iter(wrong_hash(said.series_hash, &row.labels));
    let summary = summarize(samples);
    if !is_right(said, &summary) {
        wrong.push("its statistics are not those of its samples");
    }
    let times: Vec<i64> = samples.iter().map(|sample| sample.ts_ms).collect();
    check_times(row, &times, wrong, findings);
    findings.stale += summary.stale as u64;
}

/// Compares a row with the times of its samples, and reports it with what was wrong before.
fn check_times(row: &BlockRow, times: &[i64], mut wrong: Vec<&'static str>, findings: &mut Findings) {
    if times.len() != row.samples as usize || times.len() > ROW_SAMPLES_MAX {
        wrong.push("_count is not the number of its samples, or above what a row may hold");
    }
    if times.windows(2).any(|pair| pair[0] >= pair[1]) {
        wrong.push("its samples are not in order");
    }
    let ends = times.first().copied().zip(times.last().copied());
    if ends != Some((row.min_time_ms, row.max_time_ms)) {
        wrong.push("_min_time and _max_time are not those of its samples");
    }
    let window = TimeRange::raw_window(row.min_time_ms);
    if window.end_ms != i64::MAX && !window.contains(row.max_time_ms) {
        wrong.push("it spans more than one window");
    }
    for reason in wrong {
        findings.add(|| format!("row {} ({}): {reason}", row.row, row.labels));
    }
    findings.samples += times.len() as u64;
    if let Some((first, last)) = ends {
        let (min_ms, max_ms) = findings.times.unwrap_or((first, last));
        findings.times = Some((min_ms.min(first), max_ms.max(last)));
    }
}

fn is_right(said: &RowStatistics, found: &RowSummary) -> bool {
    let finite = found.finite.map(|f| [f.sum, f.min, f.max, f.first, f.last, f.increase]);
    let same = said.finite.iter().enumerate().all(|(i, said)| {
        let found = finite.as_ref().map(|finite| finite[i].to_bits());
        said.map(f64::to_bits) == found
    });
    same && usize::try_from(said.stale) == Ok(found.stale)
        && usize::try_from(said.nonfinite) == Ok(found.nonfinite)
}
