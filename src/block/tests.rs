use std::ops::Range;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::future::BoxFuture;
use proptest::prelude::*;

use super::*;
use crate::model::*;
use crate::runtime::{Cpu, random_from_seed};

mod golden;
mod long_labels;
mod lookup;
mod pruning;
mod round_trip;
mod verification;
mod views;

const STALE: f64 = f64::from_bits(STALE_MARKER_BITS);

pub(super) fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied()).unwrap()
}

fn run(pairs: &[(&str, &str)], samples: impl IntoIterator<Item = (i64, f64)>) -> SeriesRun {
    let samples = samples.into_iter().map(|(ts, value)| Sample::new(ts, value)).collect();
    SeriesRun { labels: labels(pairs), samples }
}

pub(super) fn spec(label_columns: &[String]) -> BlockSpec {
    BlockSpec {
        id: Ulid::from_parts(1, 2),
        tenant: TenantId::new("team-a").unwrap(),
        resolution: Resolution::Raw,
        range: TimeRange::ALL,
        external_labels: labels(&[("cluster", "lab")]),
        label_columns: label_columns.to_vec(),
        positions: vec![LogPositions { epoch: Ulid::from_parts(3, 4), after_seq: 5, through_seq: 6 }],
        sources: vec![Ulid::from_parts(7, 8)],
        zstd_level: 3,
    }
}

/// Writes runs, in any order, with the label columns they call for.
fn write(mut runs: Vec<SeriesRun>) -> (Bytes, BlockStats) {
    runs.sort_by(|a, b| block_order(&a.labels, &b.labels));
    let columns = extend_label_columns(&[], runs.iter().map(|r| &r.labels));
    let mut out = Vec::new();
    let stats = write_block(&mut out, &spec(&columns), runs).unwrap();
    (out.into(), stats)
}

pub(super) fn cpu() -> Cpu {
    Cpu::start(1).unwrap()
}

async fn open(file: &Bytes) -> Result<BlockReader, BlockError> {
    BlockReader::open(Arc::new(file.clone()), cpu(), file.len() as u64).await
}

async fn read_rows(file: &Bytes) -> Result<Vec<(BlockRow, Vec<Sample>)>, BlockError> {
    let reader = open(file).await?;
    let rows = reader.find_rows(&[], TimeRange::ALL).await?;
    let numbers: Vec<u32> = rows.iter().map(|r| r.row).collect();
    let samples = reader.read_samples(&numbers).await?;
    Ok(rows.into_iter().zip(samples).collect())
}

async fn read_all(file: &Bytes) -> Result<Vec<SeriesRun>, BlockError> {
    let mut runs: Vec<SeriesRun> = Vec::new();
    for (row, samples) in read_rows(file).await? {
        assert_eq!(row.samples as usize, samples.len());
        assert_eq!(Some(row.min_time_ms), samples.first().map(|s| s.ts_ms));
        assert_eq!(Some(row.max_time_ms), samples.last().map(|s| s.ts_ms));
        match runs.last_mut() {
            Some(last) if last.labels == row.labels => last.samples.extend(samples),
            _ => runs.push(SeriesRun { labels: row.labels, samples }),
        }
    }
    Ok(runs)
}

pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Bytes that remember which ranges were read.
#[derive(Debug)]
struct Recorded {
    bytes: Bytes,
    reads: Mutex<Vec<Range<u64>>>,
}

impl Recorded {
    fn take(&self) -> Vec<Range<u64>> {
        std::mem::take(&mut self.reads.lock().unwrap())
    }
}

impl RangeRead for Recorded {
    fn read_ranges<'a>(&'a self, ranges: &'a [Range<u64>]) -> BoxFuture<'a, Result<Vec<Bytes>, ReadFailure>> {
        self.reads.lock().unwrap().extend(ranges.iter().cloned());
        self.bytes.read_ranges(ranges)
    }
}

