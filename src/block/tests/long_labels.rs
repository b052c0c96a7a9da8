//! Labels that are large beside the samples: what is in memory at once stays bounded.

use super::*;
use crate::block::fetch::{Held, Use};
use crate::block::parts::{BATCH_BYTES_MAX, Fetching};

const SERIES: usize = 17_000;
const VALUE_BYTES: usize = 2_048;

/// Series with two long labels that hardly compress.
fn long_series() -> Vec<SeriesRun> {
    let random = random_from_seed(7);
    let text = || -> String {
        let next = || char::from(b'0' + (random.next_u64() % 64) as u8);
        std::iter::repeat_with(next).take(VALUE_BYTES).collect()
    };
    let series = |number: usize| {
        let (number, a, b) = (format!("{number:05}"), text(), text());
        run(&[("__name__", "long"), ("a", &a), ("b", &b), ("number", &number)], [(number.len() as i64, 1.0)])
    };
    (0..SERIES).map(series).collect()
}

#[tokio::test]
async fn long_labels_end_row_groups_early_and_are_decoded_in_small_batches() {
    let mut written = long_series();
    let (file, stats) = write(written.clone());
    assert_eq!(stats.series, SERIES as u64);
    written.sort_by(|a, b| block_order(&a.labels, &b.labels));
    let reader = open(&file).await.unwrap();
    let groups = reader.block.row_ranges().count();
    assert!((2..=4).contains(&groups), "{groups} row groups");

    let matcher = Matcher::new(MatchKind::Regex, "number", ".*5").unwrap();
    let found = reader.find_rows(&[matcher], TimeRange::ALL).await.unwrap();
    let ends = |run: &&SeriesRun| run.labels.get("number").is_some_and(|number| number.ends_with('5'));
    let wanted: Vec<&Labels> = written.iter().filter(ends).map(|run| &run.labels).collect();
    assert!(found.iter().map(|row| &row.labels).eq(wanted));

    let columns: Vec<usize> = (0..=reader.block.label_columns.len()).collect();
    let parts = reader.parts_that_may_match(&[], TimeRange::ALL, &columns, SERIES);
    let largest = |_: &_, batch: arrow::array::RecordBatch, rows: &mut usize| {
        *rows = batch.num_rows().max(*rows);
        Ok(())
    };
    let mut held = Held::default();
    let rows = reader.decode(parts, Fetching::new(Use::Index, &mut held), largest).await.unwrap();
    let bytes = rows.iter().map(|rows| rows * 2 * VALUE_BYTES);
    assert!(bytes.into_iter().all(|bytes| bytes as u64 <= BATCH_BYTES_MAX), "{rows:?} rows at once");
}
