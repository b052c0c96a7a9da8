//! Histograms, exemplars and metadata as DuckDB and pyarrow see them in our files.

use std::path::{Path, PathBuf};

use perennial::block::{
    BlockSpec, BlockStats, HistogramRun, SeriesRun, SqlFile, duckdb_views, extend_label_columns, write_block,
    write_exemplars, write_histograms, write_metadata,
};
use perennial::model::{
    BlockKind, CUSTOM_BUCKETS_SCHEMA, Exemplar, FloatHistogram, Histogram, HistogramSample, Labels, Metadata,
    MetadataEntry, MetricType, NativeHistogram, Resolution, STALE_MARKER_BITS, Sample, Span, TenantId,
    TimeRange, Ulid,
};

use crate::support::Python;

fn labels(name: &str) -> Labels {
    Labels::from_pairs([("__name__", name), ("job", "api"), ("count", "taken")]).unwrap()
}

fn spec(columns: &[String]) -> BlockSpec {
    BlockSpec {
        id: Ulid::from_parts(1, 2),
        tenant: TenantId::new("team-a").unwrap(),
        resolution: Resolution::Raw,
        range: TimeRange::ALL,
        external_labels: Labels::empty(),
        label_columns: columns.to_vec(),
        positions: Vec::new(),
        sources: Vec::new(),
        zstd_level: 3,
    }
}

struct Files {
    folder: tempfile::TempDir,
    columns: Vec<String>,
    files: Vec<SqlFile>,
}

impl Files {
    fn new() -> Self {
        let columns = extend_label_columns(&[], [labels("a")].iter());
        Self { folder: tempfile::tempdir().unwrap(), columns, files: Vec::new() }
    }

    fn add(
        &mut self,
        kind: BlockKind,
        write: impl FnOnce(&mut Vec<u8>, &BlockSpec) -> BlockStats,
    ) -> PathBuf {
        let path = self.folder.path().join(format!("{}.parquet", self.files.len()));
        let mut bytes = Vec::new();
        let stats = write(&mut bytes, &spec(&self.columns));
        std::fs::write(&path, bytes).unwrap();
        self.files.push(SqlFile {
            kind,
            path: path.to_str().unwrap().to_owned(),
            range: TimeRange { start_ms: stats.min_time_ms, end_ms: stats.max_time_ms },
            label_columns: stats.label_columns,
        });
        path
    }

    fn histograms(&mut self, name: &str, histograms: Vec<HistogramSample>) -> PathBuf {
        let run = HistogramRun { labels: labels(name), histograms };
        self.add(BlockKind::Histograms, |out, spec| write_histograms(out, spec, [run]).unwrap())
    }

    fn query(&self, python: &Python, query: &str) -> Vec<Vec<String>> {
        python.duckdb_rows(&duckdb_views(&self.files, &self.columns), query, self.folder())
    }

    fn folder(&self) -> &Path {
        self.folder.path()
    }
}

fn span(offset: i32, length: u32) -> Span {
    Span { offset, length }
}

fn whole(ts_ms: i64, histogram: Histogram) -> HistogramSample {
    HistogramSample { ts_ms, start_ms: 0, histogram: NativeHistogram::Int(Box::new(histogram)) }
}

fn growing() -> Vec<HistogramSample> {
    let first = Histogram {
        zero_threshold: 0.25,
        count: 4,
        sum: 1.5,
        positive_spans: vec![span(0, 1), span(1, 1)],
        positive_buckets: vec![1, 2],
        ..Histogram::default()
    };
    let second = Histogram {
        zero_threshold: 0.25,
        zero_count: 7,
        count: 23,
        sum: 2.5,
        positive_spans: vec![span(0, 3)],
        positive_buckets: vec![2, 3, -2],
        negative_spans: vec![span(1, 2)],
        negative_buckets: vec![4, 1],
        ..Histogram::default()
    };
    let stale = Histogram { sum: f64::from_bits(STALE_MARKER_BITS), ..Histogram::default() };
    vec![whole(1_000, first), whole(2_000, second), whole(3_000, stale)]
}

fn texts(rows: &[&[&str]]) -> Vec<Vec<String>> {
    rows.iter().map(|row| row.iter().map(|cell| (*cell).to_owned()).collect()).collect()
}

