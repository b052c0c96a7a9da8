use std::path::PathBuf;

use serde_json::{Value, json};

use super::*;

pub(super) fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

pub(super) fn bless() -> bool {
    std::env::var_os("PERENNIAL_BLESS").is_some()
}

/// Each special case of the format once.
fn special_cases() -> Vec<SeriesRun> {
    let nan = f64::from_bits(0x7ff8_0000_dead_beef);
    let started = [(1_000, 1.0, 0), (2_000, 2.0, 500), (3_000, 3.0, 2_500)];
    let started = started.map(|(ts_ms, value, start_ms)| Sample { ts_ms, value, start_ms });
    vec![
        run(&[("__name__", "counter"), ("job", "a")], (0..4_100).map(|i| (i * 1000, (i % 50) as f64))),
        run(&[("__name__", "decimal"), ("job", "a")], [(1_000, 0.1), (2_000, 12.345), (3_000, -7.0)]),
        run(&[("__name__", "stale"), ("job", "a")], [(1_000, 0.5), (2_000, STALE), (3_000, 1.5)]),
        run(&[("__name__", "all_stale"), ("job", "b")], [(1_000, STALE), (2_000, STALE)]),
        run(
            &[("__name__", "bits"), ("job", "b")],
            [(1, nan), (2, f64::INFINITY), (3, f64::NEG_INFINITY), (4, -0.0), (5, STALE), (6, 0.1 + 0.2)],
        ),
        SeriesRun { labels: labels(&[("__name__", "started"), ("job", "b")]), samples: started.into() },
        run(&[("__name__", "windows")], [(-1, 1.0), (0, 2.0), (RAW_WINDOW_MS, 3.0)]),
        run(&[("__name__", "rest"), ("_private", "p"), ("JOB", "collides")], [(1_000, 1.0)]),
        run(&[("__name__", "utf8.name/ö"), ("label.dots \"quotes\"", "é")], [(1_000, 1.0)]),
        run(&[("Upper", "without a metric name")], [(1_000, 9_007_199_254_740_991.0)]),
    ]
}

fn describe(meta: &BlockMeta, runs: &[SeriesRun]) -> Value {
    let series: Vec<Value> = runs
        .iter()
        .map(|run| {
            let labels: serde_json::Map<String, Value> =
                run.labels.iter().map(|(n, v)| (n.to_owned(), v.into())).collect();
            let samples: Vec<Value> = run
                .samples
                .iter()
                .map(|s| json!([s.ts_ms, format!("{:016x}", s.value.to_bits()), s.start_ms]))
                .collect();
            json!({"labels": labels, "samples": samples})
        })
        .collect();
    let stats = &meta.stats;
    json!({
        "id": meta.id.to_string(),
        "tenant": meta.tenant,
        "resolution": meta.resolution,
        "range": meta.range,
        "external_labels": meta.external_labels.iter().collect::<std::collections::BTreeMap<_, _>>(),
        "positions": meta.positions,
        "sources": meta.sources,
        "rows": stats.rows, "series_count": stats.series, "samples": stats.samples, "stale": stats.stale,
        "min_time_ms": stats.min_time_ms, "max_time_ms": stats.max_time_ms,
        "metric_min": stats.metric_min, "metric_max": stats.metric_max,
        "label_columns": stats.label_columns,
        "series": series,
    })
}

#[tokio::test]
async fn format_1_keeps_opening() {
    let (file, expected) =
        (repository("tests/fixtures/block/v1.parquet"), repository("tests/fixtures/block/v1.expected.json"));
    if bless() {
        let (bytes, _) = write(special_cases());
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, &bytes).unwrap();
    }
    let bytes = Bytes::from(std::fs::read(&file).unwrap());
    let runs = read_all(&bytes).await.unwrap();
    let found = describe(open(&bytes).await.unwrap().meta(), &runs);
    if bless() {
        std::fs::write(&expected, serde_json::to_string(&found).unwrap() + "\n").unwrap();
    }
    let expected: Value = serde_json::from_slice(&std::fs::read(&expected).unwrap()).unwrap();
    assert_eq!(found, expected);
    let mut cases = special_cases();
    cases.sort_by(|a, b| block_order(&a.labels, &b.labels));
    assert_eq!(runs, cases);
}

fn bits(values: &[f64]) -> Vec<String> {
    values.iter().map(|v| format!("{:016x}", v.to_bits())).collect()
}

fn describe_histogram(sample: &HistogramSample) -> Value {
    let spans = |spans: &[Span]| spans.iter().map(|s| json!([s.offset, s.length])).collect::<Vec<_>>();
    let (kind, shared, counts) = match &sample.histogram {
        NativeHistogram::Int(h) => (
            "int",
            json!([h.counter_reset_hint, h.schema, bits(&[h.zero_threshold, h.sum]), bits(&h.custom_values)]),
            json!([
                h.count,
                h.zero_count,
                spans(&h.positive_spans),
                h.positive_buckets,
                spans(&h.negative_spans),
                h.negative_buckets
            ]),
        ),
        NativeHistogram::Float(h) => (
            "float",
            json!([h.counter_reset_hint, h.schema, bits(&[h.zero_threshold, h.sum]), bits(&h.custom_values)]),
            json!([
                bits(&[h.count, h.zero_count]),
                spans(&h.positive_spans),
                bits(&h.positive_buckets),
                spans(&h.negative_spans),
                bits(&h.negative_buckets)
            ]),
        ),
    };
    json!({"ts": sample.ts_ms, "st": sample.start_ms, "kind": kind, "shared": shared, "counts": counts})
}

