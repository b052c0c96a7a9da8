//! The views of histograms, exemplars and metadata.

use super::{ISLAND, RowsView, Views, read_parquet, split_overlapping};
use crate::block::exemplars::{EXEMPLAR_LABELS, IDS, VALUE};
use crate::block::metadata::{SINCE, TEXTS};
use crate::block::schema::{COUNT, LABELS_REST, MAX_TIME, MIN_TIME, SERIES, ST, TS};

pub(super) const HISTOGRAM_ROWS: RowsView = RowsView {
    name: "histogram_rows",
    columns: &[
        (MIN_TIME, "TIMESTAMPTZ"),
        (MAX_TIME, "TIMESTAMPTZ"),
        (COUNT, "INTEGER"),
        ("_stale", "INTEGER"),
        ("_schema", "INTEGER"),
        ("_zero_threshold", "DOUBLE"),
        ("_custom_values", "DOUBLE[]"),
        ("_positive_offsets", "BIGINT[]"),
        ("_positive_lengths", "BIGINT[]"),
        ("_negative_offsets", "BIGINT[]"),
        ("_negative_lengths", "BIGINT[]"),
        (TS, "TIMESTAMPTZ[]"),
        (ST, "TIMESTAMPTZ[]"),
        ("_reset_hint", "INTEGER[]"),
        ("_hcount", "BIGINT[]"),
        ("_hcount_float", "DOUBLE[]"),
        ("_zero_count", "BIGINT[]"),
        ("_zero_count_float", "DOUBLE[]"),
        ("_sum", "DOUBLE[]"),
        ("_positive_first", "BIGINT[]"),
        ("_positive_increments", "BIGINT[][]"),
        ("_positive_float", "DOUBLE[][]"),
        ("_negative_first", "BIGINT[]"),
        ("_negative_increments", "BIGINT[][]"),
        ("_negative_float", "DOUBLE[][]"),
    ],
};

/// Columns that `histograms` adds before the labels, and those that `histogram_buckets` does.
const HISTOGRAMS_OWN: [&str; 8] =
    ["ts", "count", "sum", "schema", "zero_threshold", "zero_count", "buckets", "start_ts"];
const BUCKETS_OWN: [&str; 4] = ["ts", "lower", "upper", "count"];
const EXEMPLARS_OWN: [&str; 5] = ["ts", "value", "trace_id", "span_id", "exemplar_labels"];

/// The schema with bounds of its own.
const CUSTOM: i32 = crate::model::CUSTOM_BUCKETS_SCHEMA;

/// Returns the expression of the places of a side's buckets.
fn places(side: &str) -> String {
    let start =
        format!("(list_sum(_{side}_offsets[1:k]) + COALESCE(list_sum(_{side}_lengths[1:k - 1]), 0))::BIGINT");
    format!(
        "flatten(list_transform(range(1, len(_{side}_offsets) + 1), \
         lambda k: range({start}, {start} + _{side}_lengths[k])))"
    )
}

/// Returns the expression of a side's buckets in sample `_i`, by the numbers of buckets in `order`.
fn buckets(side: &str, order: &str, lower: &str, upper: &str) -> String {
    let present = format!("COALESCE(_{side}_increments[b][_i]::DOUBLE, _{side}_float[b][_i]) IS NOT NULL");
    let whole = format!("(_{side}_first[b] + list_sum(_{side}_increments[b][1:_i]))::DOUBLE");
    format!(
        "list_transform(list_filter({order}, lambda b: {present}), lambda b: \
         {{'lower': {lower}, 'upper': {upper}, 'count': COALESCE(_{side}_float[b][_i], {whole})}})"
    )
}

