//! The texts of an index, in memory.

use super::super::BlockError;
use super::super::cursor::Cursor;

/// All symbols, as they stand in the file, and where each begins.
#[derive(Debug)]
pub(in crate::tsdb::block) struct Symbols {
    content: Vec<u8>,
    starts: Vec<u32>,
    /// In version 1 symbols are named by their offset in the file: this is the one of the content.
    base: Option<u64>,
}

const PART: &str = "the symbol table of the index";

impl Symbols {
    /// Reads the content of the section that begins at `offset`.
    pub(super) fn decode(content: Vec<u8>, offset: u64, version: u8) -> Result<Self, BlockError> {
        let malformed = |reason| BlockError::Malformed { part: PART, offset, reason };
        let mut cursor = Cursor::new(&content);
        let count = cursor.be32().ok_or(malformed("it has no count"))?;
        // A symbol is at least its length.
        if u64::from(count) > cursor.rest().len() as u64 {
            return Err(malformed("it promises more symbols than it has bytes"));
        }
        let mut starts = Vec::with_capacity(count as usize);
        for _ in 0..count {
            starts.push((content.len() - cursor.rest().len()) as u32);
            let text = cursor.text().ok_or(malformed("a symbol is cut off"))?;
            if std::str::from_utf8(text).is_err() {
                return Err(malformed("a symbol is not UTF-8"));
            }
        }
        let is_empty = cursor.is_empty();
        if !is_empty {
            return Err(malformed("bytes follow the last symbol"));
        }
        let base = (version == 1).then_some(offset + 4);
        Ok(Self { content, starts, base })
    }

    /// Returns the symbol that a series names so.
    pub(in crate::tsdb::block) fn get(&self, reference: u32) -> Option<&str> {
        match self.base {
            None => self.nth(reference as usize),
            Some(base) => {
                let start = u32::try_from(u64::from(reference).checked_sub(base)?).ok()?;
                self.nth(self.starts.binary_search(&start).ok()?)
            }
        }
    }

    fn nth(&self, ordinal: usize) -> Option<&str> {
        let start = *self.starts.get(ordinal)? as usize;
        let text = Cursor::new(&self.content[start..]).text()?;
        std::str::from_utf8(text).ok()
    }

    /// Returns how series name a symbol. Needs [`Self::is_sorted`].
    pub(in crate::tsdb::block) fn find(&self, text: &str) -> Option<u32> {
        let ordinals = 0..self.starts.len();
        let at = partition_point(ordinals, |i| self.nth(i).is_some_and(|symbol| symbol < text));
        if self.nth(at)? != text {
            return None;
        }
        match self.base {
            None => u32::try_from(at).ok(),
            Some(base) => u32::try_from(base + u64::from(self.starts[at])).ok(),
        }
    }

    /// Returns whether every symbol sorts after the one before.
    pub(in crate::tsdb::block) fn is_sorted(&self) -> bool {
        (1..self.starts.len()).all(|i| self.nth(i - 1) < self.nth(i))
    }
}

/// Returns the first number of a range for which the condition does not hold; it holds for all before.
fn partition_point(range: std::ops::Range<usize>, holds: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (range.start, range.end);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}
