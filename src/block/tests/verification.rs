//! Blocks that read well and say what is not so.

use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::KeyValue;

use super::*;
use crate::block::schema::{LabelForm, ScalePlace, arrow_schema, writer_properties};

fn two_series() -> Bytes {
    let samples = (0..100).map(|i| (i * 1_000, if i == 50 { STALE } else { i as f64 / 4.0 }));
    let a = run(&[("__name__", "a"), ("job", "x")], samples.clone());
    let b = run(&[("__name__", "b"), ("job", "x")], samples);
    write(vec![a, b]).0
}

/// Writes a block again with one column of its only batch changed, and its metadata as `pairs` makes it.
fn altered(
    file: &Bytes,
    column: &str,
    alter: impl Fn(&ArrayRef) -> ArrayRef,
    pairs: impl Fn(&mut KeyValue),
) -> Bytes {
    let columns = ["__name__".to_owned(), "job".to_owned()];
    let schema = arrow_schema(&columns, LabelForm::Strings, ScalePlace::AfterCounts);
    let options = parquet::arrow::arrow_reader::ArrowReaderOptions::new()
        .with_skip_arrow_metadata(true)
        .with_schema(Arc::clone(&schema));
    let reader = ParquetRecordBatchReaderBuilder::try_new_with_options(file.clone(), options).unwrap();
    let metadata = reader.metadata().file_metadata().key_value_metadata().unwrap().clone();
    let batch = reader.build().unwrap().next().unwrap().unwrap();
    let mut arrays = batch.columns().to_vec();
    if let Some((place, _)) = batch.schema().column_with_name(column) {
        arrays[place] = alter(&arrays[place]);
    }
    let properties = writer_properties(&columns, 3).unwrap();
    let mut out = Vec::new();
    let options = parquet::arrow::arrow_writer::ArrowWriterOptions::new()
        .with_properties(properties)
        .with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(&mut out, Arc::clone(&schema), options).unwrap();
    writer.write(&RecordBatch::try_new(schema, arrays).unwrap()).unwrap();
    for mut pair in metadata {
        pairs(&mut pair);
        writer.append_key_value_metadata(pair);
    }
    writer.close().unwrap();
    out.into()
}

async fn findings(file: &Bytes) -> Vec<String> {
    open(file).await.unwrap().verify(&|_| ()).await.unwrap()
}

#[tokio::test]
async fn a_block_as_written_has_no_findings_and_all_its_samples_are_checked() {
    let file = two_series();
    let checked = Mutex::new(0);
    let found = open(&file).await.unwrap().verify(&|samples| *checked.lock().unwrap() += samples).await;
    assert_eq!(found.unwrap(), Vec::<String>::new());
    assert_eq!(*checked.lock().unwrap(), 200);
    let same = altered(&file, "none", ArrayRef::clone, |_| ());
    assert_eq!(findings(&same).await, Vec::<String>::new(), "rewriting alone changes nothing");
}

#[tokio::test]
async fn statistics_that_are_not_those_of_the_samples_are_found() {
    let file = two_series();
    let doubles = |_: &ArrayRef| Arc::new(Float64Array::from(vec![1.0, 2.0])) as ArrayRef;
    let counts = |_: &ArrayRef| Arc::new(Int32Array::from(vec![7, 7])) as ArrayRef;
    let hashes = |_: &ArrayRef| Arc::new(Int64Array::from(vec![7, 7])) as ArrayRef;
    for column in ["_sum", "_min", "_max", "_first", "_last", "_increase"] {
        let found = findings(&altered(&file, column, doubles, |_| ())).await;
        assert!(found.iter().any(|f| f.contains("row 0") && f.contains("statistics")), "{column}: {found:?}");
    }
    for column in ["_stale", "_nonfinite", "_count"] {
        let found = findings(&altered(&file, column, counts, |_| ())).await;
        assert!(found.iter().any(|f| f.contains("row 1")), "{column}: {found:?}");
    }
    let found = findings(&altered(&file, "_series", hashes, |_| ())).await;
    assert!(found.iter().any(|f| f.contains("hash")), "{found:?}");
}

