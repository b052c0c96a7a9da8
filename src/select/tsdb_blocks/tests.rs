use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::model::{ErrorKind, MatchKind, TenantId};
use crate::model::{FloatHistogram, Histogram};
use crate::runtime::Cpu;
use crate::select::{Grouping, SelectLimits, Selector};
use crate::tsdb::block::{
    BlockBuilder, BlockOptions, BlockParent, FilesInFolder, HINT_FROM_OUT_OF_ORDER, SeriesChunks,
    encode_tombstones,
};

type Content = BTreeMap<&'static str, Vec<(i64, f64)>>;

fn labels(name: &str) -> Labels {
    Labels::from_pairs([("__name__", name), ("job", "x")]).unwrap()
}

fn write(folder: &Path, id: u128, content: &Content, change: impl FnOnce(&mut BlockOptions)) -> PathBuf {
    let path = folder.join(Ulid(id).to_string());
    let mut options = BlockOptions::level_one(Ulid(id));
    change(&mut options);
    let mut builder = BlockBuilder::new(FilesInFolder(path.clone()), options);
    let mut chunks = SeriesChunks::new();
    for (name, samples) in content {
        chunks.clear();
        samples.iter().for_each(|(t_ms, value)| chunks.push_float(*t_ms, value.to_bits()));
        builder.add(&labels(name), &mut chunks).unwrap();
    }
    builder.finish().unwrap();
    path
}

fn run(count: i64, step: i64, from: i64) -> Vec<(i64, f64)> {
    (0..count).map(|i| (from + i * step, (from + i) as f64)).collect()
}

fn tenant() -> TenantId {
    TenantId::new("restored").unwrap()
}

async fn read(folder: &Path, matchers: &[Matcher], range: TimeRange) -> BTreeMap<String, Vec<(i64, f64)>> {
    let blocks = Arc::new(TsdbBlocks::open(folder).unwrap());
    let limits = SelectLimits::NONE;
    let shown_as = (tenant(), Labels::from_pairs([("cluster", "eu")]).unwrap());
    let selector = Selector::over_directory(blocks, shown_as, Cpu::start(2).unwrap(), limits);
    assert_eq!(selector.tenants(), [tenant()]);
    let keep = |external: &Labels| (external.get("cluster") == Some("eu")).then(|| matchers.to_vec());
    let found = selector.select(&tenant(), range, &keep, Grouping::ByExternalLabels).await.unwrap();
    assert!(found.len() <= 1, "one producer");
    let Some(selection) = found.first() else { return BTreeMap::new() };
    let all: Vec<usize> = (0..selection.len()).collect();
    let samples: Vec<_> = selection.read(&all).await.unwrap().into_iter().map(|data| data.samples).collect();
    assert!(samples.iter().map(|run| run.len() as u64).sum::<u64>() <= selection.samples_max());
    let names = selection.labels().map(|labels| labels.metric_name().to_owned());
    names.zip(samples).map(|(n, run)| (n, run.iter().map(|s| (s.ts_ms, s.value)).collect())).collect()
}

#[tokio::test]
async fn overlapping_blocks_are_one_series_each_sample_once() {
    let folder = tempfile::tempdir().unwrap();
    let (even, odd) = (run(1_000, 20, 0), run(500, 20, 5_010));
    write(folder.path(), 1, &Content::from([("a", even.clone()), ("b", run(5, 1, 0))]), |_| {});
    let mixed: Vec<_> = odd.iter().copied().chain([(30_000, 1.0)]).collect();
    write(folder.path(), 2, &Content::from([("a", mixed.clone())]), |options| {
        options.hints.push(HINT_FROM_OUT_OF_ORDER.to_owned());
    });
    write(folder.path(), 3, &Content::from([("a", even[100..300].to_vec())]), |_| {});
    fs::create_dir(folder.path().join("wal")).unwrap();
    fs::create_dir(folder.path().join("01M81CS08PS78Y0A1MAFVX1ZS4.tmp-for-creation")).unwrap();

    let mut expected: BTreeMap<i64, f64> = even.into_iter().collect();
    expected.extend(mixed);
    let answer = read(folder.path(), &[], TimeRange::ALL).await;
    assert_eq!(answer["a"], expected.clone().into_iter().collect::<Vec<_>>());
    assert_eq!(answer["b"].len(), 5);

    let range = TimeRange { start_ms: 5_000, end_ms: 5_050 };
    let equal = Matcher::equal("__name__", "a");
    let not = Matcher::new(MatchKind::NotEqual, "__name__", "b").unwrap();
    for matchers in [vec![], vec![equal], vec![not]] {
        let answer = read(folder.path(), &matchers, range).await;
        let inside: Vec<(i64, f64)> = expected.range(5_000..5_050).map(|(t, v)| (*t, *v)).collect();
        assert_eq!(answer, BTreeMap::from([("a".to_owned(), inside)]));
    }
    assert!(read(folder.path(), &[], TimeRange { start_ms: 50_000, end_ms: 60_000 }).await.is_empty());
}

