//! Reads an index of any version: symbols and offset table into memory, the rest where it stands.

use super::super::BlockError;
use super::super::cursor::Cursor;
use super::super::files::{ReadAt, Window};
use super::series::{RawSeries, SeriesEntry};
use super::symbols::Symbols;
use super::table::PostingsTable;
use super::{HEADER_BYTES, MAGIC, SERIES_ALIGN, TOC_BYTES, align_up, read_section};
use crate::model::Matcher;

/// How much is read at once where series or postings are read one after the other.
const AHEAD_BYTES: u64 = 1 << 20;
/// How much is read at once for one series.
const ENTRY_BYTES: u64 = 4 << 10;

/// Where the sections of an index begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::tsdb::block) struct Toc {
    pub(in crate::tsdb::block) symbols: u64,
    pub(in crate::tsdb::block) series: u64,
    pub(in crate::tsdb::block) label_indices: u64,
    pub(in crate::tsdb::block) label_indices_table: u64,
    pub(in crate::tsdb::block) postings: u64,
    pub(in crate::tsdb::block) postings_table: u64,
}

impl Toc {
    fn decode(bytes: &[u8], offset: u64) -> Result<Self, BlockError> {
        const PART: &str = "the table of contents of the index";
        let (content, crc) =
            bytes.split_last_chunk::<4>().ok_or(BlockError::CutOff { part: PART, offset })?;
        if crc32c::crc32c(content) != u32::from_be_bytes(*crc) {
            return Err(BlockError::Checksum { part: PART, offset });
        }
        let mut cursor = Cursor::new(content);
        let mut next = || cursor.be64().filter(|at| *at <= offset);
        let toc = (|| {
            Some(Self {
                symbols: next()?,
                series: next()?,
                label_indices: next()?,
                label_indices_table: next()?,
                postings: next()?,
                postings_table: next()?,
            })
        })();
        toc.ok_or(BlockError::Malformed { part: PART, offset, reason: "a section begins after its end" })
    }
}

/// An index, opened.
#[derive(Debug)]
pub struct IndexReader<R> {
    source: R,
    version: u8,
    toc: Toc,
    symbols: Symbols,
    table: PostingsTable,
}

/// A reader's window over the index's bytes.
pub(in crate::tsdb::block) type IndexWindow<'a, R> = Window<'a, R>;

impl<R: ReadAt> IndexReader<R> {
    /// Opens an index of version 1, 2 or 3: reads and verifies table of contents, symbols and offset table.
    ///
    /// # Errors
    /// A failure to read, another version, or damage in what is read.
    pub fn open(source: R) -> Result<Self, BlockError> {
        let len = source.len();
        if len < HEADER_BYTES + TOC_BYTES {
            return Err(BlockError::CutOff { part: "the index", offset: len });
        }
        let header = source.read_at(0..HEADER_BYTES).map_err(BlockError::io("read the index"))?;
        let version = header[4];
        if header[..4] != MAGIC || !matches!(version, 1..=3) {
            let found = header.iter().map(|byte| format!("{byte:02x}")).collect();
            let expected = "baaad70001 to baaad70003, an index of version 1 to 3";
            return Err(BlockError::Header { file: "index", found, expected });
        }
        drop(header);
        let toc_at = len - TOC_BYTES;
        let toc = source.read_at(toc_at..len).map_err(BlockError::io("read the index"))?;
        let toc = Toc::decode(&toc, toc_at)?;
        let mut window = Window::new(&source, 0);
        let (content, _) = read_section(&mut window, toc.symbols, "the symbol table of the index")?;
        let symbols = Symbols::decode(content.to_vec(), toc.symbols, version)?;
        let (content, _) =
            read_section(&mut window, toc.postings_table, "the postings offset table of the index")?;
        let table = PostingsTable::decode(content.to_vec(), toc.postings_table)?;
        Ok(Self { source, version, toc, symbols, table })
    }

    /// Returns the version of the format, 1 to 3.
    #[must_use]
    pub fn version(&self) -> u8 {
        self.version
    }

