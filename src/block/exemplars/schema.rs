//! The Parquet schema and encodings of a block of exemplars.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use parquet::basic::Encoding;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use crate::block::schema::{
    LabelForm, TS, base_properties, column_path, label_fields, map_entries, timestamp,
};

pub(in crate::block) const VALUE: &str = "_value";
/// Exemplar labels with a column of their own, and the columns.
pub(in crate::block) const IDS: [(&str, &str); 2] = [("trace_id", "_trace_id"), ("span_id", "_span_id")];
pub(in crate::block) const EXEMPLAR_LABELS: &str = "_exemplar_labels";

/// Returns the Arrow schema of a block of exemplars with these label columns.
pub(in crate::block) fn arrow_schema(label_columns: &[String], form: LabelForm) -> SchemaRef {
    let mut fields = label_fields(label_columns, form);
    fields.push(Field::new(TS, timestamp(), false));
    fields.push(Field::new(VALUE, DataType::Float64, false));
    fields.extend(IDS.map(|(_, column)| Field::new(column, DataType::Utf8, true)));
    fields.push(Field::new(EXEMPLAR_LABELS, DataType::Map(map_entries(), false), true));
    Arc::new(Schema::new(fields))
}

/// Returns how each column is encoded. Ids hardly repeat, so that a dictionary of them costs more than it saves.
pub(super) fn writer_properties(
    label_columns: &[String],
    zstd_level: i32,
) -> Result<WriterProperties, ParquetError> {
    let mut properties = base_properties(label_columns, &[TS], zstd_level)?;
    for name in [TS, VALUE] {
        properties = properties.set_column_encoding(column_path(name), Encoding::BYTE_STREAM_SPLIT);
    }
    for name in [TS, VALUE].into_iter().chain(IDS.map(|(_, column)| column)) {
        properties = properties.set_column_dictionary_enabled(column_path(name), false);
    }
    Ok(properties.build())
}