#[tokio::test]
async fn deleted_samples_are_left_out_and_a_series_without_others_is_not_found() {
    let folder = tempfile::tempdir().unwrap();
    let content = Content::from([("a", run(240, 10, 0)), ("b", run(240, 10, 0))]);
    let path = write(folder.path(), 1, &content, |_| {});
    let index = IndexReader::open(DiskFile::open(&path.join("index")).unwrap()).unwrap();
    let of = |name: &str| u64::from(index.postings("__name__", name).unwrap()[0]);
    let tombstone =
        |name, min_time_ms, max_time_ms| Tombstone { reference: of(name), min_time_ms, max_time_ms };
    let deleted = [
        tombstone("a", 100, 200),
        tombstone("a", 500, 505),
        // Together they cover all of it.
        tombstone("b", i64::MIN, 1_000),
        tombstone("b", 1_001, i64::MAX),
    ];
    fs::write(path.join("tombstones"), encode_tombstones(&deleted)).unwrap();
    let left = run(240, 10, 0).into_iter().filter(|(t, _)| !(100..=200).contains(t) && *t != 500);
    let answer = read(folder.path(), &[], TimeRange::ALL).await;
    assert_eq!(answer, BTreeMap::from([("a".to_owned(), left.collect::<Vec<_>>())]));
}

#[tokio::test]
async fn blocks_that_prometheus_would_delete_are_not_served() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), 1, &Content::from([("old", run(10, 1, 0))]), |_| {});
    write(folder.path(), 2, &Content::from([("new", run(10, 1, 0))]), |options| {
        options.parents = vec![BlockParent { ulid: Ulid(1), min_time_ms: 0, max_time_ms: 10 }];
    });
    let answer = read(folder.path(), &[], TimeRange::ALL).await;
    assert_eq!(answer.keys().collect::<Vec<_>>(), ["new"]);
}

#[tokio::test]
async fn native_histograms_come_with_their_floats_and_without_what_was_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(Ulid(1).to_string());
    let mut builder = BlockBuilder::new(FilesInFolder(path.clone()), BlockOptions::level_one(Ulid(1)));
    let mut chunks = SeriesChunks::new();
    let whole =
        |t: i64| Histogram { count: t as u64, zero_count: t as u64, sum: 0.5, ..Histogram::default() };
    let fractional = FloatHistogram { count: 1.5, zero_count: 1.5, ..FloatHistogram::default() };
    (0..7).for_each(|t| chunks.push_histogram(t, &whole(t)).unwrap());
    (7..10).for_each(|t| chunks.push_float(t, 1.0f64.to_bits()));
    chunks.push_float_histogram(10, &fractional).unwrap();
    builder.add(&labels("mixed"), &mut chunks).unwrap();
    builder.finish().unwrap();
    let index = IndexReader::open(DiskFile::open(&path.join("index")).unwrap()).unwrap();
    let reference = u64::from(index.postings("__name__", "mixed").unwrap()[0]);
    let tombstone = Tombstone { reference, min_time_ms: 2, max_time_ms: 4 };
    fs::write(path.join("tombstones"), encode_tombstones(&[tombstone])).unwrap();

    let blocks = TsdbBlocks::open(folder.path()).unwrap();
    let block = blocks.of_range(TimeRange::ALL).next().unwrap();
    let found = block.select(&[], TimeRange::ALL).unwrap();
    let data = &block.read(&[found[0].1], TimeRange { start_ms: 1, end_ms: 11 }).unwrap()[0];
    let floats: Vec<i64> = data.samples.iter().map(|s| s.ts_ms).collect();
    assert_eq!(floats, [7, 8, 9]);
    let times: Vec<i64> = data.histograms.iter().map(|h| h.ts_ms).collect();
    assert_eq!(times, [1, 5, 6, 10]);
    for sample in &data.histograms[..3] {
        let NativeHistogram::Int(read) = &sample.histogram else { panic!("{sample:?}") };
        assert_eq!(read.as_ref(), &Histogram { counter_reset_hint: 2, ..whole(sample.ts_ms) });
    }
    assert_eq!(data.histograms[3].histogram, NativeHistogram::Float(Box::new(fractional)));
}

#[test]
fn damage_is_told_with_the_block_and_an_empty_directory_is_not_found() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(TsdbBlocks::open(folder.path()).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(TsdbBlocks::open(&folder.path().join("none")).unwrap_err().kind(), ErrorKind::NotFound);
    let path = write(folder.path(), 1, &Content::from([("a", run(500, 1, 0))]), |_| {});
    for file in ["index", "tombstones", "meta.json", "chunks/000001"] {
        let good = fs::read(path.join(file)).unwrap();
        let mut bad = good.clone();
        bad[2] ^= 0x10;
        fs::write(path.join(file), bad).unwrap();
        let error = TsdbBlocks::open(folder.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{file}");
        assert!(error.to_string().contains(&Ulid(1).to_string()), "{error}");
        fs::write(path.join(file), good).unwrap();
    }
    let mut bad = fs::read(path.join("chunks/000001")).unwrap();
    bad[40] ^= 0x10;
    fs::write(path.join("chunks/000001"), bad).unwrap();
    let blocks = TsdbBlocks::open(folder.path()).unwrap();
    let block = blocks.of_range(TimeRange::ALL).next().unwrap();
    let reference = block.select(&[], TimeRange::ALL).unwrap()[0].1;
    assert_eq!(block.read(&[reference], TimeRange::ALL).unwrap_err().kind(), ErrorKind::Corrupt);
}
