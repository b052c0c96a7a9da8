//! The index of a block under check.

use hashbrown::HashMap;

use super::super::files::{BlockFile, ReadAt};
use super::super::index::{
    HEADER_BYTES, IndexReader, IndexWindow, POSTINGS_ALIGN, RawSeries, TOC_BYTES, align_up, read_section,
};
use super::super::{BlockError, ChunkMeta};
use super::CheckReport;
use super::chunks::ChunkCheck;

const FILE: BlockFile = BlockFile::Index;

/// The references of a posting list, folded: equal lists have equal folds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Fold {
    count: u64,
    hash: u64,
}

impl Fold {
    fn push(&mut self, reference: u32) {
        self.count += 1;
        self.hash = (self.hash ^ u64::from(reference)).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
    }
}

/// What is gathered on the way over the series.
#[derive(Debug)]
pub(super) struct IndexCheck<'a, R> {
    index: &'a IndexReader<&'a R>,
    source: &'a R,
    references: Vec<u32>,
    /// Per label, by its symbols, the series that have it.
    labels: HashMap<(u32, u32), Fold>,
    previous: Vec<(u32, u32)>,
}

impl<'a, R: ReadAt> IndexCheck<'a, R> {
    pub(super) fn new(index: &'a IndexReader<&'a R>, source: &'a R) -> Self {
        Self { index, source, references: Vec::new(), labels: HashMap::new(), previous: Vec::new() }
    }

    pub(super) fn has_series(&self, reference: u64) -> bool {
        u32::try_from(reference).is_ok_and(|reference| self.references.binary_search(&reference).is_ok())
    }

    pub(super) fn run(&mut self, chunks: &mut ChunkCheck<'_, R>, report: &mut CheckReport) {
        let toc = *self.index.toc();
        if self.index.version() == 3 {
            let what = "the index has version 3: no Prometheus writes it, and none before 2.55 reads it";
            report.add(FILE, 4, what);
        }
        if !self.index.symbols().is_sorted() {
            report.add(FILE, toc.symbols, "the symbols are not sorted");
        }
        if !self.index.table().is_sorted && self.index.version() > 1 {
            report.add(FILE, toc.postings_table, "the postings offset table is not sorted");
        }
        self.check_series(chunks, report);
        self.check_postings(report);
        if self.index.version() > 1 {
            self.check_places(report);
        }
    }

    fn check_series(&mut self, chunks: &mut ChunkCheck<'_, R>, report: &mut CheckReport) {
        let mut window = self.index.window();
        // The list of all series leads past an entry whose length is damaged.
        let offset = self.index.table().iter().find(|(name, value, _)| name.is_empty() && value.is_empty());
        let listed = match offset.map(|(_, _, offset)| self.index.postings_at(&mut window, offset)) {
            Some(Ok(listed)) => listed,
            Some(Err(_)) => Vec::new(),
            None => {
                report.add(FILE, self.index.toc().postings_table, "the list of all series is missing");
                Vec::new()
            }
        };
        let align = self.index.series_align();
        let mut raw = RawSeries::default();
        let mut next = align_up(self.index.toc().series, align);
        while next < self.index.series_end() {
            let taken = self.index.series_content(&mut window, next).and_then(|(content, end)| {
                raw.decode(content, next)?;
                Ok(end)
            });
            match taken {
                Ok(end) => {
                    self.take_series(next, &raw, chunks, report);
                    let following = align_up(end, align);
                    self.expect_zeros(&mut window, end..following.min(self.index.series_end()), report);
                    next = following;
                }
                Err(error) => {
                    report.add_error(FILE, &error);
                    let after = listed.partition_point(|reference| u64::from(*reference) * align <= next);
                    next = listed.get(after).map_or(u64::MAX, |reference| u64::from(*reference) * align);
                }
            }
        }
    }

    fn take_series(
        &mut self,
        offset: u64,
        raw: &RawSeries,
        chunks: &mut ChunkCheck<'_, R>,
        report: &mut CheckReport,
    ) {
        report.series += 1;
        if let Some(what) = self.flaw_of_labels(&raw.symbols) {
            report.add(FILE, offset, what);
        }
        self.previous.clone_from(&raw.symbols);
        let Ok(reference) = u32::try_from(offset / self.index.series_align()) else {
            report.add(FILE, offset, "the series stands beyond what a reference can name");
            return;
        };
        self.references.push(reference);
        for label in &raw.symbols {
            self.labels.entry(*label).or_default().push(reference);
        }
        let overlap = |pair: &[ChunkMeta]| pair[1].min_time_ms <= pair[0].max_time_ms;
        if raw.chunks.windows(2).any(overlap) {
            report.add(FILE, offset, "chunks of the series overlap");
        }
        if raw.chunks.is_empty() {
            report.add(FILE, offset, "the series has no chunks");
        }
        for chunk in &raw.chunks {
            chunks.check(offset, chunk, report);
        }
    }

