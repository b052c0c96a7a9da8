use std::collections::BTreeSet;

use super::*;

/// 40,000 series with many labels, one of them of high cardinality and one rare, in one row group.
fn wide_block() -> (Bytes, Vec<SeriesRun>) {
    let runs = (0..40_000u32).map(|i| {
        let text = |n: u32| format!("{:08x}", n.wrapping_mul(0x9e37_79b9));
        let id = [text(i), text(i + 1), text(i + 2)].concat();
        let (pod, zone) = (text(i / 4), format!("z{}", i % 3));
        let name = format!("metric_{:02}", i / 1_000);
        let mut pairs = vec![("__name__", name.as_str()), ("id", &id), ("pod", &pod), ("zone", &zone)];
        if i % 1_000 == 7 {
            pairs.push(("rare", "yes"));
        }
        run(&pairs, (0..2).map(|t| (i64::from(t) * 1_000, f64::from(i))))
    });
    let runs: Vec<SeriesRun> = runs.collect();
    (write(runs.clone()).0, runs)
}

async fn recorded(file: &Bytes) -> (Arc<Recorded>, BlockReader) {
    let source = Arc::new(Recorded { bytes: file.clone(), reads: Mutex::default() });
    let shared: Arc<dyn RangeRead> = Arc::clone(&source) as _;
    let reader = BlockReader::open(shared, cpu(), file.len() as u64).await.unwrap();
    source.take();
    (source, reader)
}

fn total(reads: &[Range<u64>]) -> u64 {
    reads.iter().map(|r| r.end - r.start).sum()
}

/// Returns where the columns of labels, times and counts end and those of samples start, over all row groups.
fn sample_ranges(reader: &BlockReader) -> Vec<Range<u64>> {
    let block = &reader.block;
    let ts = block.column("_ts").unwrap() + 1;
    let groups = 0..block.row_ranges().count();
    let columns = groups.flat_map(|group| block.row_group(group).columns()[ts..].to_vec());
    columns.map(|column| dictionary::chunk_range(&column).unwrap()).collect()
}

fn no_samples(reader: &BlockReader, reads: &[Range<u64>]) {
    for samples in sample_ranges(reader) {
        let touched = reads.iter().find(|r| r.start < samples.end && samples.start < r.end);
        assert_eq!(touched, None, "samples at {samples:?}");
    }
}

#[tokio::test]
async fn finding_one_series_reads_a_small_part_of_the_labels() {
    let (file, runs) = wide_block();
    let (source, reader) = recorded(&file).await;
    let labels_bytes: u64 = {
        let columns = reader.block.row_group(0).columns()[1..6].to_vec();
        columns.iter().map(|c| dictionary::chunk_range(c).unwrap()).map(|r| r.end - r.start).sum()
    };
    let wanted = &runs[12_345].labels;
    let matchers = [Matcher::equal("__name__", "metric_12"), Matcher::equal("zone", "z0")];
    let rows = reader.find_rows(&matchers, TimeRange::ALL).await.unwrap();
    assert_eq!(rows.len(), 334, "{:?}", rows.first());
    assert!(rows.iter().any(|row| row.labels == *wanted));
    let reads = source.take();
    no_samples(&reader, &reads);
    assert!(total(&reads) * 2 < labels_bytes, "{reads:?} of {labels_bytes}");
}

#[tokio::test]
async fn label_values_without_matchers_read_dictionaries_alone() {
    let (file, _) = wide_block();
    let (source, reader) = recorded(&file).await;
    let values = reader.label_values("zone", &[], TimeRange::ALL).await.unwrap();
    assert_eq!(values, BTreeSet::from(["z0", "z1", "z2"].map(str::to_owned)));
    let reads = source.take();
    assert!(total(&reads) < 200, "{reads:?}");
    assert_eq!(reader.label_values("__name__", &[], TimeRange::ALL).await.unwrap().len(), 40);
    assert!(total(&source.take()) < 2_000);
    let names = reader.label_names(&[], TimeRange::ALL).await.unwrap();
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["__name__", "id", "pod", "rare", "zone"]);
    let reads = source.take();
    assert!(total(&reads) < 200, "{reads:?}");
}

