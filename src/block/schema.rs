//! The Parquet schema and encodings of a block.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

/// xxh64 over the labels.
pub(super) const SERIES: &str = "_series";
/// Labels without a column.
pub(super) const LABELS_REST: &str = "_labels_rest";
/// Time of the first sample.
pub(super) const MIN_TIME: &str = "_min_time";
/// Time of the last sample.
pub(super) const MAX_TIME: &str = "_max_time";
/// Number of samples.
pub(super) const COUNT: &str = "_count";
/// Numbers that count something in a row, in column order.
pub(super) const COUNTS: [&str; 3] = [COUNT, "_stale", "_nonfinite"];
/// Statistics over finite values, in column order.
pub(super) const FINITE: [&str; 6] = ["_sum", "_min", "_max", "_first", "_last", "_increase"];
/// Timestamps.
pub(super) const TS: &str = "_ts";
/// Start timestamps.
pub(super) const ST: &str = "_st";
/// The power of ten that `_scaled` is divided by.
pub(super) const SCALE: &str = "_scale";
/// Values as scaled integers.
pub(super) const SCALED: &str = "_scaled";
/// Values as doubles.
pub(super) const VALUES: &str = "_values";
/// Bytes of one page of `_ts` before compression: 262,144 samples. Series of one target share their timestamps, and
/// zstd sees that within a page only: 1 MiB costs 0.009 B a sample more, 256 KiB 0.07 B.
pub(super) const TS_PAGE_BYTES: usize = 2 << 20;
/// Bytes of one page of the other list columns before compression: 131,072 samples. Reading one series decodes one
/// such page of values; half of it would cost 0.008 B a sample.
pub(super) const VALUE_PAGE_BYTES: usize = 1 << 20;
/// Bytes of one page of `_values` before compression: 32,768 samples. What stands there is hardly compressed: one page
/// is about what a query of one series fetches, and a larger one would save next to nothing.
const DOUBLE_PAGE_BYTES: usize = 256 << 10;

/// Bytes of one page of a label column before compression, and at least 1,024 rows: reading the labels of one series
/// decodes one such page of each.
const LABEL_PAGE_BYTES: usize = 8 << 10;
/// Bytes of the dictionary of a label column before compression; a column with more distinct values goes on without
/// one, because whoever reads one row reads all of the dictionary.
const LABEL_DICTIONARY_BYTES: usize = 128 << 10;

/// How label columns are represented in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LabelForm {
    /// Plain strings, as they are written.
    Strings,
    /// Dictionary codes, as they are read.
    Codes,
}

/// Where `_scale` stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ScalePlace {
    /// Behind the counts: it is read with the labels and says which list a row has.
    AfterCounts,
    /// Between `_st` and `_scaled`, as the first files of format 1 have it.
    AmongLists,
}

impl ScalePlace {
    /// Returns where a file's columns have it.
    pub(super) fn of_columns(names: &[&str]) -> Self {
        let at = |column: &str| names.iter().position(|name| *name == column);
        if at(SCALE) > at(ST) { Self::AmongLists } else { Self::AfterCounts }
    }
}

pub(super) fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

fn list_of(element: DataType, nullable: bool) -> DataType {
    DataType::List(list_element(element, nullable))
}

pub(super) fn list_element(element: DataType, nullable: bool) -> Arc<Field> {
    Arc::new(Field::new("element", element, nullable))
}

/// The fields of one entry of `_labels_rest`.
pub(super) fn map_fields() -> Fields {
    Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, false)])
}

/// The repeated group of `_labels_rest`.
pub(super) fn map_entries() -> Arc<Field> {
    Arc::new(Field::new("key_value", DataType::Struct(map_fields()), false))
}

/// The element of each list of the sample columns.
pub(super) fn sample_element(column: &str) -> Arc<Field> {
    match column {
        TS => list_element(timestamp(), false),
        ST => list_element(timestamp(), true),
        VALUES => list_element(DataType::Float64, true),
        _ => list_element(DataType::Int64, true),
    }
}

/// The columns that every file with series begins with: the hash and the labels.
pub(super) fn label_fields(label_columns: &[String], form: LabelForm) -> Vec<Field> {
    let label_type = match form {
        LabelForm::Strings => DataType::Utf8,
        LabelForm::Codes => DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
    };
    let mut fields = vec![Field::new(SERIES, DataType::Int64, false)];
    fields.extend(label_columns.iter().map(|name| Field::new(name, label_type.clone(), true)));
    fields.push(Field::new(LABELS_REST, DataType::Map(map_entries(), false), true));
    fields
}

