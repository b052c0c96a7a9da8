//! List columns under construction, until they become Arrow arrays.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, ListArray, MapArray, NullBufferBuilder, PrimitiveArray, StringBuilder, StructArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{ArrowPrimitiveType, FieldRef};
use arrow::error::ArrowError;

use super::schema;

/// A list column under construction.
pub(super) struct Lists<T: ArrowPrimitiveType> {
    offsets: Vec<i32>,
    rows: NullBufferBuilder,
    pub(super) elements: Vec<T::Native>,
    pub(super) valid: NullBufferBuilder,
}

impl<T: ArrowPrimitiveType> Lists<T> {
    pub(super) fn new() -> Self {
        Self {
            offsets: vec![0],
            rows: NullBufferBuilder::new(0),
            elements: Vec::new(),
            valid: NullBufferBuilder::new(0),
        }
    }

    /// Appends elements to the open list; `end_row` ends it.
    pub(super) fn extend(&mut self, elements: impl IntoIterator<Item = T::Native>) {
        let before = self.elements.len();
        self.elements.extend(elements);
        self.valid.append_n_non_nulls(self.elements.len() - before);
    }

    /// Appends elements to the open list, `None` as NULL.
    pub(super) fn extend_nullable(&mut self, elements: impl IntoIterator<Item = Option<T::Native>>) {
        for element in elements {
            self.elements.push(element.unwrap_or_default());
            self.valid.append(element.is_some());
        }
    }

    /// Ends a row's list; one that is not present is NULL and has no elements.
    pub(super) fn end_row(&mut self, present: bool) {
        // A batch ends soon after 65,536 elements; the longest row has far fewer than 2^31.
        self.offsets.push(self.elements.len() as i32);
        self.rows.append(present);
    }

    pub(super) fn finish(mut self, element: FieldRef) -> Result<ArrayRef, ArrowError> {
        let values = PrimitiveArray::<T>::try_new(self.elements.into(), self.valid.finish())?
            .with_data_type(element.data_type().clone());
        let offsets = OffsetBuffer::new(self.offsets.into());
        Ok(Arc::new(ListArray::try_new(element, offsets, Arc::new(values), self.rows.finish())?))
    }
}

/// A column of lists of lists under construction.
pub(super) struct NestedLists<T: ArrowPrimitiveType> {
    offsets: Vec<i32>,
    rows: NullBufferBuilder,
    lists: usize,
    inner: Lists<T>,
}

impl<T: ArrowPrimitiveType> NestedLists<T> {
    pub(super) fn new() -> Self {
        Self { offsets: vec![0], rows: NullBufferBuilder::new(0), lists: 0, inner: Lists::new() }
    }

    pub(super) fn elements(&self) -> usize {
        self.inner.elements.len()
    }

    /// Appends a list of elements, `None` as NULL, to the open row.
    pub(super) fn push(&mut self, elements: impl IntoIterator<Item = Option<T::Native>>) {
        self.inner.extend_nullable(elements);
        self.inner.end_row(true);
        self.lists += 1;
    }

    pub(super) fn end_row(&mut self, present: bool) {
        self.offsets.push(self.lists as i32);
        self.rows.append(present);
    }

    pub(super) fn finish(mut self, list: FieldRef, element: FieldRef) -> Result<ArrayRef, ArrowError> {
        let lists = self.inner.finish(element)?;
        let offsets = OffsetBuffer::new(self.offsets.into());
        Ok(Arc::new(ListArray::try_new(list, offsets, lists, self.rows.finish())?))
    }
}

/// A column of maps of labels under construction.
pub(super) struct LabelMaps {
    offsets: Vec<i32>,
    rows: NullBufferBuilder,
    names: StringBuilder,
    values: StringBuilder,
    len: i32,
}

impl LabelMaps {
    pub(super) fn new() -> Self {
        let (names, values) = (StringBuilder::new(), StringBuilder::new());
        Self { offsets: vec![0], rows: NullBufferBuilder::new(0), names, values, len: 0 }
    }

    /// Appends a row; one without labels is NULL.
    pub(super) fn push_row(&mut self, labels: &[(&str, &str)]) {
        for (name, value) in labels {
            self.names.append_value(name);
            self.values.append_value(value);
            self.len += 1;
        }
        self.offsets.push(self.len);
        self.rows.append(!labels.is_empty());
    }

    pub(super) fn finish(mut self) -> Result<ArrayRef, ArrowError> {
        let columns: Vec<ArrayRef> = vec![Arc::new(self.names.finish()), Arc::new(self.values.finish())];
        let entries = StructArray::try_new(schema::map_fields(), columns, None)?;
        let offsets = OffsetBuffer::new(self.offsets.into());
        let map = MapArray::try_new(schema::map_entries(), offsets, entries, self.rows.finish(), false)?;
        Ok(Arc::new(map))
    }
}
