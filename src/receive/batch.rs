//! From request bytes to a batch of numbered samples.

use std::cell::RefCell;
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::builder::Builder;
use super::settings::IngestSettings;
use crate::head::{Head, Heads};
use crate::log::{LoggedExemplar, LoggedHistogram, LoggedSample, TenantWrite};
use crate::model::{HistogramSample, Labels, MetadataEntry, TenantId};
use crate::runtime::MemoryReservation;
use crate::wire::remote_write::{self, Protocol};
use crate::wire::{WireError, snappy};

/// What a request holds, decoded, on its way to the log.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) head: Arc<Head>,
    pub(super) parts: Parts,
    /// The bytes in flight that it stands for.
    pub(super) room: Option<BatchRoom>,
}

/// Room that a request takes until it is dropped: bytes in flight, and a part of the memory budget.
#[derive(Debug)]
pub(super) struct BatchRoom {
    pub(super) bytes: OwnedSemaphorePermit,
    pub(super) memory: MemoryReservation,
}

/// Data of every kind, its series numbered in one head.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) samples: Vec<LoggedSample>,
    pub(super) histograms: Vec<LoggedHistogram>,
    pub(super) exemplars: Vec<LoggedExemplar>,
    /// Only what the head did not know.
    pub(super) metadata: Vec<MetadataEntry>,
}

/// What of one kind was written, and what was refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) written: u64,
    pub(super) refused: u64,
}

/// What a request held, and what of it was refused.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) samples: Count,
    pub(super) histograms: Count,
    pub(super) exemplars: Count,
    /// What the head knew already counts as written.
    pub(super) metadata: Count,
    /// Series of which something was refused.
    pub(super) series_refused: u64,
    /// Why the first thing was refused, with its labels.
    pub(super) first_refusal: Option<String>,
}

impl Tally {
    pub(super) fn note_refusal(&mut self, reason: impl FnOnce() -> String) {
        self.first_refusal.get_or_insert_with(reason);
    }
}

thread_local! {
    /// Decoded bodies are large and short-lived: one buffer a compute thread is enough.
    static BODY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A body buffer above this size is given back after use.
const BODY_BYTES_KEPT: usize = 4 << 20;

/// Decodes a request; on an error nothing of it may be kept.
pub(super) fn decode_request(
    compressed: &[u8],
    protocol: Protocol,
    tenant: &TenantId,
    heads: &Heads,
    (settings, now_ms): (&IngestSettings, i64),
) -> Result<(Batch, Tally), WireError> {
    BODY.with_borrow_mut(|body| {
        snappy::decode_into(compressed, settings.body_bytes_max, body)?;
        let decoded = decode_body(body, protocol, heads.active(tenant), settings, now_ms);
        if body.capacity() > BODY_BYTES_KEPT {
            *body = Vec::new();
        }
        decoded
    })
}

fn decode_body(
    body: &[u8],
    protocol: Protocol,
    head: Arc<Head>,
    settings: &IngestSettings,
    now_ms: i64,
) -> Result<(Batch, Tally), WireError> {
    let mut builder = Builder::new(&head, settings, now_ms, (protocol, body.len()));
    head.look_up(|lookup| {
        remote_write::walk(protocol, body, &settings.labels, |part| builder.take(part, lookup))
    })?;
    let (parts, tally) = builder.finish();
    Ok((Batch { head, parts, room: None }, tally))
}

impl Parts {
    pub(super) fn is_empty(&self) -> bool {
        self.samples.is_empty()
            && self.histograms.is_empty()
            && self.exemplars.is_empty()
            && self.metadata.is_empty()
    }

    /// Returns about how many bytes of memory it takes.
    pub(super) fn memory_bytes(&self) -> usize {
        let Self { samples, histograms, exemplars, metadata } = self;
        let histogram = |logged: &LoggedHistogram| {
            size_of::<LoggedHistogram>() - size_of::<HistogramSample>() + logged.sample.memory_bytes()
        };
        let exemplar =
            |logged: &LoggedExemplar| size_of::<LoggedExemplar>() + logged.exemplar.labels.as_bytes().len();
        let entry = |entry: &MetadataEntry| {
            let texts = entry.family.len() + entry.metadata.help.len() + entry.metadata.unit.len();
            size_of::<MetadataEntry>() + texts
        };
        size_of_val(samples.as_slice())
            + histograms.iter().map(histogram).sum::<usize>()
            + exemplars.iter().map(exemplar).sum::<usize>()
            + metadata.iter().map(entry).sum::<usize>()
    }

    /// Returns the number of every series, to be changed.
    fn numbers_mut(&mut self) -> impl Iterator<Item = &mut u32> {
        let samples = self.samples.iter_mut().map(|logged| &mut logged.series);
        let histograms = self.histograms.iter_mut().map(|logged| &mut logged.series);
        samples.chain(histograms).chain(self.exemplars.iter_mut().map(|logged| &mut logged.series))
    }

    /// Appends everything to the head that numbered the series.
    pub(super) fn append_to(&self, head: &Head) {
        head.append(self.samples.iter().map(|logged| (logged.series, &logged.sample)));
        self.append_others_to(head);
    }

    /// Appends all but the float samples.
    pub(super) fn append_others_to(&self, head: &Head) {
        if !self.histograms.is_empty() {
            head.append_histograms(self.histograms.iter().map(|logged| (logged.series, &logged.sample)));
        }
        if !self.exemplars.is_empty() {
            head.append_exemplars(self.exemplars.iter().map(|l| (l.series, l.exemplar.clone())));
        }
        if !self.metadata.is_empty() {
            head.append_metadata(self.metadata.iter().cloned());
        }
    }
}

impl Batch {
    /// Returns whether there is nothing to make durable.
    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Returns the number of samples, floats and histograms.
    pub(super) fn samples(&self) -> usize {
        self.parts.samples.len() + self.parts.histograms.len()
    }

    /// Returns what the log is to take.
    pub(super) fn write<'a>(&'a self, labels: &'a dyn Fn(u32) -> Labels) -> TenantWrite<'a> {
        TenantWrite {
            tenant: self.head.tenant(),
            samples: &self.parts.samples,
            histograms: &self.parts.histograms,
            exemplars: &self.parts.exemplars,
            metadata: &self.parts.metadata,
            labels,
        }
    }

    /// Puts the batch into its head, once it is durable.
    pub(super) fn append_to_head(&self) {
        self.parts.append_to(&self.head);
    }

    /// Moves the batch from a head that was frozen meanwhile to the active one.
    pub(super) fn rebase(&mut self, heads: &Heads) {
        let active = heads.active(self.head.tenant());
        let mut numbers = std::collections::HashMap::new();
        for series in self.parts.numbers_mut() {
            *series = *numbers.entry(*series).or_insert_with(|| {
                let labels = self.head.labels(*series);
                active.resolve(std::slice::from_ref(&labels))[0]
            });
        }
        self.head = active;
    }
}
