//! Writes an index of version 2, front to back.
//!
//! Symbols stand before series but are known only after the last one, so series are held in a short form: ids of
//! their labels, and their chunks as they will stand in the file.

use std::io::Write;

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use super::super::BlockError;
use super::super::cursor::{Cursor, put_text, put_uvarint};
use super::series::put_chunks;
use super::{ChunkMeta, MAGIC, POSTINGS_ALIGN, SERIES_ALIGN, align_up};
use crate::model::Labels;

const VERSION: u8 = 2;

/// Collects series in order of labels and writes them.
#[derive(Debug, Default)]
pub struct IndexWriter {
    names: Names,
    /// Per series: number of labels, their ids, length of the rest, the rest.
    series: Vec<u8>,
    series_count: u32,
    last: Option<Labels>,
    last_reference: u64,
    chunk_bytes: Vec<u8>,
}

impl IndexWriter {
    /// Makes an empty index.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns how many series there are.
    #[must_use]
    pub fn series_count(&self) -> u32 {
        self.series_count
    }

    /// Adds the next series.
    ///
    /// # Errors
    /// Labels that do not sort after the last ones, or chunks that overlap or are out of order.
    pub fn add(&mut self, labels: &Labels, chunks: &[ChunkMeta]) -> Result<(), BlockError> {
        self.expect_order(labels, chunks)?;
        put_uvarint(&mut self.series, labels.encoded().count() as u64);
        for (i, encoded) in labels.encoded().enumerate() {
            let id = self.names.label(encoded, || labels.iter().nth(i).unwrap_or_default());
            put_uvarint(&mut self.series, u64::from(id));
        }
        self.chunk_bytes.clear();
        put_chunks(&mut self.chunk_bytes, chunks);
        put_text(&mut self.series, &self.chunk_bytes);
        self.series_count += 1;
        self.last = Some(labels.clone());
        Ok(())
    }

    fn expect_order(&mut self, labels: &Labels, chunks: &[ChunkMeta]) -> Result<(), BlockError> {
        if let Some(last) = self.last.as_ref().filter(|last| *last >= labels) {
            return Err(BlockError::SeriesOrder { labels: labels.to_string(), previous: last.to_string() });
        }
        let mut previous_ms = None;
        for chunk in chunks {
            let steps_back = previous_ms.filter(|previous| chunk.min_time_ms <= *previous);
            let ends_early = (chunk.max_time_ms < chunk.min_time_ms).then_some(chunk.max_time_ms);
            if let Some(previous_ms) = steps_back.or(ends_early) {
                let t_ms = chunk.min_time_ms;
                return Err(BlockError::SampleOrder { labels: labels.to_string(), t_ms, previous_ms });
            }
            previous_ms = Some(chunk.max_time_ms);
            if chunk.reference < self.last_reference {
                let (part, offset) = ("a chunk reference of the index", chunk.reference);
                let reason = "it lies before the last one: write chunks in the order of series";
                return Err(BlockError::Malformed { part, offset, reason });
            }
            self.last_reference = chunk.reference;
        }
        Ok(())
    }