/// Returns the Arrow schema of a block of float samples with these label columns.
pub(super) fn arrow_schema(label_columns: &[String], form: LabelForm, scale: ScalePlace) -> SchemaRef {
    let mut fields = label_fields(label_columns, form);
    fields.push(Field::new(MIN_TIME, timestamp(), false));
    fields.push(Field::new(MAX_TIME, timestamp(), false));
    fields.extend(COUNTS.map(|name| Field::new(name, DataType::Int32, false)));
    if scale == ScalePlace::AfterCounts {
        fields.push(Field::new(SCALE, DataType::Int32, true));
    }
    fields.extend(FINITE.map(|name| Field::new(name, DataType::Float64, true)));
    fields.push(Field::new(TS, list_of(timestamp(), false), false));
    fields.push(Field::new(ST, list_of(timestamp(), true), true));
    if scale == ScalePlace::AmongLists {
        fields.push(Field::new(SCALE, DataType::Int32, true));
    }
    fields.push(Field::new(SCALED, list_of(DataType::Int64, true), true));
    fields.push(Field::new(VALUES, list_of(DataType::Float64, true), true));
    Arc::new(Schema::new(fields))
}

pub(super) fn list_path(column: &str) -> ColumnPath {
    ColumnPath::new(vec![column.to_owned(), "list".to_owned(), "element".to_owned()])
}

pub(super) fn column_path(column: &str) -> ColumnPath {
    ColumnPath::new(vec![column.to_owned()])
}

fn rest_path(leaf: &str) -> ColumnPath {
    ColumnPath::new(vec![LABELS_REST.to_owned(), "key_value".to_owned(), leaf.to_owned()])
}

/// Returns what the files of all kinds share: statistics stand in the footer only, untruncated, and only where a reader
/// prunes by them, for label columns and times. Without statistics per page there is an offset index but no column
/// index.
///
/// # Errors
/// A zstd level that does not exist.
pub(super) fn base_properties(
    label_columns: &[String],
    times: &[&str],
    zstd_level: i32,
) -> Result<WriterPropertiesBuilder, ParquetError> {
    let mut properties = WriterProperties::builder()
        .set_created_by(concat!("perennial version ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(zstd_level)?))
        .set_max_row_group_row_count(None)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_statistics_truncate_length(None);
    for name in label_columns.iter().map(String::as_str).chain(times.iter().copied()) {
        properties = properties.set_column_statistics_enabled(column_path(name), EnabledStatistics::Chunk);
    }
    let labels = label_columns.iter().map(|name| column_path(name));
    for path in labels.chain(["key", "value"].map(rest_path)) {
        properties = properties
            .set_column_data_page_size_limit(path.clone(), LABEL_PAGE_BYTES)
            .set_column_dictionary_page_size_limit(path, LABEL_DICTIONARY_BYTES);
    }
    Ok(properties.set_column_dictionary_enabled(column_path(SERIES), false))
}

/// Returns how each column of float samples is encoded.
///
/// # Errors
/// A zstd level that does not exist.
pub(super) fn writer_properties(
    label_columns: &[String],
    zstd_level: i32,
) -> Result<WriterProperties, ParquetError> {
    // `_st` mostly holds nothing, which its statistics tell.
    let mut properties = base_properties(label_columns, &[MIN_TIME, MAX_TIME], zstd_level)?
        .set_column_statistics_enabled(list_path(ST), EnabledStatistics::Chunk);
    for name in [TS, ST, SCALED, VALUES] {
        let page_bytes = match name {
            TS => TS_PAGE_BYTES,
            VALUES => DOUBLE_PAGE_BYTES,
            _ => VALUE_PAGE_BYTES,
        };
        let encoding = if name == VALUES { Encoding::PLAIN } else { Encoding::BYTE_STREAM_SPLIT };
        properties = properties
            .set_column_dictionary_enabled(list_path(name), false)
            .set_column_encoding(list_path(name), encoding)
            .set_column_data_page_size_limit(list_path(name), page_bytes);
    }
    Ok(properties.build())
}
