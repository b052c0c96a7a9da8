//! Blocks that read well and say what is not so.

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, Float64Array, Int32Array, PrimitiveArray, RecordBatch,
};
use arrow::datatypes::{Int32Type, Int64Type, TimestampMillisecondType};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::KeyValue;

use super::*;
use crate::block::schema::{LabelForm, ScalePlace, arrow_schema, base_properties};
use crate::block::{exemplars, histograms, metadata};

fn two_series() -> Bytes {
    let samples = (0..100).map(|i| (i * 1_000, if i == 50 { STALE } else { i as f64 / 4.0 }));
    let a = run(&[("__name__", "a"), ("job", "x")], samples.clone());
    let b = run(&[("__name__", "b"), ("job", "x")], samples);
    write(vec![a, b]).0
}

/// Writes a block of any kind again with one column of its only batch changed, its metadata as `pairs` makes it, and
/// row groups of two rows.
async fn altered(
    file: &Bytes,
    column: &str,
    alter: impl Fn(&ArrayRef) -> ArrayRef,
    pairs: impl Fn(&mut KeyValue),
) -> Bytes {
    let form = LabelForm::Strings;
    let reader = BlockReader::open_any(Arc::new(file.clone()), cpu(), file.len() as u64).await.unwrap();
    let columns = reader.block.label_columns.clone();
    let schema = match reader.meta().kind {
        BlockKind::Samples => arrow_schema(&columns, form, ScalePlace::AfterCounts),
        BlockKind::Histograms => histograms::arrow_schema(&columns, form),
        BlockKind::Exemplars => exemplars::arrow_schema(&columns, form),
        _ => metadata::arrow_schema(),
    };
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
    let properties = base_properties(&columns, &["_min_time", "_max_time", "_ts"], 3).unwrap().build();
    let mut out = Vec::new();
    let options = parquet::arrow::arrow_writer::ArrowWriterOptions::new()
        .with_properties(properties)
        .with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(&mut out, Arc::clone(&schema), options).unwrap();
    let batch = RecordBatch::try_new(schema, arrays).unwrap();
    for start in (0..batch.num_rows()).step_by(2) {
        writer.write(&batch.slice(start, 2.min(batch.num_rows() - start))).unwrap();
        writer.flush().unwrap();
    }
    for mut pair in metadata {
        pairs(&mut pair);
        writer.append_key_value_metadata(pair);
    }
    writer.close().unwrap();
    out.into()
}

/// Replaces a column of numbers by one number.
fn all<T: ArrowPrimitiveType>(number: T::Native) -> impl Fn(&ArrayRef) -> ArrayRef {
    move |column| Arc::new(PrimitiveArray::<T>::from_value(number, column.len()))
}

/// Changes one value of the footer.
fn saying(key: &str, value: &str) -> impl Fn(&mut KeyValue) {
    let key = format!("perennial.{key}");
    move |pair| {
        if pair.key == key {
            pair.value = Some(value.to_owned());
        }
    }
}

async fn findings_of_exemplars(file: &Bytes) -> Vec<String> {
    let reader = ExemplarReader::open(Arc::new(file.clone()), cpu(), file.len() as u64).await.unwrap();
    reader.verify().await.unwrap()
}

async fn findings_of_metadata(file: &Bytes) -> Vec<String> {
    let reader = MetadataReader::open(Arc::new(file.clone()), cpu(), file.len() as u64).await.unwrap();
    reader.verify().await.unwrap()
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
    let same = altered(&file, "none", ArrayRef::clone, |_| ()).await;
    assert_eq!(findings(&same).await, Vec::<String>::new(), "rewriting alone changes nothing");
}

#[tokio::test]
async fn statistics_that_are_not_those_of_the_samples_are_found() {
    let file = two_series();
    let doubles = |_: &ArrayRef| Arc::new(Float64Array::from(vec![1.0, 2.0])) as ArrayRef;
    let counts = |_: &ArrayRef| Arc::new(Int32Array::from(vec![7, 7])) as ArrayRef;
    for column in ["_sum", "_min", "_max", "_first", "_last", "_increase"] {
        let found = findings(&altered(&file, column, doubles, |_| ()).await).await;
        assert!(found.iter().any(|f| f.contains("row 0") && f.contains("statistics")), "{column}: {found:?}");
    }
    for column in ["_stale", "_nonfinite", "_count"] {
        let found = findings(&altered(&file, column, counts, |_| ()).await).await;
        assert!(found.iter().any(|f| f.contains("row 1")), "{column}: {found:?}");
    }
    let found = findings(&altered(&file, "_series", all::<Int64Type>(7), |_| ()).await).await;
    assert!(found.iter().any(|f| f.contains("hash")), "{found:?}");
}

