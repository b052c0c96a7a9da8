//! The views through which DuckDB users see samples instead of rows.
//!
//! For floats there are three: `block_rows` reads the files, puts every label of the list into a column and tells
//! which rows overlap; `samples` unnests; `rollup` answers from row statistics. `others` has those of the other kinds. Rows of one series that overlap in time form
//! an *island*. Islands can only exist in files whose time ranges overlap, so only those are searched for them, by
//! three small columns; their samples go through the rule of one value per series and timestamp, all others
//! straight through.

mod others;

use std::collections::HashSet;
use std::fmt::Write;

use super::columns::folded;
use super::schema::{
    COUNT, COUNTS, FINITE, LABELS_REST, MAX_TIME, MIN_TIME, SCALE, SCALED, SERIES, ST, TS, VALUES,
};
use crate::model::{BlockKind, METRIC_NAME, RAW_WINDOW_MS, TimeRange};

/// A file that the views read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlFile {
    /// What it holds.
    pub kind: BlockKind,
    /// Its path or URL, as DuckDB is to open it.
    pub path: String,
    /// The span of its samples.
    pub range: TimeRange,
    /// The label columns that it has.
    pub label_columns: Vec<String>,
}

/// The island of a row: NULL where no other row of its series overlaps it.
const ISLAND: &str = "_island";
/// The label columns that `samples` adds before the labels.
const SAMPLES_OWN: [&str; 3] = ["ts", "value", "start_ts"];

/// Prints the SQL that creates the views over files of one tenant (DuckDB 1.3 and later): `block_rows`, `samples` and
/// `rollup` for float samples, `histogram_rows`, `histograms` and `histogram_buckets`, `exemplars`, `metadata`.
///
/// `label_columns` is the tenant's list; each becomes a column, read from the file's column or from
/// `_labels_rest`, whichever has it. A label that has the name of a view's own column is called `label_<name>` there.
/// All other labels stay in `_labels_rest`. External labels are not shown, and files of several receivers are merged.
#[must_use]
pub fn duckdb_views(files: &[SqlFile], label_columns: &[String]) -> String {
    let mut labels = vec![METRIC_NAME.to_owned()];
    labels.extend(label_columns.iter().filter(|c| *c != METRIC_NAME).cloned());
    let of = |kind: BlockKind| Views {
        files: files.iter().filter(|file| file.kind == kind).collect(),
        labels: labels.clone(),
    };
    let floats = of(BlockKind::Samples);
    let histograms = of(BlockKind::Histograms);
    let sql = [
        floats.rows(&BLOCK_ROWS),
        floats.samples(),
        floats.rollup(),
        histograms.rows(&others::HISTOGRAM_ROWS),
        histograms.histograms(),
        histograms.histogram_buckets(),
        of(BlockKind::Exemplars).exemplars(),
        of(BlockKind::Metadata).metadata(),
    ];
    sql.join("\n")
}

struct Views<'a> {
    files: Vec<&'a SqlFile>,
    labels: Vec<String>,
}

/// A view of rows as they stand in the files of one kind.
struct RowsView {
    name: &'static str,
    /// The columns after the labels, with their types.
    columns: &'static [(&'static str, &'static str)],
}

const BLOCK_ROWS: RowsView = RowsView {
    name: "block_rows",
    columns: &[
        (MIN_TIME, "TIMESTAMPTZ"),
        (MAX_TIME, "TIMESTAMPTZ"),
        (COUNTS[0], "INTEGER"),
        (COUNTS[1], "INTEGER"),
        (COUNTS[2], "INTEGER"),
        (FINITE[0], "DOUBLE"),
        (FINITE[1], "DOUBLE"),
        (FINITE[2], "DOUBLE"),
        (FINITE[3], "DOUBLE"),
        (FINITE[4], "DOUBLE"),
        (FINITE[5], "DOUBLE"),
        (TS, "TIMESTAMPTZ[]"),
        (ST, "TIMESTAMPTZ[]"),
        (SCALE, "INTEGER"),
        (SCALED, "BIGINT[]"),
        (VALUES, "DOUBLE[]"),
    ],
};

