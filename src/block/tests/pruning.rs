use super::*;

/// Two row groups of 1,000 rows with 4,096 samples each, and a little more.
fn large_block() -> (Bytes, BlockStats) {
    let series = (0..1100).map(|i| {
        let name = if i < 1050 { "first" } else { "second" };
        let samples = (0..4_096).map(|t| (t * 1000, ((t * i) % 1000) as f64));
        run(&[("__name__", name), ("i", &format!("{i:04}"))], samples)
    });
    write(series.collect())
}

#[tokio::test]
async fn reads_touch_little_of_a_block() {
    let (file, stats) = large_block();
    assert_eq!(stats.rows, 1100);
    let source = Arc::new(Recorded { bytes: file.clone(), reads: Mutex::default() });
    let shared: Arc<dyn RangeRead> = Arc::clone(&source) as _;
    let reader = BlockReader::open(shared, cpu(), file.len() as u64).await.unwrap();
    assert_eq!(source.take().len(), 1, "footer and page index are one read");

    let matchers = [Matcher::equal("__name__", "second")];
    let rows = reader.find_rows(&matchers, TimeRange::ALL).await.unwrap();
    assert_eq!(rows.len(), 50);
    let reads = source.take();
    assert_eq!(reads.len(), 1, "statistics leave one row group, whose label columns are neighbours");
    assert!(reads[0].end - reads[0].start < 20_000, "{reads:?}");

    let samples = reader.read_samples(&[rows[3].row]).await.unwrap();
    assert_eq!(samples[0].len(), 4_096);
    assert!(source.take().len() <= 3, "one read for each sample column at most");

    assert_eq!(reader.find_rows(&[Matcher::equal("__name__", "a")], TimeRange::ALL).await.unwrap(), []);
    assert_eq!(reader.find_rows(&[Matcher::equal("i", "2")], TimeRange::ALL).await.unwrap(), []);
    let later = TimeRange { start_ms: 4_096_000, end_ms: i64::MAX };
    assert_eq!(reader.find_rows(&[], later).await.unwrap(), []);
    assert_eq!(source.take(), [], "what statistics exclude is not read");
}

#[tokio::test]
async fn rows_of_several_row_groups_are_read_at_once() {
    let (file, _) = large_block();
    let reader = open(&file).await.unwrap();
    let chosen = [0, 1, 7, 976, 977, 1098, 1099];
    let samples = reader.read_samples(&chosen).await.unwrap();
    for (row, samples) in chosen.iter().zip(samples) {
        let expected: Vec<Sample> =
            (0..4_096).map(|t| Sample::new(t * 1000, ((t * i64::from(*row)) % 1000) as f64)).collect();
        assert_eq!(samples, expected);
    }
}

#[tokio::test]
async fn a_failed_read_keeps_its_kind() {
    #[derive(Debug)]
    struct Gone;
    impl RangeRead for Gone {
        fn read_ranges<'a>(&'a self, _: &'a [Range<u64>]) -> BoxFuture<'a, Result<Vec<Bytes>, ReadFailure>> {
            let failure = ReadFailure { kind: ErrorKind::NotFound, source: "no such object".into() };
            Box::pin(std::future::ready(Err(failure)))
        }
    }
    let error = BlockReader::open(Arc::new(Gone), cpu(), 1000).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(error.to_string(), "cannot read the block: no such object");
}