    /// Writes the whole index.
    ///
    /// # Errors
    /// A failure to write, or more than the format can hold.
    pub fn finish<W: Write>(self, out: W) -> Result<(), BlockError> {
        let mut out = Output { inner: out, position: 0 };
        let mut toc = [0u64; 6];
        out.put(&MAGIC)?;
        out.put(&[VERSION])?;
        let order = self.names.order();
        toc[0] = out.position;
        out.put_section(&self.names.symbol_table(&order), "the symbol table of the index")?;
        toc[1] = align_up(out.position, SERIES_ALIGN);
        let postings = self.write_series(&order, &mut out)?;
        // No label indices: nothing reads them, and Prometheus 3 does not write them either.
        toc[2] = out.position;
        toc[4] = align_up(out.position, POSTINGS_ALIGN);
        let table = postings.write(&self.names, &order, &mut out)?;
        (toc[3], toc[5]) = (out.position, out.position);
        out.put_section(&table, "the postings offset table of the index")?;
        let mut bytes = Vec::with_capacity(52);
        for offset in toc {
            bytes.extend_from_slice(&offset.to_be_bytes());
        }
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_be_bytes());
        out.put(&bytes)?;
        out.inner.flush().map_err(BlockError::io("write the index"))
    }

    fn write_series<W: Write>(&self, order: &Order, out: &mut Output<W>) -> Result<Postings, BlockError> {
        let mut postings = Postings::new(&self.names, order, self.series_count);
        let mut series = Cursor::new(&self.series);
        let (mut content, mut entry) = (Vec::new(), Vec::new());
        for _ in 0..self.series_count {
            out.pad_to(SERIES_ALIGN)?;
            let reference = u32::try_from(out.position / SERIES_ALIGN).map_err(|_| BlockError::TooLarge {
                part: "the series section of the index",
                bytes: out.position,
                limit: u64::from(u32::MAX) * SERIES_ALIGN,
            })?;
            postings.all.push(reference);
            content.clear();
            let labels = series.uvarint().expect("written by add");
            put_uvarint(&mut content, labels);
            for _ in 0..labels {
                let label = series.uvarint().expect("written by add") as usize;
                put_uvarint(&mut content, u64::from(order.rank[self.names.labels[label].name as usize]));
                put_uvarint(&mut content, u64::from(order.rank[self.names.labels[label].value as usize]));
                postings.push(label, reference);
            }
            content.extend_from_slice(series.text().expect("written by add"));
            entry.clear();
            put_text(&mut entry, &content);
            entry.extend_from_slice(&crc32c::crc32c(&content).to_be_bytes());
            out.put(&entry)?;
        }
        Ok(postings)
    }
}

/// Symbols and labels, numbered as they come.
#[derive(Debug, Default)]
struct Names {
    text: Vec<u8>,
    symbols: Vec<(usize, usize)>,
    symbol_ids: HashTable<u32>,
    labels: Vec<Label>,
    /// Labels as they are encoded in memory: most of a series' labels are those of the one before.
    encoded: Vec<u8>,
    label_ids: HashTable<u32>,
}

/// A label that series have.
#[derive(Debug, Clone, Copy)]
struct Label {
    name: u32,
    value: u32,
    series: u32,
    /// Where its encoded form stands.
    encoded: (usize, usize),
}

/// How numbered things sort.
#[derive(Debug)]
struct Order {
    /// Symbols, sorted.
    symbols: Vec<u32>,
    /// Per symbol its ordinal in the file.
    rank: Vec<u32>,
    /// Labels, sorted by name and value.
    labels: Vec<u32>,
}

impl Names {
    fn symbol(&self, id: u32) -> &[u8] {
        let (start, end) = self.symbols[id as usize];
        &self.text[start..end]
    }

    /// Returns the id of a label and counts one more series with it.
    fn label<'a>(&mut self, encoded: &[u8], decode: impl FnOnce() -> (&'a str, &'a str)) -> u32 {
        let hash = xxh3_64(encoded);
        let encoded_of = |label: &Label| label.encoded.0..label.encoded.1;
        let same = |id: &u32| &self.encoded[encoded_of(&self.labels[*id as usize])] == encoded;
        if let Some(id) = self.label_ids.find(hash, same).copied() {
            self.labels[id as usize].series += 1;
            return id;
        }
        let (name, value) = decode();
        let (name, value) = (self.intern(name.as_bytes()), self.intern(value.as_bytes()));
        let (id, start) = (self.labels.len() as u32, self.encoded.len());
        self.encoded.extend_from_slice(encoded);
        self.labels.push(Label { name, value, series: 1, encoded: (start, self.encoded.len()) });
        let Self { encoded, labels, label_ids, .. } = self;
        label_ids.insert_unique(hash, id, |id| xxh3_64(&encoded[encoded_of(&labels[*id as usize])]));
        id
    }

    fn intern(&mut self, text: &[u8]) -> u32 {
        let hash = xxh3_64(text);
        if let Some(id) = self.symbol_ids.find(hash, |id| self.symbol(*id) == text) {
            return *id;
        }
        let id = self.symbols.len() as u32;
        let start = self.text.len();
        self.text.extend_from_slice(text);
        self.symbols.push((start, self.text.len()));
        let Self { text, symbols, symbol_ids, .. } = self;
        symbol_ids.insert_unique(hash, id, |id| {
            let (start, end) = symbols[*id as usize];
            xxh3_64(&text[start..end])
        });
        id
    }

    fn order(&self) -> Order {
        let mut symbols: Vec<u32> = (0..self.symbols.len() as u32).collect();
        symbols.sort_unstable_by(|a, b| self.symbol(*a).cmp(self.symbol(*b)));
        let mut rank = vec![0; symbols.len()];
        for (ordinal, id) in symbols.iter().enumerate() {
            rank[*id as usize] = ordinal as u32;
        }
        let mut labels: Vec<u32> = (0..self.labels.len() as u32).collect();
        labels.sort_unstable_by_key(|id| {
            let label = &self.labels[*id as usize];
            (rank[label.name as usize], rank[label.value as usize])
        });
        Order { symbols, rank, labels }
    }

    fn symbol_table(&self, order: &Order) -> Vec<u8> {
        let mut table = Vec::with_capacity(self.text.len() + 2 * self.symbols.len() + 4);
        table.extend_from_slice(&(order.symbols.len() as u32).to_be_bytes());
        for id in &order.symbols {
            put_text(&mut table, self.symbol(*id));
        }
        table
    }
}