/// Returns an SQL identifier.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Returns an SQL string.
fn text(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

/// Returns names of labels in a view that has columns of its own.
fn view_names(labels: &[String], own: &[&str]) -> Vec<String> {
    let mut taken: HashSet<String> = own.iter().map(|name| folded(name)).collect();
    let clashes = |name: &&String| own.iter().any(|o| folded(o) == folded(name));
    taken.extend(labels.iter().filter(|name| !clashes(name)).map(|name| folded(name)));
    let name_in_view = |label: &String| {
        if !own.iter().any(|o| folded(o) == folded(label)) {
            return label.clone();
        }
        let mut name = format!("label_{label}");
        while !taken.insert(folded(&name)) {
            name.push('_');
        }
        name
    };
    labels.iter().map(name_in_view).collect()
}

/// Returns the files that overlap another, and those that do not.
fn split_overlapping<'a>(files: &[&'a SqlFile]) -> (Vec<&'a SqlFile>, Vec<&'a SqlFile>) {
    let mut sorted: Vec<&SqlFile> = files.to_vec();
    sorted.sort_by(|a, b| a.range.start_ms.cmp(&b.range.start_ms).then_with(|| a.path.cmp(&b.path)));
    let mut overlaps = vec![false; sorted.len()];
    // The file that reaches furthest so far is the one to compare with.
    let mut furthest = 0;
    for i in 1..sorted.len() {
        if sorted[i].range.start_ms < sorted[furthest].range.end_ms {
            (overlaps[i], overlaps[furthest]) = (true, true);
        }
        if sorted[i].range.end_ms > sorted[furthest].range.end_ms {
            furthest = i;
        }
    }
    let (with, without): (Vec<_>, Vec<_>) = sorted.into_iter().zip(overlaps).partition(|(_, o)| *o);
    (with.into_iter().map(|(f, _)| f).collect(), without.into_iter().map(|(f, _)| f).collect())
}

fn read_parquet(files: &[&SqlFile], with_position: bool) -> String {
    let mut paths = files.iter().map(|f| text(&f.path));
    let mut sql = format!("read_parquet([\n    {}", paths.next().unwrap_or_default());
    for path in paths {
        let _ = write!(sql, ",\n    {path}");
    }
    let position = if with_position { ", filename = '_file', file_row_number = true" } else { "" };
    let _ = write!(sql, "\n  ], union_by_name = true, hive_partitioning = false{position})");
    sql
}