#[tokio::test]
async fn rows_out_of_order_are_found() {
    let file = two_series();
    let names = |_: &ArrayRef| Arc::new(arrow::array::StringArray::from(vec!["b", "a"])) as ArrayRef;
    let found = findings(&altered(&file, "__name__", names, |_| ())).await;
    assert!(found.iter().any(|f| f.contains("row 1") && f.contains("order")), "{found:?}");
}

#[tokio::test]
async fn a_footer_that_counts_wrong_is_found() {
    let file = two_series();
    for (key, value) in [
        ("perennial.samples", "199"),
        ("perennial.series", "3"),
        ("perennial.stale", "0"),
        ("perennial.max_time_ms", "5"),
        ("perennial.metric_max", "zzz"),
    ] {
        let change = |pair: &mut KeyValue| {
            if pair.key == key {
                pair.value = Some(value.to_owned());
            }
        };
        let found = findings(&altered(&file, "none", ArrayRef::clone, change)).await;
        assert!(found.iter().any(|f| f.contains("footer")), "{key}: {found:?}");
    }
}

#[tokio::test]
async fn what_was_written_of_the_other_kinds_verifies() {
    use crate::block::{exemplars, histograms, metadata};
    let (file, stats) = histograms::tests::write(histograms::tests::special_cases());
    let checked = std::sync::atomic::AtomicU64::new(0);
    let advance = |samples| {
        checked.fetch_add(samples, std::sync::atomic::Ordering::Relaxed);
    };
    assert_eq!(open(&file).await.unwrap().verify(&advance).await.unwrap(), Vec::<String>::new());
    assert_eq!(checked.into_inner(), stats.samples);
    let (file, _) = exemplars::tests::write(exemplars::tests::special_cases());
    let reader = ExemplarReader::open(Arc::new(file.clone()), cpu(), file.len() as u64).await.unwrap();
    assert_eq!(reader.verify().await.unwrap(), Vec::<String>::new());
    let (file, _) = metadata::tests::write(&metadata::tests::special_cases());
    let reader = MetadataReader::open(Arc::new(file.clone()), cpu(), file.len() as u64).await.unwrap();
    assert_eq!(reader.verify().await.unwrap(), Vec::<String>::new());
}

/// Replaces the value of a key of the footer by another of the same length.
fn with_other_value(file: &Bytes, key: &str, value: u8, other: u8) -> Bytes {
    let text = format!("perennial.{key}");
    let at = file.windows(text.len()).position(|w| w == text.as_bytes()).unwrap() + text.len();
    let mut bytes = file.to_vec();
    let place = at + bytes[at..].iter().position(|b| *b == value).unwrap();
    bytes[place] = other;
    bytes.into()
}

#[tokio::test]
async fn a_footer_that_counts_wrong_is_found_in_every_kind() {
    use crate::block::{exemplars, histograms, metadata};
    let (file, _) = histograms::tests::write(histograms::tests::special_cases());
    let wrong = with_other_value(&file, "series", b'8', b'7');
    let found = open(&wrong).await.unwrap().verify(&|_| ()).await.unwrap();
    assert_eq!(found, ["the footer says 7 series, there are 8"]);
    let (file, _) = exemplars::tests::write(exemplars::tests::special_cases());
    let wrong = with_other_value(&file, "samples", b'4', b'5');
    let reader = ExemplarReader::open(Arc::new(wrong.clone()), cpu(), wrong.len() as u64).await.unwrap();
    assert_eq!(reader.verify().await.unwrap(), ["the footer says 5 entries, there are 4"]);
    let (file, _) = metadata::tests::write(&metadata::tests::special_cases());
    let wrong = with_other_value(&file, "max_time_ms", b'2', b'3');
    let reader = MetadataReader::open(Arc::new(wrong.clone()), cpu(), wrong.len() as u64).await.unwrap();
    assert_eq!(
        reader.verify().await.unwrap(),
        ["the footer's times are not those of its rows, -5 to 2000 ms"]
    );
}
