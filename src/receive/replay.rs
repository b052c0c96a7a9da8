//! One segment of the log back into heads.
//!
//! Several compute threads share the work: each reads all of the segment and appends the samples of its own part of the
//! series. Reading costs a third of appending, and what a thread has just decoded is in its cache, as are the chunks
//! that it alone writes to; handing decoded samples from one thread to others took twice as long.

use std::collections::HashMap;
use std::sync::Arc;

use super::batch::Parts;
use crate::head::{Head, HeadPart, Heads};
use crate::log::{Entry, LogError, RecoveredSegment, SegmentReader, TenantEntry};
use crate::model::TenantId;

/// Numbers below this many times the declared ones are kept in a list, others in a map.
const SPARSENESS: usize = 64;
const LIST_ALWAYS: usize = 4_096;

/// A series that a segment has not declared.
const UNDECLARED: u32 = u32::MAX;

/// The head's number for each that a segment uses. A writer's numbers are dense, bytes could say anything.
#[derive(Debug, Default)]
struct Numbers {
    list: Vec<u32>,
    sparse: HashMap<u32, u32>,
    declared: usize,
}

impl Numbers {
    fn insert(&mut self, from: u32, to: u32) {
        self.declared += 1;
        let place = from as usize;
        if place >= SPARSENESS * self.declared + LIST_ALWAYS {
            self.sparse.insert(from, to);
            return;
        }
        if self.list.len() <= place {
            self.list.resize(place + 1, UNDECLARED);
        }
        self.list[place] = to;
    }

    /// Returns the head's number for one of the segment's.
    #[inline]
    fn get(&self, series: u32) -> Option<u32> {
        match self.list.get(series as usize) {
            Some(number) if *number != UNDECLARED => Some(*number),
            _ => self.sparse.get(&series).copied(),
        }
    }

    /// Puts the head's number in place of the segment's; returns whether there is one.
    fn renumber(&self, series: &mut u32) -> bool {
        self.get(*series).inspect(|number| *series = *number).is_some()
    }
}

/// The heads' numbers for the series that a segment, or a generation, has declared.
#[derive(Debug, Default)]
pub(super) struct SegmentSeries(HashMap<TenantId, (Arc<Head>, Numbers)>);

impl SegmentSeries {
    /// Learns what an entry declares.
    pub(super) fn declare(&mut self, entry: &TenantEntry, heads: &Heads) {
        self.known(entry, heads);
    }

    /// Appends an entry to the tenant's head.
    pub(super) fn append(&mut self, entry: TenantEntry, heads: &Heads) {
        self.append_part(entry, heads, HeadPart::WHOLE);
    }

    /// Appends a part of an entry's samples; the first part has everything else.
    fn append_part(&mut self, entry: TenantEntry, heads: &Heads, part: HeadPart) {
        let (head, numbers) = self.known(&entry, heads);
        // The decoder has checked that every number is declared.
        let samples = entry.samples.iter();
        let numbered = samples.filter_map(|logged| Some((numbers.get(logged.series)?, &logged.sample)));
        head.append_part(part, numbered);
        if part.is_first() {
            let TenantEntry { mut histograms, mut exemplars, metadata, .. } = entry;
            histograms.retain_mut(|logged| numbers.renumber(&mut logged.series));
            exemplars.retain_mut(|logged| numbers.renumber(&mut logged.series));
            Parts { samples: Vec::new(), histograms, exemplars, metadata }.append_others_to(head);
        }
    }

    fn known(&mut self, entry: &TenantEntry, heads: &Heads) -> &(Arc<Head>, Numbers) {
        if !self.0.contains_key(&entry.tenant) {
            self.0.insert(entry.tenant.clone(), (heads.active(&entry.tenant), Numbers::default()));
        }
        let known = self.0.get_mut(&entry.tenant).expect("inserted above");
        if !entry.declared.is_empty() {
            let labels: Vec<_> = entry.declared.iter().map(|(_, labels)| labels.clone()).collect();
            let resolved = known.0.resolve(&labels);
            entry.declared.iter().zip(resolved).for_each(|((from, _), to)| known.1.insert(*from, to));
        }
        known
    }
}

/// What a replay stops at.
#[derive(Debug)]
pub(super) enum Stop {
    /// A tenant came of which it must be known first what its catalog covers; see [`SegmentReplay::learn_covered`].
    Ask(TenantId),
    /// The segment has ended.
    End,
}

/// A segment on its way into a part of the heads.
#[derive(Debug)]
pub(super) struct SegmentReplay {
    reader: SegmentReader,
    heads: Arc<Heads>,
    part: HeadPart,
    series: SegmentSeries,
    covered: HashMap<TenantId, u64>,
    /// An entry that waits for what is asked.
    waiting: Option<Entry>,
    replayed: Replayed,
}

/// What of a segment was not covered.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    /// The last entry of each tenant.
    pub(super) through: HashMap<TenantId, u64>,
    /// Samples, floats and histograms.
    pub(super) samples: u64,
}

impl SegmentReplay {
    pub(super) fn open(
        segment: &RecoveredSegment,
        heads: Arc<Heads>,
        part: HeadPart,
    ) -> Result<Self, LogError> {
        Ok(Self {
            reader: segment.entries()?,
            heads,
            part,
            series: SegmentSeries::default(),
            covered: HashMap::new(),
            waiting: None,
            replayed: Replayed::default(),
        })
    }

    /// Learns the last entry of the segment's epoch that a tenant's catalog covers.
    pub(super) fn learn_covered(&mut self, tenant: TenantId, through_seq: u64) {
        self.covered.insert(tenant, through_seq);
    }

    /// Returns what was replayed, of all parts of the heads.
    pub(super) fn into_replayed(self) -> Replayed {
        self.replayed
    }

    /// Replays until something must be known first, or to the end.
    pub(super) fn run(&mut self) -> Result<Stop, LogError> {
        while let Some(entry) = self.waiting.take().map(Ok).or_else(|| self.reader.next()) {
            let entry = entry?;
            let unknown = entry.tenants.iter().find(|tenant| !self.covered.contains_key(&tenant.tenant));
            if let Some(unknown) = unknown {
                let tenant = unknown.tenant.clone();
                self.waiting = Some(entry);
                return Ok(Stop::Ask(tenant));
            }
            for tenant in entry.tenants {
                if self.covered[&tenant.tenant] >= entry.seq {
                    self.series.declare(&tenant, &self.heads);
                    continue;
                }
                self.replayed.samples += (tenant.samples.len() + tenant.histograms.len()) as u64;
                self.replayed.through.insert(tenant.tenant.clone(), entry.seq);
                self.series.append_part(tenant, &self.heads, self.part);
            }
        }
        Ok(Stop::End)
    }
}