    pub(in crate::tsdb::block) fn toc(&self) -> &Toc {
        &self.toc
    }

    pub(in crate::tsdb::block) fn symbols(&self) -> &Symbols {
        &self.symbols
    }

    pub(in crate::tsdb::block) fn table(&self) -> &PostingsTable {
        &self.table
    }

    pub(in crate::tsdb::block) fn window(&self) -> IndexWindow<'_, R> {
        Window::new(&self.source, AHEAD_BYTES)
    }

    pub(in crate::tsdb::block) fn series_align(&self) -> u64 {
        if self.version == 1 { 1 } else { SERIES_ALIGN }
    }

    /// Returns where the series section ends: label indices follow, which later versions leave empty.
    pub(in crate::tsdb::block) fn series_end(&self) -> u64 {
        let after = [self.toc.label_indices, self.toc.postings, self.toc.postings_table];
        after.into_iter().filter(|at| *at >= self.toc.series).min().unwrap_or(self.toc.series)
    }

    /// Reads the entry at a place and verifies its checksum; returns its content and where the entry ends.
    pub(in crate::tsdb::block) fn series_content<'w>(
        &self,
        window: &'w mut IndexWindow<'_, R>,
        offset: u64,
    ) -> Result<(&'w [u8], u64), BlockError> {
        const PART: &str = "a series of the index";
        let cut_off = || BlockError::CutOff { part: PART, offset };
        if offset < self.toc.series || offset >= self.series_end() {
            let reason = "it lies outside of the series section";
            return Err(BlockError::Malformed { part: PART, offset, reason });
        }
        let head = window.get_up_to(offset, 10).map_err(BlockError::io("read the index"))?;
        let mut cursor = Cursor::new(head);
        let length = cursor.uvarint().ok_or_else(cut_off)?;
        let start = offset + (head.len() - cursor.rest().len()) as u64;
        let end =
            length.checked_add(start + 4).filter(|end| *end <= self.series_end()).ok_or_else(cut_off)?;
        let bytes = window.get(start..end).map_err(BlockError::io("read the index"))?;
        match bytes.split_last_chunk::<4>() {
            Some((content, crc)) if crc32c::crc32c(content) == u32::from_be_bytes(*crc) => Ok((content, end)),
            _ => Err(BlockError::Checksum { part: PART, offset }),
        }
    }

    /// Reads the series that postings or tombstones name so.
    ///
    /// # Errors
    /// A failure to read, or damage.
    pub fn series_at(&self, reference: u32) -> Result<SeriesEntry, BlockError> {
        let offset = u64::from(reference) * self.series_align();
        let mut window = Window::new(&self.source, ENTRY_BYTES);
        let (content, _) = self.series_content(&mut window, offset)?;
        self.decode_entry(content, offset, &mut RawSeries::default(), &mut Vec::new())
    }

    fn decode_entry(
        &self,
        content: &[u8],
        offset: u64,
        raw: &mut RawSeries,
        buffer: &mut Vec<u8>,
    ) -> Result<SeriesEntry, BlockError> {
        raw.decode(content, offset)?;
        let labels = raw.labels(&self.symbols, offset, buffer)?;
        let reference = u32::try_from(offset / self.series_align()).map_err(|_| BlockError::Malformed {
            part: "a series of the index",
            offset,
            reason: "its place is beyond what a reference can name",
        })?;
        Ok(SeriesEntry { reference, labels, chunks: raw.chunks.clone() })
    }

    /// Iterates over all series, in order of labels.
    #[must_use]
    pub fn series(&self) -> SeriesIter<'_, R> {
        SeriesIter {
            index: self,
            window: self.window(),
            next: align_up(self.toc.series, self.series_align()),
            raw: RawSeries::default(),
            buffer: Vec::new(),
        }
    }

    /// Returns the references of the series with a label, ascending; those of all series for two empty texts.
    ///
    /// # Errors
    /// A failure to read, or damage.
    pub fn postings(&self, name: &str, value: &str) -> Result<Vec<u32>, BlockError> {
        match self.table.offset(name, value) {
            Some(offset) => self.postings_at(&mut Window::new(&self.source, 0), offset),
            None => Ok(Vec::new()),
        }
    }

    pub(in crate::tsdb::block) fn postings_at(
        &self,
        window: &mut IndexWindow<'_, R>,
        offset: u64,
    ) -> Result<Vec<u32>, BlockError> {
        const PART: &str = "postings of the index";
        let (content, _) = read_section(window, offset, PART)?;
        let malformed = |reason| BlockError::Malformed { part: PART, offset, reason };
        let (count, references) = content.split_first_chunk::<4>().ok_or(malformed("they have no count"))?;
        if u64::from(u32::from_be_bytes(*count)) * 4 != references.len() as u64 {
            return Err(malformed("their count does not go with their length"));
        }
        let references: Vec<u32> =
            references.as_chunks::<4>().0.iter().map(|bytes| u32::from_be_bytes(*bytes)).collect();
        if references.is_sorted_by(|a, b| a < b) {
            Ok(references)
        } else {
            Err(malformed("they do not ascend"))
        }
    }

    /// Iterates over the names of labels, in order.
    pub fn label_names(&self) -> impl Iterator<Item = &str> {
        self.table.names()
    }

    /// Iterates over the values of a label, in order.
    pub fn label_values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.table.values(name).map(|(value, _)| value)
    }

    /// Returns the references of the series that satisfy all matchers, ascending.
    ///
    /// # Errors
    /// A failure to read, or damage.
    pub fn series_matching(&self, matchers: &[Matcher]) -> Result<Vec<u32>, BlockError> {
        let mut found: Option<Vec<u32>> = None;
        for matcher in matchers {
            // Where the empty value satisfies it, series without the label do as well: take the others away.
            let includes_absent = matcher.matches("");
            let wanted = |value: &str| matcher.matches(value) != includes_absent;
            let listed = self.union_of(matcher.name(), wanted)?;
            let base = match found {
                Some(found) => found,
                None if includes_absent => self.postings("", "")?,
                None => {
                    found = Some(listed);
                    continue;
                }
            };
            found = Some(keep(base, &listed, !includes_absent));
        }
        match found {
            Some(found) => Ok(found),
            None => self.postings("", ""),
        }
    }

    fn union_of(&self, name: &str, wanted: impl Fn(&str) -> bool) -> Result<Vec<u32>, BlockError> {
        let mut window = self.window();
        let mut all = Vec::new();
        let mut lists = 0;
        for (_, offset) in self.table.values(name).filter(|(value, _)| wanted(value)) {
            all.append(&mut self.postings_at(&mut window, offset)?);
            lists += 1;
        }
        if lists > 1 {
            all.sort_unstable();
        }
        Ok(all)
    }
}