#[test]
fn frequent_labels_get_columns_and_keep_them() {
    let mut series: Vec<Labels> = (0..200)
        .map(|i| labels(&[("__name__", "m"), ("job", "a"), ("Job", "b"), ("_x", "c"), ("i", &i.to_string())]))
        .collect();
    series.push(labels(&[("__name__", "m"), ("rare", "1")]));
    let columns = extend_label_columns(&[], series.iter());
    assert_eq!(columns, ["__name__", "Job", "i"]);
    let known = ["__name__".to_owned(), "zone".to_owned(), "JOB".to_owned()];
    let columns = extend_label_columns(&known, series.iter());
    assert_eq!(columns, ["__name__", "zone", "JOB", "i"]);
    assert_eq!(extend_label_columns(&columns, [].iter()), columns);
}

#[test]
fn label_columns_are_bounded_and_the_most_frequent_join() {
    let wide: Vec<(String, String)> = (0..200).map(|i| (format!("l{i:03}"), "v".to_owned())).collect();
    let mut series = vec![Labels::from_pairs(wide).unwrap()];
    series.push(labels(&[("__name__", "m"), ("zz", "1"), ("l199", "v")]));
    series.push(labels(&[("__name__", "m"), ("zz", "1")]));
    let columns = extend_label_columns(&[], series.iter());
    assert_eq!(columns.len(), LABEL_COLUMNS_MAX);
    assert_eq!(columns[0], "__name__");
    assert!(columns.contains(&"zz".to_owned()) && columns.contains(&"l199".to_owned()));
    assert!(!columns.contains(&"l198".to_owned()));
}

#[test]
fn block_order_puts_the_metric_name_first() {
    let a = labels(&[("__name__", "a"), ("Zone", "z")]);
    let b = labels(&[("__name__", "b"), ("Zone", "a")]);
    assert!(b < a);
    assert_eq!(block_order(&a, &b), std::cmp::Ordering::Less);
    let longer = labels(&[("__name__", "a"), ("Zone", "z"), ("x", "1")]);
    assert_eq!(block_order(&a, &longer), std::cmp::Ordering::Less);
    assert_eq!(block_order(&a, &a), std::cmp::Ordering::Equal);
}

#[test]
fn series_out_of_order_or_twice_are_refused() {
    let (a, b) = (run(&[("__name__", "a")], [(1, 1.0)]), run(&[("__name__", "b")], [(1, 1.0)]));
    for runs in [vec![b.clone(), a.clone()], vec![a.clone(), a.clone()]] {
        let result = write_block(Vec::new(), &spec(&[]), runs);
        assert!(matches!(result, Err(BlockError::SeriesOrder { .. })));
    }
}

#[test]
fn samples_out_of_order_or_range_are_refused() {
    let mut spec = spec(&[]);
    spec.range = TimeRange { start_ms: 0, end_ms: 10 };
    for times in [vec![2, 1], vec![1, 1], vec![-1], vec![10]] {
        let runs = vec![run(&[("a", "b")], times.iter().map(|t| (*t, 1.0)))];
        let result = write_block(Vec::new(), &spec, runs);
        assert!(matches!(result, Err(BlockError::SampleOrder { .. })), "{times:?}");
    }
}

#[test]
fn label_columns_that_collide_are_refused() {
    for columns in [vec!["a", "A"], vec!["_x"], vec![""], vec!["a\nb"]] {
        let columns: Vec<String> = columns.into_iter().map(str::to_owned).collect();
        let result = write_block(Vec::new(), &spec(&columns), []);
        assert!(matches!(result, Err(BlockError::LabelColumn(_))), "{columns:?}");
    }
}

#[test]
fn exact_decimals_give_back_their_bits() {
    let scaled = |values: &[f64]| {
        let mut integers = Vec::new();
        decimal::scale_values(values, &mut integers).map(|scale| (scale, integers))
    };
    assert_eq!(scaled(&[1.0, 0.25, -3.5]), Some((2, vec![100, 25, -350])));
    assert_eq!(scaled(&[0.1, 123_456.789]), Some((3, vec![100, 123_456_789])));
    assert_eq!(scaled(&[9_007_199_254_740_991.0]), Some((0, vec![9_007_199_254_740_991])));
    for values in [
        vec![-0.0],
        vec![f64::NAN],
        vec![f64::INFINITY],
        vec![9_007_199_254_740_992.0],
        vec![0.1 + 0.2],
        vec![1e-16],
        vec![9_007_199_254_740_991.0, 0.1],
    ] {
        assert_eq!(scaled(&values), None, "{values:?}");
    }
}

