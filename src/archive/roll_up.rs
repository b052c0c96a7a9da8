//! Roll-up: many small entries and pieces become few large ones.
//!
//! A flush every second makes some 170,000 objects a day. Entries that have settled are copied into a chapter, and the
//! records of neighbouring pieces into larger ones that compress better. Nothing is deleted here: what the chapter
//! replaces is no longer named by the catalog as it is read, and retention collects it.
//!
//! **Crash consistency** Pieces are stored before the chapter that names them. Without the chapter they are objects that
//! nothing names.

use std::collections::BTreeMap;

use super::chain::{Archive, Link};
use super::entry::{Chapter, ENTRY_FORMAT, Entry, PieceEntry};
use super::piece::{PieceBuilder, compress};
use super::{ArchiveError, Sha256Hash};
use crate::bucket::Created;
use crate::model::ErrorKind;
use crate::runtime::{Cpu, Random, crash_point};

/// Pieces are rolled up to about this size before compression.
const PIECE_BYTES_TARGET: u64 = 32 << 20;

/// A rolled-up piece is read rarely and kept for long.
const ZSTD_LEVEL: i32 = 9;

/// When entries and chapters are rolled up.
#[derive(Debug, Clone, Copy)]
pub struct RollUpSettings {
    /// Entries younger than this stay as they are.
    pub settled_ms: i64,
    /// A chapter grows until its entries span this long.
    pub chapter_ms: i64,
}

impl Default for RollUpSettings {
    fn default() -> Self {
        Self { settled_ms: 10 * 60_000, chapter_ms: 24 * 3_600_000 }
    }
}

/// What a roll-up did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct RollUpReport {
    /// Chapters written.
    pub chapters: u64,
    /// Entries and chapters that they replace.
    pub replaced_links: u64,
    /// Pieces that were rolled up.
    pub replaced_pieces: u64,
    /// Pieces that took their place.
    pub pieces: u64,
    /// Size of the objects of the former.
    pub replaced_bytes: u64,
    /// Size of the objects of the latter.
    pub bytes: u64,
    /// Runs of pieces that stay as they are because one of them is damaged.
    pub damaged_groups: u64,
}

/// What a roll-up works with.
#[derive(Debug, Clone, Copy)]
pub struct RollUp<'a> {
    /// The archive.
    pub archive: &'a Archive,
    /// Compute threads.
    pub cpu: &'a Cpu,
    /// Ids.
    pub random: &'a Random,
    /// The time now.
    pub now_ms: i64,
}

impl RollUp<'_> {
    /// Rolls up what has settled.
    ///
    /// # Errors
    /// An archive that cannot be read, or the store's failure; what was written before counts.
    pub async fn run(&self, settings: RollUpSettings) -> Result<RollUpReport, ArchiveError> {
        let mut report = RollUpReport::default();
        let links = self.archive.links().await?;
        let settled = links.len().saturating_sub(1);
        let settled = links[..settled].partition_point(|l| made_ms(l).1 <= self.now_ms - settings.settled_ms);
        let mut rest = &links[..settled];
        while !rest.is_empty() {
            let began_ms = made_ms(&rest[0]).0;
            let run =
                rest.iter().take_while(|l| made_ms(l).1 - began_ms <= settings.chapter_ms).count().max(1);
            let (run, tail) = rest.split_at(run);
            rest = tail;
            if run.len() > 1 {
                self.chapter_of(run, &mut report).await?;
            }
        }
        Ok(report)
    }

    async fn chapter_of(&self, run: &[Link], report: &mut RollUpReport) -> Result<(), ArchiveError> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return Ok(()) };
        let mut entries = entries_of(run);
        let pieces = entries.iter_mut().flat_map(|entry| {
            let seq = entry.seq;
            std::mem::take(&mut entry.pieces).into_iter().map(move |piece| (seq, piece))
        });
        let mut placed: BTreeMap<u64, Vec<PieceEntry>> = BTreeMap::new();
        for group in groups(pieces.collect()) {
            for (seq, piece) in self.rolled_up(group, report).await? {
                placed.entry(seq).or_default().push(piece);
            }
        }
        for entry in &mut entries {
            entry.pieces = placed.remove(&entry.seq).unwrap_or_default();
        }
        let end = last.end();
        entries.retain(|entry| says_something(entry) || entry.seq == end.seq);
        let chapter = Chapter {
            format: ENTRY_FORMAT,
            source: self.archive.source().clone(),
            first_seq: first.begin().0,
            last_seq: end.seq,
            previous_sha256: first.begin().1,
            last_sha256: end.sha256.unwrap_or_else(|| Sha256Hash::of(&[])),
            id: self.random.ulid(self.now_ms),
            made: (made(first).0, made(last).1),
            entries,
        };
        crash_point("archive.before-chapter");
        self.archive.put_chapter(&chapter).await?;
        crash_point("archive.after-chapter");
        report.chapters += 1;
        report.replaced_links += run.len() as u64;
        Ok(())
    }

    /// Returns what takes the place of neighbouring pieces: one, or they themselves where one of them is damaged.
    async fn rolled_up(
        &self,
        group: Vec<(u64, PieceEntry)>,
        report: &mut RollUpReport,
    ) -> Result<Vec<(u64, PieceEntry)>, ArchiveError> {
        if group.len() == 1 {
            return Ok(group);
        }
        match self.merge(&group, report).await {
            Ok(merged) => Ok(vec![merged]),
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                let source = self.archive.source();
                tracing::warn!(%source, %error, "pieces stay as they are, one of them is damaged");
                report.damaged_groups += 1;
                Ok(group)
            }
            Err(error) => Err(error),
        }
    }

    /// Copies the records of neighbouring pieces into one.
    async fn merge(
        &self,
        group: &[(u64, PieceEntry)],
        report: &mut RollUpReport,
    ) -> Result<(u64, PieceEntry), ArchiveError> {
        let ((_, first), (seq, last)) = (&group[0], &group[group.len() - 1]);
        let mut builder =
            PieceBuilder::new(first.timeline, first.log, first.start_position(), first.after_ms);
        for (_, entry) in group {
            let piece = self.archive.read_piece(entry).await?;
            // The look before a piece is the last that found no more than the piece before it.
            if let Some(looked_ms) = entry.looked_before_ms() {
                builder.mark(looked_ms);
            }
            let mut marks = piece.header().marks.iter().peekable();
            for record in piece.records() {
                builder.push(record.end, record.data);
                while let Some(mark) = marks.next_if(|mark| mark.0 <= record.end) {
                    builder.mark(mark.1);
                }
            }
        }
        let plain = builder.finish();
        let mut merged = merged_entry(group, self.random.ulid(self.now_ms));
        (merged.plain_bytes, merged.plain_sha256) = (plain.len() as u64, Sha256Hash::of(&plain));
        let key = merged.key(self.archive.source());
        let (archive, random, name) = (self.archive.clone(), self.random.clone(), key.to_string());
        let sealed = self.cpu.run(move || archive.seal(&name, compress(&plain, ZSTD_LEVEL).into(), &random));
        let stored = sealed.await??;
        (merged.stored_bytes, merged.stored_sha256) = (stored.len() as u64, Sha256Hash::of(&stored));
        if let Created::Conflict(_) = self.archive.bucket().create(&key, stored).await? {
            let reason = "another object has its name".to_owned();
            return Err(ArchiveError::Damaged { key: key.to_string(), reason });
        }
        crash_point("archive.after-rolled-up-piece");
        merged.seen = last.seen;
        report.replaced_pieces += group.len() as u64;
        report.replaced_bytes += group.iter().map(|(_, entry)| entry.stored_bytes).sum::<u64>();
        report.pieces += 1;
        report.bytes += merged.stored_bytes;
        Ok((*seq, merged))
    }
}