/// Keeps the references that are listed, or those that are not; both lists ascend.
fn keep(mut references: Vec<u32>, listed: &[u32], kept: bool) -> Vec<u32> {
    let mut rest = listed;
    references.retain(|reference| {
        let skipped = rest.partition_point(|other| other < reference);
        rest = &rest[skipped..];
        (rest.first() == Some(reference)) == kept
    });
    references
}

/// Iterates over the series of an index. After an error it is at its end.
#[derive(Debug)]
pub struct SeriesIter<'a, R> {
    index: &'a IndexReader<R>,
    window: IndexWindow<'a, R>,
    next: u64,
    raw: RawSeries,
    buffer: Vec<u8>,
}

impl<R: ReadAt> SeriesIter<'_, R> {
    fn take(&mut self) -> Result<SeriesEntry, BlockError> {
        let offset = self.next;
        let (content, end) = self.index.series_content(&mut self.window, offset)?;
        let entry = self.index.decode_entry(content, offset, &mut self.raw, &mut self.buffer)?;
        self.next = align_up(end, self.index.series_align());
        Ok(entry)
    }
}

impl<R: ReadAt> Iterator for SeriesIter<'_, R> {
    type Item = Result<SeriesEntry, BlockError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.index.series_end() {
            return None;
        }
        let entry = self.take();
        if entry.is_err() {
            self.next = u64::MAX;
        }
        Some(entry)
    }
}
