//! The recording of real exporters that lies beside the package.

use std::fs::File;
use std::path::{Path, PathBuf};

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::{LabelPairs, SampleSet, say_skipped};

/// Returns the folder of recordings: `PERENNIAL_DATA`, else `../shared/data`.
pub(crate) fn recordings() -> PathBuf {
    std::env::var_os("PERENNIAL_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"), PathBuf::from)
}

/// Returns the samples of `recording-1`; says what is skipped when it is not there.
pub(crate) fn recording(test: &str) -> Option<SampleSet> {
    let file = recordings().join("recording-1/samples.parquet");
    if !file.is_file() {
        // It is no part of the repository, so its absence is never a failure.
        say_skipped(test, "the recording ../shared/data/recording-1 (or PERENNIAL_DATA)");
        return None;
    }
    Some(load(&file))
}

fn load(path: &Path) -> SampleSet {
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    let mut set = SampleSet::default();
    let mut known: std::collections::HashMap<String, LabelPairs> = std::collections::HashMap::new();
    for batch in builder.with_batch_size(65_536).build().unwrap() {
        let batch = batch.unwrap();
        let names = arrow::compute::cast(batch.column(0), &DataType::Utf8).unwrap();
        let names = names.as_string::<i32>();
        let times = batch.column(1).as_primitive::<Int64Type>();
        let values = batch.column(2).as_primitive::<Float64Type>();
        let mut row = 0;
        while row < batch.num_rows() {
            let name = names.value(row);
            let end = (row..batch.num_rows()).find(|i| names.value(*i) != name).unwrap_or(batch.num_rows());
            let labels = known.entry(name.to_owned()).or_insert_with(|| parse(name));
            let samples = (row..end).map(|i| (times.value(i), values.value(i).to_bits()));
            set.append(labels.clone(), samples);
            row = end;
        }
    }
    set
}

fn parse(json: &str) -> LabelPairs {
    let labels: std::collections::BTreeMap<String, String> = serde_json::from_str(json).unwrap();
    labels.into_iter().collect()
}