#[tokio::test]
async fn rows_out_of_order_are_found() {
    let file = two_series();
    let names = |_: &ArrayRef| Arc::new(arrow::array::StringArray::from(vec!["b", "a"])) as ArrayRef;
    let found = findings(&altered(&file, "__name__", names, |_| ()).await).await;
    assert!(found.iter().any(|f| f.contains("row 1") && f.contains("order")), "{found:?}");
}

#[tokio::test]
async fn a_footer_that_counts_wrong_is_found() {
    let file = two_series();
    for (key, value) in
        [("samples", "199"), ("series", "3"), ("stale", "0"), ("max_time_ms", "5"), ("metric_max", "zzz")]
    {
        let found = findings(&altered(&file, "none", ArrayRef::clone, saying(key, value)).await).await;
        assert!(found.iter().any(|f| f.contains("footer")), "{key}: {found:?}");
    }
}

#[tokio::test]
async fn what_was_written_of_the_other_kinds_verifies() {
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

#[tokio::test]
async fn rows_of_histograms_that_say_what_is_not_so_are_found() {
    let (file, _) = histograms::tests::write(histograms::tests::special_cases());
    let same = altered(&file, "none", ArrayRef::clone, |_| ()).await;
    assert_eq!(findings(&same).await, Vec::<String>::new(), "rewriting alone changes nothing");
    let found = findings(&altered(&file, "_series", all::<Int64Type>(7), |_| ()).await).await;
    assert!(found[0].contains("row 0") && found[0].contains("hash"), "{found:?}");
    let found = findings(&altered(&file, "_stale", all::<Int32Type>(9), |_| ()).await).await;
    assert!(found[0].contains("row 0") && found[0].contains("_stale"), "{found:?}");
}

#[tokio::test]
async fn rows_of_exemplars_that_say_what_is_not_so_are_found() {
    let (file, _) = exemplars::tests::write(exemplars::tests::special_cases());
    let same = altered(&file, "none", ArrayRef::clone, |_| ()).await;
    assert_eq!(findings_of_exemplars(&same).await, Vec::<String>::new(), "rewriting alone changes nothing");
    let found = findings_of_exemplars(&altered(&file, "_series", all::<Int64Type>(7), |_| ()).await).await;
    assert_eq!(found.len(), 4, "{found:?}");
    assert!(found[0].contains("row 0") && found[0].contains("hash"), "{found:?}");
    let times = |_: &ArrayRef| {
        let times = PrimitiveArray::<TimestampMillisecondType>::from(vec![-1, 9, 1, 5]);
        Arc::new(times.with_timezone("UTC")) as ArrayRef
    };
    let found = findings_of_exemplars(&altered(&file, "_ts", times, |_| ()).await).await;
    assert!(found.iter().any(|f| f.contains("row 2") && f.contains("not in order")), "{found:?}");
}

#[tokio::test]
async fn a_footer_that_counts_wrong_is_found_in_every_kind() {
    let (file, _) = histograms::tests::write(histograms::tests::special_cases());
    let wrong = altered(&file, "none", ArrayRef::clone, saying("series", "7")).await;
    assert_eq!(findings(&wrong).await, ["the footer says 7 series, there are 8"]);
    let (file, _) = exemplars::tests::write(exemplars::tests::special_cases());
    let wrong = altered(&file, "none", ArrayRef::clone, saying("samples", "5")).await;
    assert_eq!(findings_of_exemplars(&wrong).await, ["the footer says 5 entries, there are 4"]);
    let (file, _) = metadata::tests::write(&metadata::tests::special_cases());
    let wrong = altered(&file, "none", ArrayRef::clone, saying("max_time_ms", "3001")).await;
    let expected = ["the footer's times are not those of its rows, -5 to 2000 ms"];
    assert_eq!(findings_of_metadata(&wrong).await, expected);
}

#[tokio::test]
async fn a_footer_with_wrong_names_is_found_in_every_kind() {
    for key in ["metric_min", "metric_max"] {
        let (file, _) = histograms::tests::write(histograms::tests::special_cases());
        let wrong = altered(&file, "none", ArrayRef::clone, saying(key, "zzz")).await;
        let mut found = findings(&wrong).await;
        let (file, _) = exemplars::tests::write(exemplars::tests::special_cases());
        let wrong = altered(&file, "none", ArrayRef::clone, saying(key, "zzz")).await;
        found.extend(findings_of_exemplars(&wrong).await);
        let (file, _) = metadata::tests::write(&metadata::tests::special_cases());
        let wrong = altered(&file, "none", ArrayRef::clone, saying(key, "zzz")).await;
        found.extend(findings_of_metadata(&wrong).await);
        let names = |finding: &String| finding.ends_with("names are not the first and the last");
        assert!(found.len() == 3 && found.iter().all(names), "{key}: {found:?}");
    }
}
