//! A made-up archive: what an archiver would have written, and when each record really came.

use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::memory::InMemory;

use crate::archive::{
    Archive, Base, ChainEnd, CheckpointEntry, ENTRY_FORMAT, Entry, Fork, ForkReason, LogPosition,
    PieceBuilder, PieceEntry, Position, Sha256Hash, Stamp, compress,
};
use crate::bucket::{Bucket, LogKind};
use crate::envelope::Envelope;
use crate::model::{SourceName, Ulid};
use crate::runtime::{Random, random_from_seed};
use crate::tsdb::wal::{FloatSample, Record, summarize};

/// A record that was written to the made-up log.
#[derive(Debug, Clone, Copy)]
pub(in crate::archive) struct Written {
    pub(in crate::archive) at_ms: i64,
    pub(in crate::archive) position: Position,
}

pub(in crate::archive) struct Rig {
    pub(in crate::archive) archive: Archive,
    pub(in crate::archive) random: Random,
    pub(in crate::archive) now_ms: i64,
    pub(in crate::archive) written: Vec<Written>,
    end: ChainEnd,
    timeline: u32,
    /// Where the next record begins.
    wal: LogPosition,
    /// Where the last one ended.
    read: LogPosition,
    first_segment: u32,
    checkpoint: Option<CheckpointEntry>,
    fork: Option<Fork>,
}

pub(in crate::archive) const POLL_MS: i64 = 50;

impl Rig {
    pub(in crate::archive) fn new(seed: u64, now_ms: i64) -> Self {
        Self::sealed(seed, now_ms, Envelope::none())
    }

    pub(in crate::archive) fn sealed(seed: u64, now_ms: i64, envelope: Envelope) -> Self {
        let bucket = Bucket::from_store(Arc::new(InMemory::new()));
        let archive = Archive::new(bucket, envelope, SourceName::new("prom-a").unwrap());
        let noticed = Stamp { wall_ms: now_ms, monotonic_ms: 0 };
        let fork = Fork { parent: None, at: None, reason: ForkReason::Start, noticed, detail: String::new() };
        Self {
            archive,
            random: random_from_seed(seed),
            now_ms,
            written: Vec::new(),
            end: ChainEnd::default(),
            timeline: 1,
            wal: LogPosition::default(),
            read: LogPosition::default(),
            first_segment: 0,
            checkpoint: None,
            fork: Some(fork),
        }
    }

    pub(in crate::archive) fn below(&self, n: u64) -> u64 {
        self.random.next_u64() % n
    }

    fn position(&self) -> Position {
        Position { timeline: self.timeline, wal: self.read, wbl: None }
    }

    fn stamp(&self) -> Stamp {
        Stamp { wall_ms: self.now_ms, monotonic_ms: self.now_ms }
    }

    /// Lets records come for about a second and appends an entry with them.
    pub(in crate::archive) async fn flush(&mut self, with_base: bool) {
        let mut builder = PieceBuilder::new(self.timeline, LogKind::Wal, self.wal, self.now_ms);
        let (mut times, follows) = (None, self.read);
        // The server has begun a segment, as it does when it cuts a block, and written nothing into it yet.
        let just_begun = with_base.then(|| self.base_in(self.wal));
        for _ in 0..self.below(8) + 1 {
            let looked_ms = self.now_ms;
            for _ in 0..self.below(3) {
                let at_ms = looked_ms + 1 + i64::try_from(self.below(POLL_MS as u64 - 1)).unwrap();
                let ts_ms = at_ms - i64::try_from(self.below(3)).unwrap();
                let sample = FloatSample { reference: self.below(9), ts_ms, value_bits: 1, start_ms: 0 };
                let mut record = Vec::new();
                Record::Samples(vec![sample]).encode(&mut record);
                self.wal.offset += 7 + record.len() as u64;
                self.read = self.wal;
                builder.push(self.wal.offset, &record);
                self.written.push(Written { at_ms, position: self.position() });
                times = Some(times.map_or((ts_ms, ts_ms), |(a, b): (i64, i64)| (a.min(ts_ms), b.max(ts_ms))));
            }
            self.now_ms += POLL_MS;
            builder.mark(self.now_ms);
        }
        let mut entry = self.entry();
        if !builder.is_empty() {
            entry.pieces.push(self.put(builder, follows, times).await);
        }
        entry.base = if self.below(2) == 0 { just_begun } else { with_base.then(|| self.base()) };
        self.append(entry).await;
    }

    /// Appends an entry that says nothing new.
    pub(in crate::archive) async fn heartbeat(&mut self) {
        self.now_ms += 10_000;
        let entry = self.entry();
        self.append(entry).await;
    }

    pub(in crate::archive) fn next_segment(&mut self) {
        self.wal = LogPosition { segment: self.wal.segment + 1, offset: 0 };
    }

