//! The postings offset table, in memory: which labels there are, and where their postings stand.

use std::ops::Range;

use super::super::BlockError;
use super::super::cursor::Cursor;

/// The table as it stands in the file, and its entries sorted by name and value.
#[derive(Debug)]
pub(in crate::tsdb::block) struct PostingsTable {
    content: Vec<u8>,
    entries: Vec<Entry>,
    /// The file has them in order, which version 2 asks for.
    pub(in crate::tsdb::block) is_sorted: bool,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    name: (u32, u32),
    value: (u32, u32),
    offset: u64,
}

const PART: &str = "the postings offset table of the index";

impl PostingsTable {
    /// Reads the content of the section that begins at `offset`.
    pub(super) fn decode(content: Vec<u8>, offset: u64) -> Result<Self, BlockError> {
        let malformed = |reason| BlockError::Malformed { part: PART, offset, reason };
        let mut cursor = Cursor::new(&content);
        let count = cursor.be32().ok_or(malformed("it has no count"))?;
        // Key count, two empty texts and an offset: four bytes.
        if u64::from(count) > cursor.rest().len() as u64 / 4 {
            return Err(malformed("it promises more entries than it has bytes"));
        }
        let mut entries = Vec::with_capacity(count as usize);
        for _ in 0..count {
            entries.push(
                take_entry(&content, &mut cursor).ok_or(malformed("an entry is cut off or not UTF-8"))?,
            );
        }
        let is_empty = cursor.is_empty();
        if !is_empty {
            return Err(malformed("bytes follow the last entry"));
        }
        let mut table = Self { content, entries: Vec::new(), is_sorted: false };
        table.is_sorted = entries.is_sorted_by(|a, b| table.key(a) < table.key(b));
        if !table.is_sorted {
            entries.sort_by(|a, b| table.key(a).cmp(&table.key(b)));
        }
        table.entries = entries;
        Ok(table)
    }

    fn text(&self, (start, len): (u32, u32)) -> &str {
        let bytes = &self.content[start as usize..(start + len) as usize];
        std::str::from_utf8(bytes).unwrap_or_default()
    }

    fn key(&self, entry: &Entry) -> (&str, &str) {
        (self.text(entry.name), self.text(entry.value))
    }

    fn name_range(&self, name: &str) -> Range<usize> {
        let start = self.entries.partition_point(|entry| self.text(entry.name) < name);
        let end = start + self.entries[start..].partition_point(|entry| self.text(entry.name) == name);
        start..end
    }

    /// Returns where the postings of a label stand.
    pub(super) fn offset(&self, name: &str, value: &str) -> Option<u64> {
        let at = self.entries.binary_search_by(|entry| self.key(entry).cmp(&(name, value))).ok()?;
        Some(self.entries[at].offset)
    }

    /// Iterates over name, value and place of postings, in order.
    pub(in crate::tsdb::block) fn iter(&self) -> impl Iterator<Item = (&str, &str, u64)> {
        self.entries.iter().map(|entry| (self.text(entry.name), self.text(entry.value), entry.offset))
    }

    /// Iterates over the values of a label and the places of their postings, in order.
    pub(super) fn values(&self, name: &str) -> impl Iterator<Item = (&str, u64)> {
        self.entries[self.name_range(name)].iter().map(|entry| (self.text(entry.value), entry.offset))
    }

    /// Iterates over the names of labels, in order, without the empty one that stands for all series.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let mut next = 0;
        std::iter::from_fn(move || {
            let name = self.text(self.entries.get(next)?.name);
            next += self.entries[next..].partition_point(|entry| self.text(entry.name) == name);
            Some(name)
        })
        .filter(|name| !name.is_empty())
    }
}

fn take_entry(content: &[u8], cursor: &mut Cursor<'_>) -> Option<Entry> {
    if cursor.uvarint()? != 2 {
        return None;
    }
    let mut take_text = || {
        let text = cursor.text()?;
        std::str::from_utf8(text).ok()?;
        let end = content.len() - cursor.rest().len();
        Some(((end - text.len()) as u32, text.len() as u32))
    };
    let (name, value) = (take_text()?, take_text()?);
    Some(Entry { name, value, offset: cursor.uvarint()? })
}