#[test]
fn duckdb_sees_histograms_with_their_buckets() {
    let Some(python) = Python::find("duckdb_sees_histograms_with_their_buckets") else { return };
    let mut files = Files::new();
    files.histograms("growing", growing());
    let rows = files.query(
        &python,
        "SELECT epoch_ms(ts), \"count\", \"sum\", zero_count, job, label_count, to_json(buckets) FROM histograms ORDER BY ts",
    );
    let first = r#"[{"lower":0.5,"upper":1.0,"count":1.0},{"lower":2.0,"upper":4.0,"count":3.0}]"#;
    let second = concat!(
        r#"[{"lower":-4.0,"upper":-2.0,"count":5.0},{"lower":-2.0,"upper":-1.0,"count":4.0},"#,
        r#"{"lower":-0.25,"upper":0.25,"count":7.0},{"lower":0.5,"upper":1.0,"count":2.0},"#,
        r#"{"lower":1.0,"upper":2.0,"count":5.0},{"lower":2.0,"upper":4.0,"count":3.0}]"#
    );
    assert_eq!(
        rows,
        texts(&[
            &["1000", "4.0", "1.5", "0.0", "api", "taken", first],
            &["2000", "23.0", "2.5", "7.0", "api", "taken", second],
            &["3000", "None", "None", "None", "api", "taken", "None"],
        ])
    );
    let rows = files.query(
        &python,
        "SELECT __name__, label_count, sum(\"count\") FROM histogram_buckets WHERE upper <= 1 GROUP BY ALL",
    );
    assert_eq!(rows, texts(&[&["growing", "taken", "19.0"]]));
}

#[test]
fn duckdb_sees_bounds_of_custom_buckets_and_fractional_counts() {
    let Some(python) = Python::find("duckdb_sees_bounds_of_custom_buckets_and_fractional_counts") else {
        return;
    };
    let mut files = Files::new();
    let custom = Histogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        count: 6,
        positive_spans: vec![span(0, 3)],
        positive_buckets: vec![1, 1, 1],
        custom_values: vec![0.1, 0.5],
        ..Histogram::default()
    };
    let float = FloatHistogram {
        schema: 1,
        count: 0.75,
        positive_spans: vec![span(2, 1), span(1, 1)],
        positive_buckets: vec![0.5, 0.25],
        ..FloatHistogram::default()
    };
    let float = NativeHistogram::Float(Box::new(float));
    files
        .histograms("a", vec![whole(1, custom), HistogramSample { ts_ms: 2, start_ms: 0, histogram: float }]);
    let rows = files.query(
        &python,
        "SELECT epoch_ms(ts), round(lower, 3), round(upper, 3), \"count\" FROM histogram_buckets ORDER BY ts, upper",
    );
    let expected = [
        ["1", "-inf", "0.1", "1.0"],
        ["1", "0.1", "0.5", "2.0"],
        ["1", "0.5", "inf", "3.0"],
        ["2", "1.414", "2.0", "0.5"],
        ["2", "2.828", "4.0", "0.25"],
    ];
    assert_eq!(rows, texts(&expected.each_ref().map(|row| row.as_slice())));
}

#[test]
fn duckdb_counts_a_histogram_of_two_files_once() {
    let Some(python) = Python::find("duckdb_counts_a_histogram_of_two_files_once") else { return };
    let mut files = Files::new();
    files.histograms("a", growing());
    let mut late = growing();
    let stale = late.remove(2);
    late.push(HistogramSample { ts_ms: 2_500, ..stale.clone() });
    late[0] = HistogramSample { ts_ms: 1_000, ..stale };
    files.histograms("a", late);
    files.histograms("b", vec![whole(900_000, Histogram::default())]);
    let rows = files
        .query(&python, "SELECT __name__, epoch_ms(ts), \"count\" FROM histograms ORDER BY __name__, ts");
    let expected = [
        ["a", "1000", "4.0"],
        ["a", "2000", "23.0"],
        ["a", "2500", "None"],
        ["a", "3000", "None"],
        ["b", "900000", "0.0"],
    ];
    assert_eq!(rows, texts(&expected.each_ref().map(|row| row.as_slice())));
}