impl Views<'_> {
    fn quoted_labels(&self) -> String {
        self.labels.iter().map(|l| quoted(l)).collect::<Vec<_>>().join(", ")
    }

    /// Returns what identifies a series.
    fn identity(&self) -> String {
        format!("{SERIES}, {}, {LABELS_REST}", self.quoted_labels())
    }

    /// Returns the expression that finds a label in these files.
    fn label(&self, label: &str, files: &[&SqlFile]) -> String {
        let (column, entry) = (quoted(label), format!("{LABELS_REST}[{}]", text(label)));
        let having = files.iter().filter(|f| f.label_columns.iter().any(|c| c == label)).count();
        if label == METRIC_NAME || having == files.len() {
            column
        } else if having == 0 {
            format!("{entry} AS {column}")
        } else {
            format!("COALESCE(f.{column}, {entry}) AS {column}")
        }
    }

    /// Returns `_labels_rest` without the labels that have a column in the views.
    fn rest(&self, files: &[&SqlFile]) -> String {
        let moved: Vec<String> = self
            .labels
            .iter()
            .filter(|l| *l != METRIC_NAME && !files.iter().all(|f| f.label_columns.contains(l)))
            .map(|l| text(l))
            .collect();
        if moved.is_empty() {
            return LABELS_REST.to_owned();
        }
        format!(
            "CASE WHEN {LABELS_REST} IS NOT NULL THEN NULLIF(map_from_entries(list_filter(map_entries(\
             {LABELS_REST}), lambda e: e.key NOT IN ({}))), MAP {{}}) END AS {LABELS_REST}",
            moved.join(", ")
        )
    }

    /// Returns hash and labels of rows, each label in its column.
    fn label_columns(&self, files: &[&SqlFile]) -> String {
        let labels: Vec<String> = self.labels.iter().map(|l| self.label(l, files)).collect();
        format!("{SERIES}, {}, {}", labels.join(", "), self.rest(files))
    }

    /// Returns the label columns under the names that they have in a view with columns of its own.
    fn labels_in_view(&self, own: &[&str]) -> String {
        let names = view_names(&self.labels, own);
        let labels: Vec<String> = self.labels.iter().zip(names).map(|(l, n)| renamed(l, &n)).collect();
        labels.join(", ")
    }

    fn rows(&self, RowsView { name, columns }: &RowsView) -> String {
        let mut sql = format!(
            "-- Rows as they stand in the files; `_island` numbers rows that overlap another of their series.\n\
             CREATE OR REPLACE VIEW {name} AS\n"
        );
        let fixed = columns.iter().map(|(column, _)| *column).collect::<Vec<_>>().join(", ");
        let (overlapping, lone) = split_overlapping(&self.files);
        let mut branches = Vec::new();
        if !lone.is_empty() {
            let (labels, files) = (self.label_columns(&lone), read_parquet(&lone, false));
            branches.push(format!("SELECT {labels}, {fixed}, NULL::BIGINT AS {ISLAND}\n  FROM {files} f"));
        }
        if !overlapping.is_empty() {
            let (labels, files) = (self.label_columns(&overlapping), read_parquet(&overlapping, true));
            branches.push(format!(
                "SELECT {labels}, {fixed}, {ISLAND}\n  FROM {files} f\n  \
                 LEFT JOIN ({}\n  ) i USING (_file, file_row_number)",
                islands(&files)
            ));
        }
        if branches.is_empty() {
            branches.push(self.no_rows(&[columns, [(ISLAND, "BIGINT")].as_slice()].concat()));
        }
        sql.push_str(&branches.join("\nUNION ALL\n"));
        sql.push_str(";\n");
        sql
    }

    /// Returns a query of the right columns without rows, for a tenant without files.
    fn no_rows(&self, fixed: &[(&str, &str)]) -> String {
        let mut columns = vec![format!("NULL::BIGINT AS {SERIES}")];
        columns.extend(self.labels.iter().map(|l| format!("NULL::VARCHAR AS {}", quoted(l))));
        columns.push(format!("NULL::MAP(VARCHAR, VARCHAR) AS {LABELS_REST}"));
        columns.extend(fixed.iter().map(|(column, kind)| format!("NULL::{kind} AS {column}")));
        format!("SELECT {} WHERE false", columns.join(", "))
    }

    /// Returns a query of columns of single samples of rows: all row columns, `_time`, `_value` and `_start`.
    ///
    /// Names within queries start with `_`, which no label column does.
    fn unnested(columns: &str, condition: &str) -> String {
        let powers: Vec<String> = (0..16).map(|scale| format!("1e{scale}::DOUBLE")).collect();
        // A double divided by an exact power of ten is what was checked bit by bit when the row was written.
        format!(
            "SELECT {columns}\n  FROM (SELECT *, COALESCE(_integer::DOUBLE / _power, _double) AS _value\n  \
             FROM (SELECT *, unnest({TS}) AS _time, unnest({SCALED}) AS _integer, unnest({VALUES}) AS _double, \
             unnest({ST}) AS _start\n  \
             FROM (SELECT *, [{}][{SCALE} + 1] AS _power\n  FROM block_rows WHERE {condition})))",
            powers.join(", ")
        )
    }

    /// Returns a query of the samples of islands, one for each series and timestamp.
    fn deduplicated(&self) -> String {
        let identity = self.identity();
        let columns = format!("_time, {WINNER} AS _value, {WINNER_START} AS _start, {identity}, {ISLAND}");
        let samples = Self::unnested(&columns, &format!("{ISLAND} IS NOT NULL"));
        format!("{samples}\n  GROUP BY _time, {identity}, {ISLAND}")
    }

    fn samples(&self) -> String {
        let labels = self.labels_in_view(&SAMPLES_OWN);
        let columns =
            format!("_time AS ts, _value AS value, _start AS start_ts, {labels}, {LABELS_REST}, {SERIES}");
        format!(
            "-- One row per sample. A NULL value is a stale marker, a NULL start_ts one that was not sent.\nCREATE OR REPLACE VIEW samples AS\n{}\nUNION ALL\n\
             SELECT {columns}\n  FROM ({});\n",
            Self::unnested(&columns, &format!("{ISLAND} IS NULL")),
            self.deduplicated()
        )
    }

    fn rollup(&self) -> String {
        let own: Vec<&str> = COUNTS.iter().chain(&FINITE).map(|c| &c[1..]).collect();
        let (labels, identity) = (self.labels_in_view(&own), self.identity());
        let own_columns = |columns: &[&str]| -> String {
            columns.iter().map(|c| format!("{c} AS {}", quoted(&c[1..]))).collect::<Vec<_>>().join(", ")
        };
        let statistics = [MIN_TIME, MAX_TIME].into_iter().chain(COUNTS).chain(FINITE);
        let statistics: Vec<&str> = statistics.collect();
        format!(
            "-- Statistics of each series over spans of at most 8 h. `increase` includes the step from the span before.\n\
             CREATE OR REPLACE VIEW rollup AS\n\
             SELECT {SERIES}, {labels}, {LABELS_REST}, {MIN_TIME}, {MAX_TIME}, {counts}, {finite},\n  \
             _increase + CASE WHEN _before IS NULL THEN 0 WHEN _first >= _before THEN _first - _before ELSE _first END\n    \
             AS \"increase\"\n\
             FROM (SELECT *, lag(_last IGNORE NULLS) OVER (PARTITION BY {identity} ORDER BY {MIN_TIME}) AS _before\n  \
             FROM (SELECT {identity}, {statistics} FROM block_rows WHERE {ISLAND} IS NULL\n  UNION ALL\n  \
             {islands}));\n",
            counts = own_columns(&COUNTS),
            finite = own_columns(&FINITE[..5]),
            statistics = statistics.join(", "),
            islands = self.island_statistics(),
        )
    }

    /// Returns a query of row statistics over the samples of islands, by aligned window.
    fn island_statistics(&self) -> String {
        let identity = self.identity();
        let window = format!("{identity}, {ISLAND}, epoch_ms(_time) // {RAW_WINDOW_MS}");
        format!(
            "SELECT {identity}, min(_time) AS {MIN_TIME}, max(_time) AS {MAX_TIME},\n    \
             count(*)::INTEGER AS {COUNT}, (count(*) - count(_value))::INTEGER AS _stale, \
             (count(_value) - count(_v))::INTEGER AS _nonfinite,\n    \
             sum(_v ORDER BY _time) AS _sum, min(_v) AS _min, max(_v) AS _max, \
             first(_v ORDER BY _time) FILTER (_v IS NOT NULL) AS _first, \
             last(_v ORDER BY _time) FILTER (_v IS NOT NULL) AS _last,\n    \
             sum(CASE WHEN _before IS NULL THEN 0 WHEN _v >= _before THEN _v - _before ELSE _v END ORDER BY _time) \
             FILTER (_v IS NOT NULL) AS _increase\n  \
             FROM (SELECT *, lag(_v IGNORE NULLS) OVER (PARTITION BY {window} ORDER BY _time) AS _before\n    \
             FROM (SELECT *, CASE WHEN isfinite(_value) THEN _value END AS _v FROM ({samples})))\n  \
             GROUP BY {window}",
            samples = self.deduplicated(),
        )
    }
}