    fn flaw_of_labels(&self, labels: &[(u32, u32)]) -> Option<&'static str> {
        let symbols = self.index.symbols();
        if labels.iter().any(|(name, value)| symbols.get(*name).is_none() || symbols.get(*value).is_none()) {
            return Some("the series names a symbol that is not there");
        }
        // Symbols are sorted, so their numbers compare as they do.
        if !labels.is_sorted_by(|(a, _), (b, _)| a < b) {
            return Some("the labels of the series are not sorted by name");
        }
        let is_void =
            |(name, value): &(u32, u32)| symbols.get(*name) == Some("") || symbols.get(*value) == Some("");
        if labels.is_empty() || labels.iter().any(is_void) {
            return Some("the series has no labels or an empty one");
        }
        (labels <= self.previous.as_slice()).then_some("the series does not sort after the one before")
    }

    /// Compares every list of postings with the series.
    fn check_postings(&self, report: &mut CheckReport) {
        let table_at = self.index.toc().postings_table;
        let mut all = Fold::default();
        self.references.iter().for_each(|reference| all.push(*reference));
        let mut window = self.index.window();
        let mut found = 0;
        for (name, value, offset) in self.index.table().iter() {
            let references = match self.index.postings_at(&mut window, offset) {
                Ok(references) => references,
                Err(error) => {
                    report.add_error(FILE, &error);
                    found += 1;
                    continue;
                }
            };
            let mut fold = Fold::default();
            references.iter().for_each(|reference| fold.push(*reference));
            let symbols = self.index.symbols();
            let is_all = name.is_empty() && value.is_empty();
            let label = symbols.find(name).zip(symbols.find(value));
            let expected = if is_all { Some(&all) } else { label.and_then(|label| self.labels.get(&label)) };
            if expected != Some(&fold) {
                let what = format!("the postings of {name}={value:?} are not the series with that label");
                report.add(FILE, offset, what);
            }
            found += usize::from(!is_all && expected.is_some());
        }
        if found < self.labels.len() {
            let missing = self.labels.len() - found;
            report.add(FILE, table_at, format!("{missing} labels of series have no postings"));
        }
    }

    /// Walks over every section from the header to the table of contents: nothing may lie between them but zeros.
    fn check_places(&self, report: &mut CheckReport) {
        let toc = self.index.toc();
        let toc_at = self.source.len() - TOC_BYTES;
        if toc.symbols != HEADER_BYTES {
            report.add(FILE, toc.symbols, "the symbol table does not follow the header");
        }
        let mut window = self.index.window();
        if let Ok((_, end)) = read_section(&mut window, toc.symbols, "the symbol table of the index") {
            let first = align_up(end, self.index.series_align());
            if toc.series != end && toc.series != first {
                report.add(FILE, toc.series, "the series section does not follow the symbol table");
            }
            self.expect_zeros(&mut window, end..first.min(self.index.series_end()), report);
        }
        let mut postings = Vec::new();
        self.walk_sections(&mut window, self.index.series_end()..toc_at, &mut postings, report);
        if !postings.contains(&toc.postings_table) {
            report.add(FILE, toc.postings_table, "the postings offset table is not where sections are");
        }
    }

    /// Reads sections one after the other, each at a multiple of 4 or right behind the one before.
    fn walk_sections(
        &self,
        window: &mut IndexWindow<'_, &'a R>,
        range: std::ops::Range<u64>,
        places: &mut Vec<u64>,
        report: &mut CheckReport,
    ) {
        let mut next = range.start;
        while next < range.end {
            let toc = self.index.toc();
            // The tables are not aligned; lists of postings and label indices are.
            let is_table = next == toc.postings_table || next == toc.label_indices_table;
            let start = if is_table { next } else { align_up(next, POSTINGS_ALIGN).min(range.end) };
            self.expect_zeros(window, next..start, report);
            if start == range.end {
                return;
            }
            places.push(start);
            match read_section(window, start, "a section of the index") {
                Ok((_, end)) => next = end,
                Err(error) => {
                    report.add_error(FILE, &error);
                    return;
                }
            }
        }
    }

    fn expect_zeros(
        &self,
        window: &mut IndexWindow<'_, &'a R>,
        range: std::ops::Range<u64>,
        report: &mut CheckReport,
    ) {
        if range.is_empty() {
            return;
        }
        let offset = range.start;
        match window.get(range) {
            Ok(bytes) if bytes.iter().all(|byte| *byte == 0) => {}
            Ok(_) => report.add(FILE, offset, "the padding is not zero"),
            Err(source) => {
                let error = BlockError::Io { doing: "read the index".to_owned(), source };
                report.add_error(FILE, &error);
            }
        }
    }
}
