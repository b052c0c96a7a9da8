//! From request bytes to a batch of numbered samples.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::settings::IngestSettings;
use crate::head::{Head, Heads};
use crate::log::LoggedSample;
use crate::model::{Labels, TenantId, TimeRange, format_duration_ms};
use crate::runtime::MemoryReservation;
use crate::wire::remote_write::{self, Protocol, RefusedSeries, WrittenSeries};
use crate::wire::{WireError, snappy};

/// Decoded samples on their way to the log.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) head: Arc<Head>,
    pub(super) samples: Vec<LoggedSample>,
    /// The bytes in flight that it stands for.
    pub(super) room: Option<BatchRoom>,
}

/// Room that a request takes until it is dropped: bytes in flight, and a part of the memory budget.
#[derive(Debug)]
pub(super) struct BatchRoom {
    pub(super) _bytes: OwnedSemaphorePermit,
    pub(super) _memory: MemoryReservation,
}

/// What a request held, and what of it was refused.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) samples_written: u64,
    pub(super) samples_refused: u64,
    pub(super) series_refused: u64,
    pub(super) histograms: u64,
    pub(super) exemplars: u64,
    pub(super) metadata: u64,
    /// Why the first series was refused, with its labels.
    pub(super) first_refusal: Option<String>,
}

thread_local! {
    /// Decoded bodies are large and short-lived: one buffer a compute thread is enough.
    static BODY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A body buffer above this size is given back after use.
const BODY_BYTES_KEPT: usize = 4 << 20;

/// What a sample takes in a request with one sample a series, which is what a scraping Prometheus sends.
const BYTES_A_SAMPLE: usize = 300;

/// The series number of a sample whose series is not in the head yet.
const UNNUMBERED: u32 = u32::MAX;

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
    let mut builder = Builder {
        settings,
        allowed: TimeRange::from_inclusive(
            now_ms.saturating_sub(settings.max_age_ms),
            now_ms.saturating_add(settings.max_future_ms),
        ),
        samples: Vec::with_capacity(body.len() / BYTES_A_SAMPLE),
        missing: Vec::new(),
        tally: Tally::default(),
    };
    let totals = head.look_up(|find| {
        remote_write::walk(protocol, body, &settings.labels, |series| match series {
            Ok(series) => builder.add(&series, find),
            Err(refused) => builder.refuse(&refused),
        })
    })?;
    let tally = &mut builder.tally;
    (tally.histograms, tally.exemplars, tally.metadata) =
        (totals.histograms, totals.exemplars, totals.metadata);
    let Builder { mut samples, missing, mut tally, .. } = builder;
    number_missing(&head, &mut samples, missing);
    tally.samples_written = samples.len() as u64;
    Ok((Batch { head, samples, room: None }, tally))
}

struct Builder<'a> {
    settings: &'a IngestSettings,
    allowed: TimeRange,
    samples: Vec<LoggedSample>,
    /// Series that the head does not have, with the places of their samples.
    missing: Vec<(Labels, Range<usize>)>,
    tally: Tally,
}

impl Builder<'_> {
    fn add(&mut self, series: &WrittenSeries<'_>, find: &dyn Fn(&[u8]) -> Option<u32>) {
        if let Some(number) = find(series.labels) {
            return self.push(number, series);
        }
        match remote_write::canonical_labels(series.labels, &self.settings.labels) {
            Ok(labels) => match find(labels.as_bytes()) {
                Some(number) => self.push(number, series),
                None => {
                    let first = self.samples.len();
                    self.push(UNNUMBERED, series);
                    if self.samples.len() > first {
                        self.missing.push((labels, first..self.samples.len()));
                    }
                }
            },
            Err(error) => {
                let samples = series.samples.len() as u64;
                self.note_refusal(samples, 1, || {
                    format!("series {}: {error}", remote_write::describe_labels(series.labels))
                });
            }
        }
    }

    fn push(&mut self, number: u32, series: &WrittenSeries<'_>) {
        let mut outside = None;
        for sample in series.samples {
            if self.allowed.contains(sample.ts_ms) {
                self.samples.push(LoggedSample { series: number, sample: *sample });
            } else {
                self.tally.samples_refused += 1;
                outside.get_or_insert(sample.ts_ms);
            }
        }
        if let Some(ts_ms) = outside {
            let (age, future) = (self.settings.max_age_ms, self.settings.max_future_ms);
            self.note_refusal(0, 1, || {
                format!(
                    "series {}: timestamp {ts_ms} is outside of what is taken: up to {} back (--ingest.max-age) and {} \
                     ahead (--ingest.max-future)",
                    remote_write::describe_labels(series.labels),
                    format_duration_ms(age),
                    format_duration_ms(future)
                )
            });
        }
    }

    fn refuse(&mut self, refused: &RefusedSeries<'_>) {
        self.note_refusal(refused.samples, 1, || format!("series {}: {}", refused.labels, refused.reason));
    }

    fn note_refusal(&mut self, samples: u64, series: u64, reason: impl FnOnce() -> String) {
        self.tally.samples_refused += samples;
        self.tally.series_refused += series;
        self.tally.first_refusal.get_or_insert_with(reason);
    }
}

/// Gives numbers to the samples of series that are new to the head.
fn number_missing(head: &Head, samples: &mut [LoggedSample], missing: Vec<(Labels, Range<usize>)>) {
    if missing.is_empty() {
        return;
    }
    let (labels, places): (Vec<Labels>, Vec<Range<usize>>) = missing.into_iter().unzip();
    for (number, place) in head.resolve(&labels).into_iter().zip(places) {
        samples[place].iter_mut().for_each(|logged| logged.series = number);
    }
}

impl Batch {
    /// Moves the batch from a head that was frozen meanwhile to the active one.
    pub(super) fn rebase(&mut self, heads: &Heads) {
        let active = heads.active(self.head.tenant());
        let mut numbers = std::collections::HashMap::new();
        for logged in &mut self.samples {
            let number = numbers.entry(logged.series).or_insert_with(|| {
                let labels = self.head.labels(logged.series);
                active.resolve(std::slice::from_ref(&labels))[0]
            });
            logged.series = *number;
        }
        self.head = active;
    }
}
