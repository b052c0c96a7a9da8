//! From the symbols of a request to series numbers: each symbol is looked up once a request, and a series by the
//! numbers of its symbols, so that its labels are neither put together nor compared.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

/// Bytes of a page of rows.
const PAGE_BYTES: usize = 1 << 20;
/// Rows begin at multiples of this.
const ROW_ALIGN: usize = 4;
/// A row: number of the series, number of bytes, then the numbers of its symbols.
const ROW_HEAD_BYTES: usize = 8;

/// Symbols and rows of symbols of one head. Empty until a request comes that refers to symbols.
#[derive(Debug, Default)]
pub(super) struct SymbolIndex {
    texts: Vec<Box<str>>,
    by_text: HashTable<(u32, u32)>,
    text_bytes: usize,
    /// Rows in pages, in the order of their coming.
    pages: Vec<Vec<u8>>,
    by_row: HashTable<(u32, u32)>,
}

/// Where the next row is expected.
#[derive(Debug, Clone, Copy, Default)]
pub struct RowCursor(u32);

/// Returns over how many places a row with so many bytes of symbols reaches.
fn places(symbol_bytes: usize) -> u32 {
    ((ROW_HEAD_BYTES + symbol_bytes) / ROW_ALIGN) as u32
}

/// A hash of which 32 bits are kept.
fn short(hash: u64) -> u32 {
    (hash ^ (hash >> 32)) as u32
}

/// Spreads the bits that were kept over those that a hash table looks at.
pub(super) fn spread(kept: u32) -> u64 {
    u64::from(kept).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Returns the 32 bits that are kept of the hash of some bytes.
pub(super) fn short_hash(bytes: &[u8]) -> u32 {
    short(xxh3_64(bytes))
}

impl SymbolIndex {
    /// Returns the number of a symbol.
    pub(super) fn symbol(&self, text: &str) -> Option<u32> {
        let kept = short_hash(text.as_bytes());
        let same = |entry: &(u32, u32)| entry.0 == kept && *self.texts[entry.1 as usize] == *text;
        self.by_text.find(spread(kept), same).map(|entry| entry.1)
    }

    fn find_or_insert_symbol(&mut self, text: &str) -> Option<u32> {
        if let Some(number) = self.symbol(text) {
            return Some(number);
        }
        let number = u32::try_from(self.texts.len()).ok().filter(|number| *number < u32::MAX)?;
        let kept = short_hash(text.as_bytes());
        self.by_text.insert_unique(spread(kept), (kept, number), |entry| spread(entry.0));
        self.texts.push(text.into());
        self.text_bytes += text.len();
        Some(number)
    }

    /// Returns the series whose symbols have these numbers, four bytes each. Senders repeat their series in the order in
    /// which they first sent them, and rows stand in that order: the row behind the one found last is tried first.
    #[inline]
    pub(super) fn series(&self, row: &[u8], cursor: &mut RowCursor) -> Option<u32> {
        if let Some((series, found)) = self.row(cursor.0)
            && found == row
        {
            cursor.0 += places(row.len());
            return Some(series);
        }
        let (series, place) = self.find(row)?;
        cursor.0 = place + places(row.len());
        Some(series)
    }

    /// Returns the series of a row, and where the row stands.
    fn find(&self, row: &[u8]) -> Option<(u32, u32)> {
        let kept = short_hash(row);
        let same =
            |entry: &(u32, u32)| entry.0 == kept && self.row(entry.1).is_some_and(|found| found.1 == row);
        let place = self.by_row.find(spread(kept), same)?.1;
        Some((self.row(place)?.0, place))
    }

    /// Remembers by which symbols a series was sent. Where numbers have run out it is not: it is found by its labels.
    pub(super) fn insert<'a>(&mut self, series: u32, symbols: impl Iterator<Item = &'a str>) {
        let mut row = Vec::with_capacity(128);
        for text in symbols {
            let Some(number) = self.find_or_insert_symbol(text) else { return };
            row.extend_from_slice(&number.to_le_bytes());
        }
        if self.find(&row).is_some() || row.len() + ROW_HEAD_BYTES > PAGE_BYTES {
            return;
        }
        let needed = row.len() + ROW_HEAD_BYTES;
        if self.pages.last().is_none_or(|page| page.len() + needed > PAGE_BYTES) {
            self.pages.push(Vec::with_capacity(if self.pages.is_empty() { needed } else { PAGE_BYTES }));
        }
        let pages = self.pages.len();
        let Some(page) = self.pages.last_mut() else { return };
        let Ok(place) = u32::try_from((pages - 1) * (PAGE_BYTES / ROW_ALIGN) + page.len() / ROW_ALIGN) else {
            return;
        };
        page.extend_from_slice(&series.to_le_bytes());
        page.extend_from_slice(&(row.len() as u32).to_le_bytes());
        page.extend_from_slice(&row);
        let kept = short_hash(&row);
        self.by_row.insert_unique(spread(kept), (kept, place), |entry| spread(entry.0));
    }

    /// Returns the series of a row and the numbers of its symbols.
    #[inline]
    fn row(&self, place: u32) -> Option<(u32, &[u8])> {
        let at = place as usize * ROW_ALIGN;
        let rest = self.pages.get(at / PAGE_BYTES)?.get(at % PAGE_BYTES..)?;
        let (series, rest) = rest.split_first_chunk::<4>()?;
        let (bytes, rest) = rest.split_first_chunk::<4>()?;
        Some((u32::from_le_bytes(*series), rest.get(..u32::from_le_bytes(*bytes) as usize)?))
    }

    /// Estimates the memory held, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let tables = (self.by_text.capacity() + self.by_row.capacity()) * 9;
        let pages: usize = self.pages.iter().map(Vec::capacity).sum();
        tables + pages + self.text_bytes + self.texts.capacity() * size_of::<Box<str>>()
    }
}