impl Views<'_> {
    /// Returns a query of the histograms of rows; names within queries start with `_`, which no label column does.
    fn single_histograms(&self, condition: &str) -> String {
        let bound = |place: &str| format!("pow(2::DOUBLE, ({place}) * pow(2::DOUBLE, -_schema))");
        let (at, below) = ("_positive_at[b]", "_positive_at[b] - 1");
        let upper = format!(
            "CASE WHEN _schema = {CUSTOM} THEN COALESCE(_custom_values[{at} + 1], 'inf'::DOUBLE) ELSE {} END",
            bound(at)
        );
        let lower = format!(
            "CASE WHEN _schema = {CUSTOM} THEN COALESCE(_custom_values[NULLIF({at}, 0)], '-inf'::DOUBLE) ELSE {} END",
            bound(below)
        );
        let positive = buckets("positive", "range(1, len(_positive_at) + 1)", &lower, &upper);
        let (at, below) = ("_negative_at[b]", "_negative_at[b] - 1");
        let (lower, upper) = (format!("-{}", bound(at)), format!("-{}", bound(below)));
        let negative = buckets("negative", "range(len(_negative_at), 0, -1)", &lower, &upper);
        format!(
            "SELECT *,\n    CASE WHEN _n IS NULL THEN NULL ELSE list_concat(list_concat({negative},\n    \
             CASE WHEN _zero <> 0 THEN [{{'lower': -_zero_threshold, 'upper': _zero_threshold, 'count': _zero}}] \
             ELSE [] END),\n    {positive}) END AS _buckets\n  \
             FROM (SELECT *, COALESCE(_hcount[_i]::DOUBLE, _hcount_float[_i]) AS _n, \
             COALESCE(_zero_count[_i]::DOUBLE, _zero_count_float[_i]) AS _zero, _sum[_i] AS _total, {ST}[_i] AS _start\n  \
             FROM (SELECT *, unnest({TS}) AS _time, unnest(range(1, len({TS}) + 1)) AS _i,\n    \
             {} AS _positive_at,\n    {} AS _negative_at\n  \
             FROM histogram_rows WHERE {condition}))",
            places("positive"),
            places("negative"),
        )
    }

    pub(super) fn histograms(&self) -> String {
        let labels = self.labels_in_view(&HISTOGRAMS_OWN);
        let columns = format!(
            "_time AS ts, _n AS \"count\", _total AS \"sum\", _schema AS \"schema\", \
             _zero_threshold AS zero_threshold, _zero AS zero_count, _buckets AS buckets, _start AS start_ts, {labels}, \
             {LABELS_REST}, {SERIES}"
        );
        // What stays of two histograms at one time: model::NativeHistogram has the whole rule.
        let winner = format!(
            "row_number() OVER (PARTITION BY _time, {} ORDER BY _total IS NULL, _hcount IS NULL, _n DESC, _zero DESC, \
             _total::BIT DESC, _start DESC NULLS LAST) = 1",
            self.identity()
        );
        format!(
            "-- One row per histogram. A NULL sum is a stale marker.\nCREATE OR REPLACE VIEW histograms AS\n\
             SELECT {columns}\n  FROM ({})\nUNION ALL\nSELECT {columns}\n  FROM ({})\n  QUALIFY {winner};\n",
            self.single_histograms(&format!("{ISLAND} IS NULL")),
            self.single_histograms(&format!("{ISLAND} IS NOT NULL")),
        )
    }

    pub(super) fn histogram_buckets(&self) -> String {
        let names = super::view_names(&self.labels, &HISTOGRAMS_OWN);
        let own = super::view_names(&self.labels, &BUCKETS_OWN);
        let labels: Vec<String> =
            names.iter().zip(own).map(|(name, own)| super::renamed(name, &own)).collect();
        format!(
            "-- One row per bucket of each histogram, from the lowest bound up.\n\
             CREATE OR REPLACE VIEW histogram_buckets AS\n\
             SELECT ts, _bucket.lower AS lower, _bucket.upper AS upper, _bucket.count AS \"count\", {}, {LABELS_REST}, \
             {SERIES}\n  FROM (SELECT *, unnest(buckets) AS _bucket FROM histograms);\n",
            labels.join(", ")
        )
    }

    pub(super) fn exemplars(&self) -> String {
        let labels = self.labels_in_view(&EXEMPLARS_OWN);
        let [(_, trace), (_, span)] = IDS;
        let columns = format!(
            "{TS} AS ts, {VALUE} AS \"value\", {trace} AS trace_id, {span} AS span_id, \
             {EXEMPLAR_LABELS} AS exemplar_labels, {labels}, {LABELS_REST}, {SERIES}"
        );
        let fixed = format!("{TS}, {VALUE}, {trace}, {span}, {EXEMPLAR_LABELS}");
        let (overlapping, lone) = split_overlapping(&self.files);
        let branch = |distinct: &str, files: &[&super::SqlFile]| {
            let rows = format!(
                "SELECT {}, {fixed} FROM {} f",
                self.label_columns(files),
                read_parquet(files, false)
            );
            format!("SELECT {distinct}{columns}\n  FROM ({rows})")
        };
        let mut branches = Vec::new();
        if !lone.is_empty() {
            branches.push(branch("", &lone));
        }
        if !overlapping.is_empty() {
            branches.push(branch("DISTINCT ", &overlapping));
        }
        if branches.is_empty() {
            let types = [
                (TS, "TIMESTAMPTZ"),
                (VALUE, "DOUBLE"),
                (trace, "VARCHAR"),
                (span, "VARCHAR"),
                (EXEMPLAR_LABELS, "MAP(VARCHAR, VARCHAR)"),
            ];
            branches.push(format!("SELECT {columns} FROM ({})", self.no_rows(&types)));
        }
        format!(
            "-- One row per exemplar.\nCREATE OR REPLACE VIEW exemplars AS\n{};\n",
            branches.join("\nUNION ALL\n")
        )
    }

    pub(super) fn metadata(&self) -> String {
        let [family, kind, help, unit] = TEXTS;
        let rows = match self.files.is_empty() {
            false => format!("SELECT * FROM {}", read_parquet(&self.files, false)),
            true => {
                let texts = TEXTS.map(|column| format!("NULL::VARCHAR AS {column}")).join(", ");
                format!("SELECT {texts}, NULL::TIMESTAMPTZ AS {SINCE} WHERE false")
            }
        };
        let text = format!("[{kind}, {help}, {unit}]");
        format!(
            "-- What was said about each metric family, and since when.\nCREATE OR REPLACE VIEW metadata AS\n\
             SELECT {family} AS family, {kind} AS \"type\", {help} AS help, {unit} AS unit, {SINCE} AS since\n  \
             FROM (SELECT *, {text} AS _said, lag({text}) OVER (PARTITION BY {family} ORDER BY {SINCE}, {text}) AS _before\n  \
             FROM ({rows}))\n  WHERE _said IS DISTINCT FROM _before;\n"
        )
    }
}
