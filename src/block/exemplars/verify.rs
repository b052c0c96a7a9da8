//! Verification: every row, one row group at a time.

use std::cmp::Ordering;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;

use super::ExemplarReader;
use super::read::Columns;
use crate::block::columns::block_order;
use crate::block::error::BlockError;
use crate::block::fetch::{Held, Use};
use crate::block::label_rows::LabelRows;
use crate::block::parts::{Fetching, Part};
use crate::block::verify::{Findings, wrong_hash};
use crate::model::{Exemplar, Labels};

/// A row with its `_series`.
struct Row {
    series_hash: i64,
    labels: Labels,
    exemplar: Exemplar,
}

impl ExemplarReader {
    /// Decodes all exemplars and compares their order, the labels' hashes, and the footer with the whole. Returns what
    /// is wrong.
    ///
    /// # Errors
    /// Failed reads, and damage that keeps the rest from being decoded.
    pub async fn verify(&self) -> Result<Vec<String>, BlockError> {
        let columns: Vec<usize> = (0..self.0.block.label_columns.len() + 7).collect();
        let (mut findings, mut number) = (Findings::default(), 0);
        let (mut first, mut before): (Option<Labels>, Option<Row>) = (None, None);
        for group in self.0.whole_groups(&columns) {
            for row in self.read_rows(group).await? {
                check_row(before.as_ref(), (number, &row), &mut findings);
                first.get_or_insert_with(|| row.labels.clone());
                before = Some(row);
                number += 1;
            }
        }
        let ends = [first.as_ref(), before.as_ref().map(|row| &row.labels)];
        findings.compare(&self.meta().stats, ends.map(|labels| labels.map_or("", Labels::metric_name)));
        Ok(findings.found)
    }

    async fn read_rows(&self, group: Part) -> Result<Vec<Row>, BlockError> {
        let names = self.0.block.label_columns.clone();
        let collect = move |_: &Part, batch: RecordBatch, found: &mut Vec<Row>| {
            let malformed = || BlockError::Footer("a column of exemplars has the wrong type".to_owned());
            let (series, columns) = batch.columns().split_first().ok_or_else(malformed)?;
            let hashes = series.as_primitive_opt::<Int64Type>().ok_or_else(malformed)?.values();
            let (labels, others) = columns.split_at_checked(names.len()).ok_or_else(malformed)?;
            let (rest, others) = others.split_first().ok_or_else(malformed)?;
            let columns = Columns::new(others).ok_or_else(malformed)?;
            let (times, mut bytes) = (columns.times.values(), Vec::new());
            let names = names.iter().map(String::as_str);
            let rows = LabelRows::of_columns(names, labels, Some(rest), [times, times], &[]);
            let rows = rows.ok_or_else(malformed)?;
            for (row, series_hash) in hashes.iter().enumerate() {
                let labels = rows.labels(row, found.last().map(|row| &row.labels), &mut bytes)?;
                found.push(Row { series_hash: *series_hash, labels, exemplar: columns.exemplar(row)? });
            }
            Ok(())
        };
        let mut held = Held::default();
        let groups: Vec<Vec<Row>> =
            self.0.decode(vec![group], Fetching::new(Use::Samples, &mut held), collect).await?;
        Ok(groups.into_iter().flatten().collect())
    }
}

fn check_row(before: Option<&Row>, (number, row): (u64, &Row), findings: &mut Findings) {
    let order = before.map_or(Ordering::Less, |before| block_order(&before.labels, &row.labels));
    let within = before.map_or(Ordering::Less, |before| before.exemplar.series_order(&row.exemplar));
    let labels = &row.labels;
    match (order, within) {
        (Ordering::Less, _) | (Ordering::Equal, Ordering::Less) => {}
        (Ordering::Greater, _) => findings.add(|| format!("row {number} ({labels}) is not in order")),
        (Ordering::Equal, _) => findings.add(|| {
            format!("row {number} ({labels}): the exemplars are not in order, or one is there twice")
        }),
    }
    if let Some(reason) = wrong_hash(row.series_hash, labels) {
        findings.add(|| format!("row {number} ({labels}): {reason}"));
    }
    findings.count(row.exemplar.ts_ms, order == Ordering::Less);
}
