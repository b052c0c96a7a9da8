//! The Parquet schema and encodings of a block of histograms.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use parquet::basic::Encoding;
use parquet::errors::ParquetError;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;

use crate::block::schema::{
    COUNT, LabelForm, MAX_TIME, MIN_TIME, ST, TS, TS_PAGE_BYTES, VALUE_PAGE_BYTES, base_properties,
    label_fields, list_element, list_path, sample_element, timestamp,
};
use crate::model::{Histogram, HistogramSample, Span};

pub(super) const STALE: &str = "_stale";
pub(super) const SCHEMA: &str = "_schema";
pub(super) const ZERO_THRESHOLD: &str = "_zero_threshold";
pub(super) const CUSTOM_VALUES: &str = "_custom_values";
/// Offsets and lengths of the spans, positive then negative.
pub(super) const SPANS: [&str; 4] =
    ["_positive_offsets", "_positive_lengths", "_negative_offsets", "_negative_lengths"];
pub(super) const RESET_HINT: &str = "_reset_hint";
pub(super) const WHOLE: [&str; 2] = ["_hcount", "_zero_count"];
pub(super) const FRACTIONAL: [&str; 2] = ["_hcount_float", "_zero_count_float"];
pub(super) const SUM: &str = "_sum";
/// First counts, increments, and counts of float histograms; positive then negative.
pub(super) const SIDES: [[&str; 3]; 2] = [
    ["_positive_first", "_positive_increments", "_positive_float"],
    ["_negative_first", "_negative_increments", "_negative_float"],
];

/// Columns after the label columns and before the layout: rest, two times, two counts.
pub(super) const FIXED_BEFORE_LAYOUT: usize = 5;
/// Columns of layout and samples.
pub(super) const LAYOUT_AND_SAMPLES: usize = 21;

fn element(data_type: DataType, nullable: bool) -> FieldRef {
    list_element(data_type, nullable)
}

/// The element of a list of numbers.
pub(super) fn number(column: &str) -> FieldRef {
    match column {
        CUSTOM_VALUES => element(DataType::Float64, false),
        RESET_HINT => element(DataType::Int32, false),
        _ if SPANS.contains(&column) => element(DataType::Int64, false),
        _ if SIDES.iter().any(|side| side[0] == column) => element(DataType::Int64, true),
        _ if FRACTIONAL.contains(&column) || column == SUM => element(DataType::Float64, true),
        _ if WHOLE.contains(&column) => element(DataType::Int64, true),
        other => sample_element(other),
    }
}

/// The element of a list within a list, which has one list for each bucket.
pub(super) fn bucket_element(column: &str) -> FieldRef {
    let float = SIDES.iter().any(|side| side[2] == column);
    element(if float { DataType::Float64 } else { DataType::Int64 }, true)
}

/// The list of one bucket.
pub(super) fn bucket_list(column: &str) -> FieldRef {
    element(DataType::List(bucket_element(column)), false)
}

/// The columns after `_labels_rest`.
pub(in crate::block) fn fixed_columns() -> Vec<Field> {
    let list = |name: &str, nullable| Field::new(name, DataType::List(number(name)), nullable);
    let nested = |name: &str| Field::new(name, DataType::List(bucket_list(name)), true);
    let mut fields = vec![
        Field::new(MIN_TIME, timestamp(), false),
        Field::new(MAX_TIME, timestamp(), false),
        Field::new(COUNT, DataType::Int32, false),
        Field::new(STALE, DataType::Int32, false),
        Field::new(SCHEMA, DataType::Int32, false),
        Field::new(ZERO_THRESHOLD, DataType::Float64, false),
        list(CUSTOM_VALUES, true),
    ];
    fields.extend(SPANS.map(|name| list(name, false)));
    fields.extend([list(TS, false), list(ST, true), list(RESET_HINT, false)]);
    fields.extend([WHOLE[0], FRACTIONAL[0], WHOLE[1], FRACTIONAL[1]].map(|name| list(name, true)));
    fields.push(list(SUM, false));
    for [first, increments, float] in SIDES {
        fields.extend([list(first, true), nested(increments), nested(float)]);
    }
    fields
}

/// Returns the Arrow schema of a block of histograms with these label columns.
pub(in crate::block) fn arrow_schema(label_columns: &[String], form: LabelForm) -> SchemaRef {
    let mut fields = label_fields(label_columns, form);
    fields.extend(fixed_columns());
    Arc::new(Schema::new(fields))
}

/// Returns about how many bytes of memory a sample of a row group takes once it is decoded, on average.
pub(in crate::block) fn sample_bytes(group: &RowGroupMetaData) -> u64 {
    let elements = |names: &[&str]| {
        let of_columns = group.columns().iter().filter(|column| {
            let root = column.column_path().parts().first();
            root.is_some_and(|root| names.contains(&root.as_str()))
        });
        let counts = of_columns.map(|column| u64::try_from(column.num_values()).unwrap_or(0));
        counts.fold(0, u64::saturating_add)
    };
    let (samples, rows) = (elements(&[TS]).max(1), u64::try_from(group.num_rows()).unwrap_or(0).max(1));
    let [[_, whole, float], [_, negative_whole, negative_float]] = SIDES;
    let buckets = elements(&[whole, float, negative_whole, negative_float]).div_ceil(samples);
    // Every sample of a row has the row's bounds and, unless it lacks buckets, its spans.
    let bounds = elements(&[CUSTOM_VALUES]).div_ceil(rows);
    let spans = elements(&[SPANS[0], SPANS[2]]).div_ceil(rows);
    let own = (size_of::<HistogramSample>() + size_of::<Histogram>()) as u64;
    let (number, span) = (size_of::<i64>() as u64, size_of::<Span>() as u64);
    let lists = buckets.saturating_add(bounds).saturating_mul(number);
    own.saturating_add(lists).saturating_add(spans.saturating_mul(span))
}

fn nested_path(column: &str) -> ColumnPath {
    let parts = [column, "list", "element", "list", "element"];
    ColumnPath::new(parts.map(ToOwned::to_owned).to_vec())
}

/// Returns how each column is encoded; `benches/engine` measures it.
///
/// Counts grow by little, which DELTA_BINARY_PACKED sees. The increments of buckets are small numbers with hardly any
/// order: BYTE_STREAM_SPLIT leaves their upper bytes equal, and zstd codes the lowest one near its entropy.
pub(super) fn writer_properties(
    label_columns: &[String],
    zstd_level: i32,
) -> Result<WriterProperties, ParquetError> {
    let mut columns = vec![(list_path(TS), Encoding::BYTE_STREAM_SPLIT, TS_PAGE_BYTES)];
    columns.extend(WHOLE.map(|name| (list_path(name), Encoding::DELTA_BINARY_PACKED, VALUE_PAGE_BYTES)));
    let split = |path| (path, Encoding::BYTE_STREAM_SPLIT, VALUE_PAGE_BYTES);
    columns.extend([ST, SUM].into_iter().chain(FRACTIONAL).map(list_path).map(split));
    for [first, increments, float] in SIDES {
        columns.extend([list_path(first), nested_path(increments), nested_path(float)].map(split));
    }
    let properties = base_properties(label_columns, &[MIN_TIME, MAX_TIME], zstd_level)?;
    let encoded = columns.into_iter().fold(properties, |properties, (path, encoding, page_bytes)| {
        properties
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_encoding(path.clone(), encoding)
            .set_column_data_page_size_limit(path, page_bytes)
    });
    Ok(encoded.build())
}