#[tokio::test]
async fn label_names_of_a_block_without_rare_labels_read_next_to_nothing() {
    let series = (0..3_000).map(|i| run(&[("__name__", "m"), ("i", &format!("{i:05}"))], [(1, 1.0)]));
    let (file, _) = write(series.collect());
    let (source, reader) = recorded(&file).await;
    let names = reader.label_names(&[], TimeRange::ALL).await.unwrap();
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["__name__", "i"]);
    let reads = source.take();
    assert!(total(&reads) < 100, "{reads:?}");
}

#[tokio::test]
async fn labels_are_looked_up_without_a_byte_of_samples() {
    let (file, _) = wide_block();
    let (source, reader) = recorded(&file).await;
    let none: &[Matcher] = &[];
    let some = &[Matcher::equal("zone", "z1")];
    let half = TimeRange { start_ms: 500, end_ms: 800 };
    for (matchers, range) in [(none, TimeRange::ALL), (none, half), (some, TimeRange::ALL), (some, half)] {
        for name in ["__name__", "pod", "rare", "absent"] {
            reader.label_values(name, matchers, range).await.unwrap();
        }
        reader.label_names(matchers, range).await.unwrap();
        reader.find_rows(matchers, range).await.unwrap();
        no_samples(&reader, &source.take());
    }
}

#[tokio::test]
async fn a_series_is_read_with_the_list_it_uses_and_no_empty_start_times() {
    let constant = (0..1_000).map(|t| (t * 1_000, 1.0));
    let random = random_from_seed(3);
    let noise: Vec<(i64, f64)> =
        (0..4_000).map(|t| (t * 1_000, f64::from_bits(random.next_u64() >> 12 | 0x3ff0 << 48))).collect();
    let mut runs = vec![run(&[("__name__", "a")], constant)];
    runs.extend((0..200).map(|i| run(&[("__name__", "b"), ("i", &format!("{i:03}"))], noise.clone())));
    let (file, _) = write(runs.clone());
    let (source, reader) = recorded(&file).await;
    let samples = reader.read_samples(&[0]).await.unwrap();
    assert_eq!(samples[0], runs[0].samples);
    let reads = source.take();
    assert!(total(&reads) < 100_000, "{reads:?} of {}", file.len());
    assert_eq!(reader.read_samples(&[0, 1, 200]).await.unwrap()[2], runs[200].samples);
    let st = reader.block.column("_st").unwrap() + 1;
    assert!(reader.block.column_is_null(0, st), "statistics tell that there are no start timestamps");
}

#[tokio::test]
async fn the_rows_of_one_series_stay_in_one_row_group() {
    let rows = 3 * 8 * 3_600_000 / 15_000;
    let series = (0..800).map(|i| {
        let samples = (0..rows).map(|t| (t * 15_000, 1.0));
        run(&[("__name__", "m"), ("i", &format!("{i:04}"))], samples)
    });
    let (file, _) = write(series.collect());
    let reader = open(&file).await.unwrap();
    let starts: Vec<u32> = reader.block.row_ranges().map(|range| range.start).collect();
    assert!(starts.len() > 1 && starts.iter().all(|start| start % 3 == 0), "{starts:?}");
}

#[test]
fn near_ranges_share_a_request_and_far_ones_do_not() {
    let kib = |n: u64| n << 10;
    assert_eq!(join_ranges(vec![kib(200)..kib(201), 0..1, 5..5, 10..20]), [0..20, kib(200)..kib(201)]);
    assert_eq!(
        join_ranges(vec![0..10, kib(100)..kib(101)]),
        std::iter::once(0..kib(101)).collect::<Vec<_>>()
    );
    let wide = vec![0..kib(900), kib(1_700)..kib(1_800)];
    assert_eq!(
        join_ranges(wide),
        std::iter::once(0..kib(1_800)).collect::<Vec<_>>(),
        "a gap may be as large as what is wanted before it"
    );
    assert_eq!(join_ranges(vec![0..kib(3_000), kib(3_000)..kib(6_000)]).len(), 2, "long requests are split");
    assert_eq!(
        join_ranges(vec![0..kib(5_000), kib(10)..kib(6_000)]),
        std::iter::once(0..kib(6_000)).collect::<Vec<_>>(),
        "but never overlap"
    );
}

