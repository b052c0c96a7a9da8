//! One segment of the log back into heads: a job reads ahead while others append what was read before.

use std::collections::HashMap;
use std::sync::Arc;

use super::batch::Parts;
use crate::head::{APPEND_PARTS, Head, Heads};
use crate::log::{Entry, LogError, RecoveredSegment, SegmentReader, TenantEntry};
use crate::model::TenantId;
use crate::runtime::{Cpu, CpuError};

/// So many samples are read before they are appended: enough that handing them over costs nothing, few enough that
/// they are still in the cache.
const LOT_SAMPLES: usize = 64 << 10;
/// What a histogram counts among them.
const HISTOGRAM_WEIGHT: usize = 16;

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

    /// Puts the head's number in place of the segment's; returns whether there is one.
    #[inline]
    fn renumber(&self, series: &mut u32) -> bool {
        match self.list.get(*series as usize) {
            Some(number) if *number != UNDECLARED => {
                *series = *number;
                true
            }
            _ => self.sparse.get(series).inspect(|number| *series = **number).is_some(),
        }
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
        let (head, parts) = self.renumber(entry, heads);
        parts.append_to(&head);
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

    /// Returns what an entry holds, its series numbered as in the tenant's head.
    fn renumber(&mut self, entry: TenantEntry, heads: &Heads) -> (Arc<Head>, Parts) {
        let (head, numbers) = self.known(&entry, heads);
        let TenantEntry { mut samples, mut histograms, mut exemplars, metadata, .. } = entry;
        // The decoder has checked that every number is declared.
        samples.retain_mut(|logged| numbers.renumber(&mut logged.series));
        histograms.retain_mut(|logged| numbers.renumber(&mut logged.series));
        exemplars.retain_mut(|logged| numbers.renumber(&mut logged.series));
        (Arc::clone(head), Parts { samples, histograms, exemplars, metadata })
    }
}

/// What was read and waits to be appended.
#[derive(Debug, Default)]
pub(super) struct Lot {
    parts: Vec<(Arc<Head>, Parts)>,
    /// The last entry of each tenant in it.
    pub(super) replayed: Vec<(TenantId, u64)>,
    /// Samples in it, floats and histograms.
    pub(super) samples: u64,
    weight: usize,
}

impl Lot {
    fn add(&mut self, head: Arc<Head>, parts: Parts, seq: u64) {
        self.samples += (parts.samples.len() + parts.histograms.len()) as u64;
        self.weight +=
            parts.samples.len() + HISTOGRAM_WEIGHT * (parts.histograms.len() + parts.exemplars.len());
        match self.replayed.iter_mut().find(|(tenant, _)| tenant == head.tenant()) {
            Some(replayed) => replayed.1 = seq,
            None => self.replayed.push((head.tenant().clone(), seq)),
        }
        self.parts.push((head, parts));
    }

    /// Appends one part of all heads.
    fn append(&self, part: usize) {
        for (head, parts) in &self.parts {
            head.append_part(part, parts.samples.iter().map(|logged| (logged.series, logged.sample)));
            if part == 0 {
                parts.append_others_to(head);
            }
        }
    }
}

/// Appends a lot on the compute threads.
pub(super) async fn append(cpu: &Cpu, lot: &Arc<Lot>) -> Result<(), CpuError> {
    let jobs = (0..APPEND_PARTS).map(|part| {
        let lot = Arc::clone(lot);
        cpu.run(move || lot.append(part))
    });
    futures::future::try_join_all(jobs).await.map(|_| ())
}

/// What the reading of a lot ended with.
#[derive(Debug)]
pub(super) enum Next {
    /// There is more to read.
    More,
    /// A tenant came of which it must be known first what its catalog covers; see [`SegmentReplay::learn_covered`].
    Ask(TenantId),
    /// The segment has ended.
    End,
}

/// A segment being read.
#[derive(Debug)]
pub(super) struct SegmentReplay {
    reader: SegmentReader,
    heads: Arc<Heads>,
    series: SegmentSeries,
    covered: HashMap<TenantId, u64>,
    /// An entry that waits for what is asked.
    waiting: Option<Entry>,
}

impl SegmentReplay {
    pub(super) fn open(segment: &RecoveredSegment, heads: Arc<Heads>) -> Result<Self, LogError> {
        Ok(Self {
            reader: segment.entries()?,
            heads,
            series: SegmentSeries::default(),
            covered: HashMap::new(),
            waiting: None,
        })
    }

    /// Learns the last entry of the segment's epoch that a tenant's catalog covers.
    pub(super) fn learn_covered(&mut self, tenant: TenantId, through_seq: u64) {
        self.covered.insert(tenant, through_seq);
    }

    /// Reads the next lot.
    pub(super) fn read(&mut self) -> Result<(Lot, Next), LogError> {
        let mut lot = Lot::default();
        while lot.weight < LOT_SAMPLES {
            let Some(entry) = self.waiting.take().map(Ok).or_else(|| self.reader.next()) else {
                return Ok((lot, Next::End));
            };
            let entry = entry?;
            let unknown = entry.tenants.iter().find(|tenant| !self.covered.contains_key(&tenant.tenant));
            if let Some(unknown) = unknown {
                let tenant = unknown.tenant.clone();
                self.waiting = Some(entry);
                return Ok((lot, Next::Ask(tenant)));
            }
            for tenant in entry.tenants {
                if self.covered[&tenant.tenant] < entry.seq {
                    let (head, parts) = self.series.renumber(tenant, &self.heads);
                    lot.add(head, parts, entry.seq);
                } else {
                    self.series.declare(&tenant, &self.heads);
                }
            }
        }
        Ok((lot, Next::More))
    }
}