#[test]
fn a_hashing_writer_knows_size_and_digest() {
    let mut writer = HashingWriter::new(Vec::new());
    std::io::Write::write_all(&mut writer, b"abc").unwrap();
    let (bytes, size_bytes, sha256) = writer.finish();
    assert_eq!((bytes.as_slice(), size_bytes), (b"abc".as_slice(), 3));
    assert_eq!(sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

#[tokio::test]
async fn the_footer_says_what_a_catalog_entry_says() {
    let (file, stats) = write(vec![
        run(&[("__name__", "b"), ("job", "x")], [(5, 1.0), (9, STALE)]),
        run(&[("__name__", "a")], [(7, f64::NAN)]),
    ]);
    let expected = BlockStats {
        rows: 2,
        series: 2,
        samples: 3,
        stale: 1,
        min_time_ms: 5,
        max_time_ms: 10,
        metric_min: "a".to_owned(),
        metric_max: "b".to_owned(),
        label_columns: vec!["__name__".to_owned(), "job".to_owned()],
    };
    assert_eq!(stats, expected);
    let spec = spec(&[]);
    let meta = BlockMeta {
        kind: BlockKind::Samples,
        id: spec.id,
        tenant: spec.tenant,
        resolution: spec.resolution,
        range: spec.range,
        external_labels: spec.external_labels,
        positions: spec.positions,
        sources: spec.sources,
        stats,
    };
    assert_eq!(*open(&file).await.unwrap().meta(), meta);
}

#[tokio::test]
async fn row_numbers_must_ascend_and_exist() {
    let (file, _) = write(vec![run(&[("a", "1")], [(1, 1.0)]), run(&[("a", "2")], [(1, 1.0)])]);
    let reader = open(&file).await.unwrap();
    for rows in [vec![2], vec![1, 0], vec![1, 1]] {
        assert!(matches!(reader.read_samples(&rows).await, Err(BlockError::Rows { .. })));
    }
    assert_eq!(reader.read_samples(&[]).await.unwrap(), Vec::<Vec<Sample>>::new());
    assert_eq!(reader.read_samples(&[1]).await.unwrap(), vec![vec![Sample::new(1, 1.0)]]);
}

#[tokio::test]
async fn other_formats_and_plain_parquet_are_refused() {
    let (file, _) = write(vec![run(&[("a", "1")], [(1, 1.0)])]);
    let text = b"perennial.format";
    let at = file.windows(text.len()).position(|w| w == text).unwrap();
    let mut other = file.to_vec();
    let value = at + text.len() + other[at + text.len()..].iter().position(|b| *b == b'1').unwrap();
    other[value] = b'2';
    assert!(
        matches!(open(&other.into()).await, Err(BlockError::Version { found }) if found == "2"),
        "a newer format must be told apart from damage"
    );
    assert!(open(&Bytes::from_static(b"")).await.is_err());
    assert!(open(&Bytes::from_static(b"PAR1\0\0\0\0PAR1")).await.is_err());
}

#[tokio::test]
async fn damage_is_an_error_and_never_wrong_memory() {
    let samples = (0..600).map(|i| (i * 1000, f64::from(i as i32) * 0.5));
    let (file, _) = write(vec![
        run(&[("__name__", "a"), ("job", "x")], samples.clone()),
        run(&[("__name__", "b"), ("_rest", "y")], samples),
    ]);
    let random = random_from_seed(7);
    for _ in 0..300 {
        let mut bytes = file.to_vec();
        let at = random.next_u64() as usize % bytes.len();
        if random.next_u64().is_multiple_of(4) {
            bytes.truncate(at);
        } else {
            bytes[at] ^= 1 << (random.next_u64() % 8);
        }
        // Pages carry no checksum (the catalog's SHA-256 is it), so a flipped bit may also read as other values.
        let _ = read_rows(&bytes.into()).await;
    }
}
