//! How far the logs were written, look by look, as long as it is not read.

use std::collections::VecDeque;

use crate::archive::{LogPosition, Stamp};

/// Looks closer together than this are one.
const APART_MS: i64 = 50;

/// So many are remembered; beyond that every second one is forgotten.
const SIGHTINGS_MAX: usize = 1 << 16;

/// What one look found, and those after it until something was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sighting {
    /// The first look that found this.
    pub(super) first: Stamp,
    /// The last look that found no more.
    pub(super) until: Stamp,
    pub(super) wal: LogPosition,
    pub(super) wbl: Option<LogPosition>,
    /// How often the wall clock had been set before.
    pub(super) epoch: u32,
}

/// Sightings that are not read yet, in order.
#[derive(Debug)]
pub(super) struct Sightings {
    waiting: VecDeque<Sighting>,
    /// The last one that was read.
    read: Option<Sighting>,
    apart_ms: i64,
    epoch: u32,
}

impl Sightings {
    pub(super) fn new() -> Self {
        Self { waiting: VecDeque::new(), read: None, apart_ms: APART_MS, epoch: 0 }
    }

    /// Notes a look.
    pub(super) fn note(&mut self, now: Stamp, wal: LogPosition, wbl: Option<LogPosition>) {
        let before = self.waiting.len().checked_sub(2).map(|i| self.waiting[i].first);
        let epoch = self.epoch;
        let last = self.waiting.back_mut().or(self.read.as_mut());
        if let Some(last) = last.filter(|last| (last.wal, last.wbl, last.epoch) == (wal, wbl, epoch)) {
            last.until = now;
            return;
        }
        let new = Sighting { first: now, until: now, wal, wbl, epoch };
        let apart_ms = self.apart_ms;
        let close = |before: Stamp| now.monotonic_ms.saturating_sub(before.monotonic_ms) < apart_ms;
        match self.waiting.back_mut() {
            Some(last) if before.is_some_and(close) && last.epoch == epoch => *last = new,
            _ => self.waiting.push_back(new),
        }
        if self.waiting.len() > SIGHTINGS_MAX {
            let mut odd = false;
            self.waiting.retain(|_| {
                odd = !odd;
                !odd
            });
            self.apart_ms = self.apart_ms.saturating_mul(2);
        }
    }

    pub(super) fn next(&self) -> Option<Sighting> {
        self.waiting.front().copied()
    }

    /// Returns the newest sighting, read or not.
    pub(super) fn newest(&self) -> Option<Sighting> {
        self.waiting.back().or(self.read.as_ref()).copied()
    }

    pub(super) fn is_read(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Notes that the next one was read.
    pub(super) fn done(&mut self) {
        if let Some(read) = self.waiting.pop_front() {
            self.read = Some(read);
        }
        if self.waiting.is_empty() {
            self.apart_ms = APART_MS;
        }
    }

    /// Forgets where the logs stood: they are no longer what they were.
    pub(super) fn clear(&mut self) {
        *self = Self { epoch: self.epoch, ..Self::new() };
    }

    /// Notes that the wall clock was set: what comes was seen by another one. Returns how often that was.
    pub(super) fn clock_was_set(&mut self) -> u32 {
        self.epoch = self.epoch.saturating_add(1);
        self.epoch
    }

    /// Returns until when the logs stood where they were read to.
    pub(super) fn read_until(&self) -> Option<Stamp> {
        self.read.map(|read| read.until)
    }
}