/// Returns an entry for the records of a group; sizes and hashes are still those of its first piece.
fn merged_entry(group: &[(u64, PieceEntry)], id: crate::model::Ulid) -> PieceEntry {
    let mut merged = group[0].1.clone();
    merged.id = id;
    for (_, piece) in &group[1..] {
        merged.end = piece.end;
        merged.series_ref_max = merged.series_ref_max.max(piece.series_ref_max);
        merged.sample_times_ms = match (merged.sample_times_ms, piece.sample_times_ms) {
            (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
            (known, other) => known.or(other),
        };
        for (kind, count) in &piece.counts {
            *merged.counts.entry(kind.clone()).or_default() += count;
        }
    }
    merged
}

/// Splits pieces, in order, into runs of neighbours that fit into one.
fn groups(pieces: Vec<(u64, PieceEntry)>) -> Vec<Vec<(u64, PieceEntry)>> {
    let mut by_log: BTreeMap<_, Vec<(u64, PieceEntry)>> = BTreeMap::new();
    for (seq, piece) in pieces {
        by_log.entry((piece.timeline, piece.log)).or_default().push((seq, piece));
    }
    let mut groups: Vec<Vec<(u64, PieceEntry)>> = Vec::new();
    for pieces in by_log.into_values() {
        let mut size = u64::MAX;
        for (seq, piece) in pieces {
            let follows = groups.last().and_then(|g| g.last()).is_some_and(|(_, last)| {
                (last.timeline, last.log, last.segment, last.end)
                    == (piece.timeline, piece.log, piece.segment, piece.start)
            });
            if follows && size.saturating_add(piece.plain_bytes) <= PIECE_BYTES_TARGET {
                size += piece.plain_bytes;
                groups.last_mut().expect("a piece follows one in a group").push((seq, piece));
            } else {
                size = piece.plain_bytes;
                groups.push(vec![(seq, piece)]);
            }
        }
    }
    groups
}

/// Returns the entries of a run of links, in order.
pub(super) fn entries_of(run: &[Link]) -> Vec<Entry> {
    let mut entries = Vec::new();
    for link in run {
        match link {
            Link::Entry { entry, .. } => entries.push((**entry).clone()),
            Link::Chapter(chapter) => entries.extend(chapter.entries.iter().cloned()),
        }
    }
    entries
}

/// Returns whether an entry says more than where the log stands.
pub(super) fn says_something(entry: &Entry) -> bool {
    let Entry { fork, pieces, base, events, server, digests, .. } = entry;
    let lists = pieces.is_empty() && events.is_empty() && digests.is_empty();
    !lists || fork.is_some() || base.is_some() || server.is_some()
}

/// Returns when the first and the last entry of a link were made.
pub(super) fn made(link: &Link) -> (super::Stamp, super::Stamp) {
    match link {
        Link::Entry { entry, .. } => (entry.made, entry.made),
        Link::Chapter(chapter) => chapter.made,
    }
}

pub(super) fn made_ms(link: &Link) -> (i64, i64) {
    let (first, last) = made(link);
    (first.wall_ms, last.wall_ms)
}