/// All postings in one list, label after label in the order of the file.
#[derive(Debug)]
struct Postings {
    all: Vec<u32>,
    references: Vec<u32>,
    /// Per label where its next reference goes.
    next: Vec<usize>,
}

impl Postings {
    fn new(names: &Names, order: &Order, series: u32) -> Self {
        let mut next = vec![0; names.labels.len()];
        let mut total = 0;
        for id in &order.labels {
            next[*id as usize] = total;
            total += names.labels[*id as usize].series as usize;
        }
        Self { all: Vec::with_capacity(series as usize), references: vec![0; total], next }
    }

    fn push(&mut self, label: usize, reference: u32) {
        self.references[self.next[label]] = reference;
        self.next[label] += 1;
    }

    /// Writes the postings and returns the table that says where they are.
    fn write<W: Write>(
        &self,
        names: &Names,
        order: &Order,
        out: &mut Output<W>,
    ) -> Result<Vec<u8>, BlockError> {
        let mut table = Vec::new();
        table.extend_from_slice(&(order.labels.len() as u32 + 1).to_be_bytes());
        let mut content = Vec::new();
        let mut put = |name: &[u8], value: &[u8], references: &[u32], out: &mut Output<W>| {
            out.pad_to(POSTINGS_ALIGN)?;
            put_uvarint(&mut table, 2);
            put_text(&mut table, name);
            put_text(&mut table, value);
            put_uvarint(&mut table, out.position);
            content.clear();
            content.extend_from_slice(&(references.len() as u32).to_be_bytes());
            content.extend(references.iter().flat_map(|reference| reference.to_be_bytes()));
            out.put_section(&content, "postings of the index")
        };
        put(b"", b"", &self.all, out)?;
        let mut start = 0;
        for id in &order.labels {
            let label = &names.labels[*id as usize];
            let end = start + label.series as usize;
            put(names.symbol(label.name), names.symbol(label.value), &self.references[start..end], out)?;
            start = end;
        }
        Ok(table)
    }
}

/// Counts what is written.
#[derive(Debug)]
struct Output<W> {
    inner: W,
    position: u64,
}

impl<W: Write> Output<W> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), BlockError> {
        self.inner.write_all(bytes).map_err(BlockError::io("write the index"))?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    fn pad_to(&mut self, to: u64) -> Result<(), BlockError> {
        let bytes = align_up(self.position, to) - self.position;
        self.put(&[0; SERIES_ALIGN as usize][..bytes as usize])
    }

    fn put_section(&mut self, content: &[u8], part: &'static str) -> Result<(), BlockError> {
        let (bytes, limit) = (content.len() as u64, u64::from(u32::MAX));
        let length = u32::try_from(bytes).map_err(|_| BlockError::TooLarge { part, bytes, limit })?;
        self.put(&length.to_be_bytes())?;
        self.put(content)?;
        self.put(&crc32c::crc32c(content).to_be_bytes())
    }
}