#[test]
fn duckdb_sees_start_timestamps() {
    let Some(python) = Python::find("duckdb_sees_start_timestamps") else { return };
    let mut files = Files::new();
    let sample = |ts_ms, value, start_ms| Sample { ts_ms, value, start_ms };
    // Two files that overlap, and one alone. The value decides what stays; of equal ones the later start does.
    let stale = f64::from_bits(STALE_MARKER_BITS);
    for samples in [
        vec![sample(1_000, 1.0, 5), sample(2_000, 2.0, 9), sample(3_000, 3.0, 5), sample(4_000, stale, 5)],
        vec![sample(1_000, 1.0, 7), sample(2_000, 3.0, 4), sample(3_000, 3.0, 0), sample(4_000, stale, 0)],
        vec![sample(900_000, 0.5, 800_000), sample(901_000, 0.5, 0)],
        vec![sample(950_000, 0.5, 0)],
    ] {
        let run = SeriesRun { labels: labels("a"), samples };
        files.add(BlockKind::Samples, |out, spec| write_block(out, spec, [run]).unwrap());
    }
    let query = "SELECT epoch_ms(ts), value, epoch_ms(start_ts) FROM samples ORDER BY ts";
    let expected = [
        ["1000", "1.0", "7"],
        ["2000", "3.0", "4"],
        ["3000", "3.0", "5"],
        ["4000", "None", "5"],
        ["900000", "0.5", "800000"],
        ["901000", "0.5", "None"],
        ["950000", "0.5", "None"],
    ];
    assert_eq!(files.query(&python, query), texts(&expected.each_ref().map(|row| row.as_slice())));

    let mut files = Files::new();
    let started = |start_ms| HistogramSample { start_ms, ..whole(1_000, Histogram::default()) };
    files.histograms("a", vec![started(3), whole(2_000, Histogram::default())]);
    files.histograms("a", vec![started(4)]);
    files.histograms("b", vec![HistogramSample { ts_ms: 9_000, ..started(8_000) }]);
    let query = "SELECT epoch_ms(ts), epoch_ms(start_ts) FROM histograms ORDER BY ts";
    assert_eq!(files.query(&python, query), texts(&[&["1000", "4"], &["2000", "None"], &["9000", "8000"]]));
}

#[test]
fn pyarrow_reads_the_increments_of_buckets() {
    let Some(python) = Python::find("pyarrow_reads_the_increments_of_buckets") else { return };
    let mut files = Files::new();
    let file = files.histograms("growing", growing());
    let rows = python.pyarrow_rows(&file, files.folder());
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["_positive_first"], "[1, 5, 3]");
    assert_eq!(rows[0]["_positive_increments"], "[[0, 1, None], [None, 0, None], [0, 0, None]]");
    assert_eq!(rows[0]["_hcount"], "[4, 23, None]");
    assert_eq!(rows[0]["_positive_float"], "None");
}

#[test]
fn duckdb_sees_exemplars_once() {
    let Some(python) = Python::find("duckdb_sees_exemplars_once") else { return };
    let mut files = Files::new();
    let exemplar = |ts_ms, pairs: &[(&str, &str)]| Exemplar {
        labels: Labels::from_pairs(pairs.iter().copied()).unwrap(),
        value: 0.25,
        ts_ms,
    };
    let both = [exemplar(1, &[("trace_id", "t"), ("span_id", "s"), ("user", "u")]), exemplar(2, &[])];
    for exemplars in [both.to_vec(), vec![both[0].clone()]] {
        let series = [(labels("a"), exemplars)];
        files.add(BlockKind::Exemplars, |out, spec| write_exemplars(out, spec, series).unwrap());
    }
    let rows = files.query(
        &python,
        "SELECT epoch_ms(ts), value, trace_id, span_id, exemplar_labels, \"count\" FROM exemplars ORDER BY ts",
    );
    let expected =
        [["1", "0.25", "t", "s", "{'user': 'u'}", "taken"], ["2", "0.25", "None", "None", "None", "taken"]];
    assert_eq!(rows, texts(&expected.each_ref().map(|row| row.as_slice())));
}

#[test]
fn duckdb_sees_the_history_of_metadata() {
    let Some(python) = Python::find("duckdb_sees_the_history_of_metadata") else { return };
    let mut files = Files::new();
    let entry = |since_ms, help: &str| MetadataEntry {
        family: "a".to_owned(),
        since_ms,
        metadata: Metadata { kind: MetricType::Counter, help: help.to_owned(), unit: String::new() },
    };
    for entries in
        [vec![entry(1_000, "old"), entry(2_000, "new")], vec![entry(1_500, "old"), entry(3_000, "old")]]
    {
        files.add(BlockKind::Metadata, |out, spec| write_metadata(out, spec, &entries).unwrap());
    }
    let rows =
        files.query(&python, "SELECT family, \"type\", help, epoch_ms(since) FROM metadata ORDER BY since");
    let expected =
        [["a", "counter", "old", "1000"], ["a", "counter", "new", "2000"], ["a", "counter", "old", "3000"]];
    assert_eq!(rows, texts(&expected.each_ref().map(|row| row.as_slice())));
}

#[test]
fn a_tenant_without_files_has_all_views() {
    let Some(python) = Python::find("a_tenant_without_files_has_all_views") else { return };
    let files = Files::new();
    for view in ["samples", "rollup", "histograms", "histogram_buckets", "exemplars", "metadata"] {
        let rows = files.query(&python, &format!("SELECT count(*) FROM {view}"));
        assert_eq!(rows, texts(&[&["0"]]), "{view}");
    }
}