    /// Drops two thirds of the segments, as the server does after it has cut a block.
    pub(in crate::archive) fn checkpoint(&mut self) {
        let number = self.first_segment + (self.wal.segment.saturating_sub(self.first_segment)) * 2 / 3;
        if number > self.first_segment {
            self.first_segment = number + 1;
            self.checkpoint = Some(CheckpointEntry { timeline: self.timeline, number, files: Vec::new() });
        }
    }

    /// The server starts again; with `lost` it has lost the records since the last but so many.
    pub(in crate::archive) fn restart(&mut self, lost: usize) {
        let same = self.written.iter().rev().filter(|w| w.position.wal.segment == self.wal.segment);
        let at = same.skip(lost).map(|w| w.position).find(|p| p.timeline == self.timeline);
        let repaired = lost > 0 && at.is_some();
        let at = at.filter(|_| lost > 0).unwrap_or_else(|| self.position());
        let reason = if repaired { ForkReason::Repair } else { ForkReason::Restart };
        let (parent, noticed, detail) = (Some(self.timeline), self.stamp(), String::new());
        self.fork = Some(Fork { parent, at: Some(at), reason, noticed, detail });
        self.timeline += 1;
        self.read = at.wal;
        self.wal = at.wal;
        self.next_segment();
    }

    pub(in crate::archive) fn base(&self) -> Base {
        self.base_in(self.read)
    }

    fn base_in(&self, wal: LogPosition) -> Base {
        Base {
            seen: self.stamp(),
            changed_ms: self.now_ms,
            position: Position { wal, ..self.position() },
            checkpoint: self.checkpoint.clone(),
            first_segment: self.first_segment,
            wbl_first_segment: None,
            blocks: Vec::new(),
        }
    }

    pub(in crate::archive) fn entry(&mut self) -> Entry {
        Entry {
            format: ENTRY_FORMAT,
            source: self.archive.source().clone(),
            seq: 0,
            previous_sha256: None,
            id: self.random.ulid(self.now_ms),
            archiver: Ulid::nil(),
            made: self.stamp(),
            position: self.position(),
            fork: self.fork.take(),
            pieces: Vec::new(),
            base: None,
            events: Vec::new(),
            server: None,
            digests: Vec::new(),
            unknown: serde_json::Map::new(),
        }
    }

    pub(in crate::archive) async fn append(&mut self, mut entry: Entry) {
        self.end = self.archive.append(self.end, &mut entry).await.unwrap();
    }

    pub(in crate::archive) async fn put(
        &self,
        builder: PieceBuilder,
        follows: LogPosition,
        times: Option<(i64, i64)>,
    ) -> PieceEntry {
        let header = builder.header().clone();
        let plain = builder.finish();
        let (mut counts, mut series_ref_max) = (BTreeMap::new(), 0);
        for record in crate::archive::Piece::decode(plain.clone()).unwrap().records() {
            let Ok(summary) = summarize(record.data) else { continue };
            *counts.entry(summary.kind.to_string()).or_default() += summary.count as u64;
            series_ref_max = series_ref_max.max(summary.reference_max.unwrap_or(0));
        }
        let mut piece = PieceEntry {
            id: self.random.ulid(self.now_ms),
            timeline: header.timeline,
            log: header.log,
            segment: header.segment,
            start: header.start,
            end: header.end,
            follows,
            after_ms: header.after_ms,
            seen: self.stamp(),
            sample_times_ms: times,
            series_ref_max,
            counts,
            plain_bytes: plain.len() as u64,
            plain_sha256: Sha256Hash::of(&plain),
            stored_bytes: 0,
            stored_sha256: Sha256Hash::of(&[]),
        };
        let key = piece.key(self.archive.source());
        let stored = self.archive.seal(&key.to_string(), compress(&plain, 1).into(), &self.random).unwrap();
        piece.stored_bytes = stored.len() as u64;
        piece.stored_sha256 = Sha256Hash::of(&stored);
        self.archive.bucket().create(&key, stored).await.unwrap();
        piece
    }

    /// Lives for so many flushes, with checkpoints, segments, restarts and repairs at random.
    pub(in crate::archive) async fn live(&mut self, flushes: usize) {
        for i in 0..flushes {
            match self.below(24) {
                0 => self.restart(0),
                1 => self.restart(usize::try_from(self.below(4)).unwrap() + 1),
                2..6 => self.next_segment(),
                6..8 => self.checkpoint(),
                8 => self.heartbeat().await,
                _ => {}
            }
            let forked = self.fork.is_some();
            let with_base = i == 0 || forked || self.below(6) == 0;
            self.flush(with_base).await;
        }
        self.heartbeat().await;
    }

    /// Returns the records that the server had at a time: the last one that counts, and the first that may not.
    pub(in crate::archive) fn known_at(&self, at_ms: i64) -> Option<Position> {
        self.written.iter().rev().find(|w| w.at_ms <= at_ms).map(|w| w.position)
    }
}
