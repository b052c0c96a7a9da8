use super::*;

fn value() -> impl Strategy<Value = f64> {
    let special = prop::sample::select(vec![
        STALE,
        f64::NAN,
        f64::from_bits(0xfff8_0000_0000_0001),
        f64::INFINITY,
        f64::NEG_INFINITY,
        -0.0,
        0.0,
        f64::MIN_POSITIVE,
        f64::MAX,
        9_007_199_254_740_991.0,
    ]);
    prop_oneof![
        4 => (-1_000_000i64..1_000_000).prop_map(|i| i as f64),
        4 => (-1_000_000i64..1_000_000, 0i32..6).prop_map(|(i, s)| i as f64 / 10f64.powi(s)),
        1 => special,
        1 => any::<u64>().prop_map(f64::from_bits),
    ]
}

fn sample() -> impl Strategy<Value = Sample> {
    let ts = prop_oneof![
        8 => 0i64..10_000,
        4 => -3 * RAW_WINDOW_MS..3 * RAW_WINDOW_MS,
        1 => prop::sample::select(vec![i64::MIN, i64::MIN + 1, i64::MAX - 1, i64::MAX]),
    ];
    let start = prop_oneof![4 => Just(0i64), 1 => any::<i64>()];
    (ts, value(), start).prop_map(|(ts_ms, value, start_ms)| Sample { ts_ms, value, start_ms })
}

fn label_set() -> impl Strategy<Value = Labels> {
    let name = prop_oneof![
        prop::sample::select(vec![
            "__name__", "job", "Job", "JOB", "_x", "__meta", "ts", "Zone", "a.b", "é", "quo\"te", "x y"
        ])
        .prop_map(str::to_owned),
        "[a-c]{1,2}",
    ];
    prop::collection::btree_map(name, "[a-b]{1,2}|\\PC{1,4}", 1..6)
        .prop_map(|pairs| Labels::from_pairs(pairs).unwrap())
}

fn runs() -> impl Strategy<Value = Vec<SeriesRun>> {
    let samples = prop::collection::vec(sample(), 1..40).prop_map(|mut samples| {
        normalize_samples(&mut samples);
        samples
    });
    prop::collection::btree_map(label_set(), samples, 0..12).prop_map(|map| {
        let mut runs: Vec<SeriesRun> =
            map.into_iter().map(|(labels, samples)| SeriesRun { labels, samples }).collect();
        runs.sort_by(|a, b| block_order(&a.labels, &b.labels));
        runs
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_goes_in_comes_out(runs in runs()) {
        let (file, stats) = write(runs.clone());
        prop_assert_eq!(block_on(read_all(&file)).unwrap(), runs.clone());
        prop_assert_eq!(stats.samples as usize, runs.iter().map(|r| r.samples.len()).sum::<usize>());
        prop_assert_eq!(stats.series as usize, runs.len());
    }

    #[test]
    fn label_columns_do_not_change_what_comes_out(runs in runs(), keep in any::<[bool; 8]>()) {
        let all = extend_label_columns(&[], runs.iter().map(|r| &r.labels));
        let some: Vec<String> = all.into_iter().zip(keep.iter().cycle()).filter(|(_, k)| **k).map(|(c, _)| c).collect();
        let mut file = Vec::new();
        write_block(&mut file, &spec(&some), runs.clone()).unwrap();
        prop_assert_eq!(block_on(read_all(&file.into())).unwrap(), runs);
    }

    #[test]
    fn find_rows_agrees_with_matching_every_series(
        runs in runs(),
        kind in prop::sample::select(vec![MatchKind::Equal, MatchKind::NotEqual, MatchKind::Regex, MatchKind::NotRegex]),
        name in prop::sample::select(vec!["__name__", "job", "Job", "_x", "a", "absent"]),
        value in prop::sample::select(vec!["", "a", "ab", "a.*", "a|b", ".+", ".*"]),
        range in (-RAW_WINDOW_MS..RAW_WINDOW_MS, 0..RAW_WINDOW_MS),
    ) {
        let matchers = [Matcher::new(kind, name, value).unwrap()];
        let range = TimeRange { start_ms: range.0, end_ms: range.0 + range.1 };
        let (file, _) = write(runs.clone());
        let found = block_on(async {
            let reader = open(&file).await.unwrap();
            reader.find_rows(&matchers, range).await.unwrap()
        });
        let mut expected = Vec::new();
        let mut number = 0;
        for run in &runs {
            for row in row::split_rows(&run.samples) {
                let (min_time_ms, max_time_ms) = (row[0].ts_ms, row[row.len() - 1].ts_ms);
                let touches = min_time_ms < range.end_ms && range.start_ms <= max_time_ms;
                if match_labels(&matchers, &run.labels) && touches {
                    let (labels, samples) = (run.labels.clone(), row.len() as u32);
                    expected.push(BlockRow { row: number, labels, min_time_ms, max_time_ms, samples });
                }
                number += 1;
            }
        }
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn rows_end_at_windows_and_at_the_sample_limit() {
    let times = (0..10_000).map(|i| i * 1000).chain([RAW_WINDOW_MS - 1, RAW_WINDOW_MS, RAW_WINDOW_MS * 7]);
    let samples: Vec<Sample> = times.map(|t| Sample::new(t, 1.0)).collect();
    let sizes: Vec<usize> = row::split_rows(&samples).map(<[Sample]>::len).collect();
    assert_eq!(sizes, [4096, 4096, 1809, 1, 1]);
    let ends: Vec<Sample> = [i64::MIN, i64::MIN + RAW_WINDOW_MS, -1, 0, i64::MAX - 1, i64::MAX]
        .map(|t| Sample::new(t, 1.0))
        .into();
    let sizes: Vec<usize> = row::split_rows(&ends).map(<[Sample]>::len).collect();
    assert_eq!(sizes, [1, 1, 1, 1, 2]);
}

#[tokio::test]
async fn many_labels_and_many_samples_come_back() {
    let wide: Vec<(String, String)> = (0..300).map(|i| (format!("l{i}"), format!("v{i}"))).collect();
    let samples =
        (0..9_000).map(|i| Sample { ts_ms: i * 15_000, value: (i % 7) as f64 / 8.0, start_ms: i % 3 });
    let mut runs = vec![
        SeriesRun { labels: Labels::from_pairs(wide).unwrap(), samples: samples.collect() },
        run(&[("__name__", "up")], (0..5_000).map(|i| (i, STALE))),
    ];
    runs.sort_by(|a, b| block_order(&a.labels, &b.labels));
    let (file, stats) = write(runs.clone());
    assert_eq!(stats.label_columns.len(), LABEL_COLUMNS_MAX);
    assert_eq!(read_all(&file).await.unwrap(), runs);
}

#[test]
fn statistics_cover_finite_values_left_to_right() {
    let values = [f64::NAN, 3.0, 5.0, f64::INFINITY, 2.0, STALE, 4.0];
    let samples: Vec<Sample> = values.iter().enumerate().map(|(i, v)| Sample::new(i as i64, *v)).collect();
    let summary = row::summarize(&samples);
    let finite =
        row::Finite { sum: 14.0, min: 2.0, max: 5.0, first: 3.0, last: 4.0, increase: 2.0 + 2.0 + 2.0 };
    assert_eq!(summary, row::RowSummary { stale: 1, nonfinite: 2, finite: Some(finite) });
    assert_eq!(row::summarize(&samples[..1]).finite, None);
}