#[test]
fn the_index_of_a_block_is_guessed_large_enough() {
    let (file, runs) = wide_block();
    let footer_bytes = u32::from_le_bytes(file[file.len() - 8..file.len() - 4].try_into().unwrap());
    let guess = expected_index_bytes(80_000, runs.len() as u64, 4);
    assert!(u64::from(footer_bytes) < guess && guess < 200_000, "{footer_bytes} {guess}");
}

fn naive_names(runs: &[&SeriesRun]) -> BTreeSet<String> {
    runs.iter().flat_map(|run| run.labels.iter()).map(|(name, _)| name.to_owned()).collect()
}

fn naive_values(runs: &[&SeriesRun], name: &str) -> BTreeSet<String> {
    runs.iter().filter_map(|run| run.labels.get(name)).map(str::to_owned).collect()
}

fn any_matcher() -> impl Strategy<Value = Matcher> {
    let kind = prop_oneof![
        Just(MatchKind::Equal),
        Just(MatchKind::NotEqual),
        Just(MatchKind::Regex),
        Just(MatchKind::NotRegex)
    ];
    let name = prop_oneof![Just("__name__"), Just("a"), Just("b"), Just("_rest"), Just("absent")];
    let value = prop_oneof![Just(""), Just("x"), Just("y"), Just("x|z"), Just("x.*"), Just(".+"), Just("q")];
    (kind, name, value).prop_map(|(kind, name, value)| Matcher::new(kind, name, value).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn finds_and_look_ups_agree_with_label_sets(
        series in proptest::collection::btree_map(
            (0..4usize, 0..4usize, 0..4usize, 0..3usize),
            proptest::collection::btree_set(0..100i64, 1..4),
            0..40,
        ),
        matchers in proptest::collection::vec(any_matcher(), 0..3),
        (start, length) in (-5..105i64, 1..110i64),
    ) {
        let values = ["", "x", "y", "xz"];
        let runs = series.into_iter().map(|((name, a, b, rest), times)| {
            let pairs = [("__name__", values[name]), ("a", values[a]), ("b", values[b]), ("_rest", values[rest])];
            let labels = Labels::from_pairs(pairs.into_iter().filter(|(_, value)| !value.is_empty())).unwrap();
            SeriesRun { labels, samples: times.into_iter().map(|t| Sample::new(t, 1.0)).collect() }
        });
        let mut runs: Vec<SeriesRun> = runs.collect();
        runs.sort_by(|a, b| block_order(&a.labels, &b.labels));
        let (file, _) = write(runs.clone());
        let range = TimeRange { start_ms: start, end_ms: start + length };
        let touches = |run: &SeriesRun| {
            run.samples[0].ts_ms < range.end_ms && run.samples.last().unwrap().ts_ms >= range.start_ms
        };
        let expected: Vec<&SeriesRun> =
            runs.iter().filter(|run| touches(run) && match_labels(&matchers, &run.labels)).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let reader = open(&file).await.unwrap();
            let rows = reader.find_rows(&matchers, range).await.unwrap();
            let found: Vec<&Labels> = rows.iter().map(|row| &row.labels).collect();
            assert_eq!(found, expected.iter().map(|run| &run.labels).collect::<Vec<_>>());
            let names = reader.label_names(&matchers, range).await.unwrap();
            assert_eq!(names, naive_names(&expected));
            for name in ["__name__", "a", "_rest", "absent"] {
                let values = reader.label_values(name, &matchers, range).await.unwrap();
                assert_eq!(values, naive_values(&expected, name), "{name}");
            }
        });
    }
}
