use super::golden::{bless, repository};
use super::*;

fn file(path: &str, start_ms: i64, end_ms: i64, columns: &[&str]) -> SqlFile {
    let label_columns = columns.iter().map(|c| (*c).to_owned()).collect();
    SqlFile {
        kind: BlockKind::Samples,
        path: path.to_owned(),
        range: TimeRange { start_ms, end_ms },
        label_columns,
    }
}

fn list(columns: &[&str]) -> Vec<String> {
    columns.iter().map(|c| (*c).to_owned()).collect()
}

#[test]
fn the_published_views_are_the_printed_ones() {
    let files = [
        file("s3://bucket/a.parquet", 0, 100, &["__name__", "job"]),
        file("s3://bucket/b.parquet", 200, 300, &["__name__", "job", "value"]),
        file("s3://bucket/c.parquet", 250, 400, &["__name__", "job", "value"]),
    ];
    let mut files = files.to_vec();
    for (kind, path, start_ms, columns) in [
        (BlockKind::Histograms, "s3://bucket/d.parquet", 0, ["__name__", "job"].as_slice()),
        (BlockKind::Histograms, "s3://bucket/e.parquet", 50, &["__name__", "job"]),
        (BlockKind::Histograms, "s3://bucket/f.parquet", 200, &["__name__", "job"]),
        (BlockKind::Exemplars, "s3://bucket/g.parquet", 0, &["__name__"]),
        (BlockKind::Metadata, "s3://bucket/h.parquet", 0, &[]),
    ] {
        files.push(SqlFile { kind, ..file(path, start_ms, start_ms + 100, columns) });
    }
    let sql = duckdb_views(&files, &list(&["__name__", "job", "value"]));
    let published = repository("schemas/sql/duckdb_views.sql");
    if bless() {
        std::fs::create_dir_all(published.parent().unwrap()).unwrap();
        std::fs::write(&published, &sql).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&published).unwrap(), sql);
}

#[test]
fn only_files_that_overlap_are_searched_for_islands() {
    let lone = [file("a", 0, 10, &[]), file("b", 10, 20, &[]), file("c", 30, 40, &[])];
    assert!(!duckdb_views(&lone, &[]).contains("filename"));
    let files = [
        file("x1", 0, 100, &[]),
        file("x2", 10, 20, &[]),
        file("x3", 99, 101, &[]),
        file("y", 101, 102, &[]),
    ];
    let sql = duckdb_views(&files, &[]);
    let sql = &sql[..sql.find("VIEW samples").unwrap()];
    let (lone, overlapping) = sql.split_once("UNION ALL").unwrap();
    assert!(lone.contains("'y'") && !lone.contains("'x"));
    assert!(["'x1'", "'x2'", "'x3'"].iter().all(|x| overlapping.contains(x)));
}

#[test]
fn names_and_paths_cannot_break_out_of_the_sql() {
    let hostile = "a\"; DROP TABLE t; --'";
    let sql = duckdb_views(&[file("it's", 0, 1, &[])], &list(&[hostile]));
    assert!(sql.contains("\"a\"\"; DROP TABLE t; --'\""));
    assert!(sql.contains("_labels_rest['a\"; DROP TABLE t; --''']"));
    assert!(sql.contains("'it''s'"));
}

#[test]
fn labels_named_like_a_views_own_column_are_renamed() {
    let sql = duckdb_views(&[], &list(&["Value", "label_value", "sum"]));
    let samples = &sql[sql.find("VIEW samples").unwrap()..sql.find("VIEW rollup").unwrap()];
    assert!(samples.contains("\"Value\" AS \"label_Value_\", \"label_value\", \"sum\""));
    let rollup = &sql[sql.find("VIEW rollup").unwrap()..];
    assert!(rollup.contains("\"Value\", \"label_value\", \"sum\" AS \"label_sum\""));
}

#[test]
fn a_tenant_without_files_still_has_views() {
    let sql = duckdb_views(&[], &list(&["job"]));
    assert_eq!(sql.matches("CREATE OR REPLACE VIEW").count(), 8);
    assert!(sql.contains("WHERE false") && !sql.contains("read_parquet"));
}