/// Compares what is read from a fixture with what it must hold.
fn check_fixture(name: &str, current: &Bytes, read: impl Fn(&Bytes) -> Value) {
    let file = repository(&format!("tests/fixtures/block/{name}.v1.parquet"));
    let expected = repository(&format!("tests/fixtures/block/{name}.v1.expected.json"));
    if bless() {
        std::fs::write(&file, current).unwrap();
        std::fs::write(&expected, serde_json::to_string(&read(current)).unwrap() + "\n").unwrap();
    }
    let found = read(&std::fs::read(&file).unwrap().into());
    let expected: Value = serde_json::from_slice(&std::fs::read(&expected).unwrap()).unwrap();
    assert_eq!(found, expected);
    assert_eq!(read(current), expected, "what is written now reads as the fixture does");
}

#[test]
fn histograms_of_format_1_keep_opening() {
    use crate::block::histograms::tests::{read, special_cases, write};
    check_fixture("histograms", &write(special_cases()).0, |file| {
        let series = block_on(read(file)).unwrap().into_iter().map(|run| {
            let samples: Vec<Value> = run.histograms.iter().map(describe_histogram).collect();
            json!({"labels": run.labels.to_string(), "histograms": samples})
        });
        series.collect()
    });
}

#[test]
fn exemplars_of_format_1_keep_opening() {
    use crate::block::exemplars::tests::{find, special_cases, write};
    check_fixture("exemplars", &write(special_cases()).0, |file| {
        let series =
            block_on(find(file, &[], TimeRange::ALL)).unwrap().into_iter().map(|(labels, exemplars)| {
                let exemplars =
                    exemplars.iter().map(|e| json!([e.ts_ms, bits(&[e.value]), e.labels.to_string()]));
                json!({"labels": labels.to_string(), "exemplars": exemplars.collect::<Vec<_>>()})
            });
        series.collect()
    });
}

#[test]
fn metadata_of_format_1_keeps_opening() {
    use crate::block::metadata::tests::{read, special_cases, write};
    check_fixture("metadata", &write(&special_cases()).0, |file| {
        let entries = block_on(read(file)).unwrap().into_iter().map(|e| {
            let said = &e.metadata;
            json!([e.family, e.since_ms, said.kind.name(), said.help, said.unit])
        });
        entries.collect()
    });
}

#[test]
fn the_published_schemas_are_the_written_ones() {
    let columns = ["__name__".to_owned(), "<label>".to_owned()];
    let spec = spec(&columns);
    let series = labels(&[("__name__", "a")]);
    let (mut samples, mut histograms, mut exemplars, mut metadata) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    write_block(&mut samples, &spec, [run(&[("__name__", "a")], [(1, 1.0)])]).unwrap();
    let histogram = NativeHistogram::Int(Box::default());
    let sample = HistogramSample { ts_ms: 1, start_ms: 0, histogram };
    let run = HistogramRun { labels: series.clone(), histograms: vec![sample] };
    write_histograms(&mut histograms, &spec, [run]).unwrap();
    let exemplar = Exemplar { labels: labels(&[("trace_id", "t")]), value: 1.0, ts_ms: 1 };
    write_exemplars(&mut exemplars, &spec, [(series, vec![exemplar])]).unwrap();
    let entry = MetadataEntry { family: "a".to_owned(), since_ms: 1, metadata: Metadata::default() };
    write_metadata(&mut metadata, &spec, &[entry]).unwrap();
    let by_series = "__name__, then the other labels as a label set, then time";
    check_schema("samples", samples, by_series);
    check_schema("histograms", histograms, by_series);
    check_schema("exemplars", exemplars, &format!("{by_series}, exemplar labels and the value's bits"));
    check_schema("metadata", metadata, "_family, then _since");
}

fn check_schema(kind: &str, file: Vec<u8>, sort: &str) {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    let reader = SerializedFileReader::new(Bytes::from(file)).unwrap();
    let footer = reader.metadata().file_metadata();
    let mut text = Vec::new();
    parquet::schema::printer::print_schema(&mut text, footer.schema());
    let mut text = String::from_utf8(text).unwrap();
    text.push_str("\nkey-value metadata:\n");
    for pair in footer.key_value_metadata().unwrap() {
        text.push_str(&format!("  {}\n", pair.key));
    }
    text.push_str("\nencodings:\n");
    for column in reader.metadata().row_group(0).columns() {
        let mut encodings: Vec<String> = column.encodings().map(|e| e.to_string()).collect();
        encodings.sort();
        let (path, encodings) = (column.column_path().string(), encodings.join(", "));
        text.push_str(&format!("  {path}: {encodings}\n"));
    }
    text.push_str(&format!("\nsort order: {sort}\n"));
    let published = repository(&format!("schemas/parquet/{kind}.v1.txt"));
    if bless() {
        std::fs::create_dir_all(published.parent().unwrap()).unwrap();
        std::fs::write(&published, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&published).unwrap(), text);
}