/// The value that stays for one series and timestamp: a number before a NaN before a stale marker, of numbers the
/// greatest (0.0 over -0.0), of NaNs the greatest bits. `max` alone keeps neither the sign of zero nor a NaN's payload.
const WINNER: &str = "CASE\n    \
    WHEN max(_value) FILTER (NOT isnan(_value)) = 0\n      \
    THEN CASE WHEN bool_or(_value = 0 AND NOT signbit(_value)) THEN 0::DOUBLE ELSE '-0'::DOUBLE END\n    \
    ELSE COALESCE(max(_value) FILTER (NOT isnan(_value)), (max(_value::BIT) FILTER (isnan(_value)))::DOUBLE) END";

/// The start timestamp of that value: of equal ones the latest.
const WINNER_START: &str = "first(_start ORDER BY _value IS NULL, isnan(_value), _value DESC, signbit(_value), \
    _value::BIT DESC, _start DESC NULLS LAST)";

fn renamed(label: &str, name: &str) -> String {
    if label == name { quoted(label) } else { format!("{} AS {}", quoted(label), quoted(name)) }
}

/// Returns a query of the rows that overlap another of their series, with a number for each group of them.
fn islands(files: &str) -> String {
    let window = format!("PARTITION BY {SERIES} ORDER BY {MIN_TIME}, _file, file_row_number");
    format!(
        "\n    SELECT _file, file_row_number, {ISLAND} FROM (\n      \
         SELECT *, count(*) OVER (PARTITION BY {SERIES}, {ISLAND}) AS _size FROM (\n        \
         SELECT *, sum(_starts::INTEGER) OVER ({window} ROWS UNBOUNDED PRECEDING)::BIGINT AS {ISLAND} FROM (\n          \
         SELECT _file, file_row_number, {SERIES}, {MIN_TIME}, COALESCE({MIN_TIME} > max({MAX_TIME}) OVER ({window} \
         ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), true) AS _starts\n          FROM {files})))\n    \
         WHERE _size > 1"
    )
}
