//! One request being decoded: series looked up, parts checked and counted.

use std::ops::Range;

use super::batch::{Parts, Tally};
use super::settings::IngestSettings;
use crate::head::{Head, RowCursor, SeriesLookup};
use crate::log::{LoggedExemplar, LoggedHistogram, LoggedSample};
use crate::model::{Labels, TimeRange, format_duration_ms};
use crate::wire::remote_write::{
    Part, PartError, Protocol, SentLabels, SymbolLabels, WrittenMetadata, WrittenSeries,
};

/// What a sample takes in a request with one sample a series, which is what a scraping Prometheus sends.
const BYTES_A_SAMPLE: usize = 300;
const BYTES_A_SAMPLE_V2: usize = 50;

/// The series number of a sample whose series is not in the head yet.
const UNNUMBERED: u32 = u32::MAX;

/// A symbol that was not looked up yet, and one that the head does not have.
const NOT_ASKED: u32 = u32::MAX;
const UNKNOWN: u32 = u32::MAX - 1;

/// Builds the parts of a batch from those of a request.
pub(super) struct Builder<'a> {
    head: &'a Head,
    settings: &'a IngestSettings,
    now_ms: i64,
    allowed: TimeRange,
    parts: Parts,
    /// Series that the head does not have, with the places of their parts.
    missing: Vec<(Labels, Places)>,
    symbols: SymbolNumbers,
    /// Known series whose symbols the head does not know yet.
    unremembered: Vec<(u32, Labels)>,
    tally: Tally,
}

/// Where the parts of one series stand.
struct Places {
    samples: Range<usize>,
    histograms: Range<usize>,
    exemplars: Range<usize>,
    /// Whether it was sent as symbols in canonical order.
    by_symbols: bool,
}

/// The head's numbers for the symbols of the request, asked for once each.
#[derive(Debug, Default)]
struct SymbolNumbers {
    numbers: Vec<u32>,
    row: Vec<u8>,
    cursor: RowCursor,
}

impl SymbolNumbers {
    /// Returns the series that was sent with these symbols before.
    #[inline]
    fn find(&mut self, labels: &SymbolLabels<'_>, lookup: &SeriesLookup<'_>) -> Option<u32> {
        if self.numbers.is_empty() {
            self.numbers.resize(labels.symbol_count(), NOT_ASKED);
        }
        let references = labels.references();
        self.row.resize(size_of_val(references), 0);
        for (place, reference) in self.row.chunks_exact_mut(size_of::<u32>()).zip(references) {
            let mut number = self.numbers[*reference as usize];
            if number >= UNKNOWN {
                if number == NOT_ASKED {
                    let symbol = labels.symbol(*reference);
                    number = symbol.and_then(|text| lookup.symbol(text)).unwrap_or(UNKNOWN);
                    self.numbers[*reference as usize] = number;
                }
                if number == UNKNOWN {
                    return None;
                }
            }
            place.copy_from_slice(&number.to_le_bytes());
        }
        lookup.by_symbols(&self.row, &mut self.cursor)
    }
}

impl<'a> Builder<'a> {
    pub(super) fn new(
        head: &'a Head,
        settings: &'a IngestSettings,
        now_ms: i64,
        (protocol, body_bytes): (Protocol, usize),
    ) -> Self {
        let bytes_a_sample = if protocol == Protocol::V1 { BYTES_A_SAMPLE } else { BYTES_A_SAMPLE_V2 };
        let samples = Vec::with_capacity(body_bytes / bytes_a_sample);
        Self {
            head,
            settings,
            now_ms,
            allowed: TimeRange::from_inclusive(
                now_ms.saturating_sub(settings.max_age_ms),
                now_ms.saturating_add(settings.max_future_ms),
            ),
            parts: Parts { samples, ..Parts::default() },
            missing: Vec::new(),
            symbols: SymbolNumbers::default(),
            unremembered: Vec::new(),
            tally: Tally::default(),
        }
    }

    /// Takes one part of the request.
    pub(super) fn take(&mut self, part: Part<'_>, lookup: &SeriesLookup<'_>) {
        match part {
            Part::Series(series) => self.add(&series, lookup),
            Part::Refused(refused) => {
                self.tally.series_refused += 1;
                self.tally.note_refusal(|| format!("series {}: {}", refused.labels, refused.reason));
            }
            Part::Metadata(metadata) => self.add_metadata(metadata),
        }
    }

    fn add(&mut self, series: &WrittenSeries<'_>, lookup: &SeriesLookup<'_>) {
        if let Some(metadata) = series.metadata {
            self.add_metadata(Ok(metadata));
        }
        let found = match &series.labels {
            SentLabels::Encoded(bytes) => lookup.by_labels(bytes),
            SentLabels::Symbols(symbols) => self.symbols.find(symbols, lookup),
        };
        match found {
            Some(number) => self.push(number, series),
            None => self.add_unknown(series, lookup),
        }
    }

    /// Adds a series that was not found as it was sent.
    fn add_unknown(&mut self, series: &WrittenSeries<'_>, lookup: &SeriesLookup<'_>) {
        let labels = match series.labels.canonical(&self.settings.labels) {
            Ok(labels) => labels,
            Err(error) => {
                let refused = series.refused.map_or((0, 0), |r| (r.histograms, r.exemplars));
                self.tally.samples.refused += series.samples.len() as u64;
                self.tally.histograms.refused += series.histograms.len() as u64 + refused.0;
                self.tally.exemplars.refused += series.exemplars.len() as u64 + refused.1;
                self.tally.series_refused += 1;
                self.tally.note_refusal(|| format!("series {}: {error}", series.labels.describe()));
                return;
            }
        };
        // Other orders of the same labels would each be remembered.
        let by_symbols = matches!(&series.labels, SentLabels::Symbols(sent) if is_canonical(sent, &labels));
        if let Some(number) = lookup.by_labels(labels.as_bytes()) {
            if by_symbols {
                self.unremembered.push((number, labels));
            }
            return self.push(number, series);
        }
        let parts = &self.parts;
        let (samples, histograms, exemplars) =
            (parts.samples.len(), parts.histograms.len(), parts.exemplars.len());
        self.push(UNNUMBERED, series);
        let places = Places {
            samples: samples..self.parts.samples.len(),
            histograms: histograms..self.parts.histograms.len(),
            exemplars: exemplars..self.parts.exemplars.len(),
            by_symbols,
        };
        if !(places.samples.is_empty() && places.histograms.is_empty() && places.exemplars.is_empty()) {
            self.missing.push((labels, places));
        }
    }

    #[inline]
    fn push(&mut self, number: u32, series: &WrittenSeries<'_>) {
        let mut outside = None;
        for sample in series.samples {
            if self.allowed.contains(sample.ts_ms) {
                self.parts.samples.push(LoggedSample { series: number, sample: *sample });
            } else {
                self.tally.samples.refused += 1;
                outside.get_or_insert(sample.ts_ms);
            }
        }
        if !series.histograms.is_empty() || !series.exemplars.is_empty() || series.refused.is_some() {
            self.push_others(number, series, &mut outside);
        }
        if let Some(ts_ms) = outside {
            self.note_outside(series, ts_ms);
        }
    }

    fn push_others(&mut self, number: u32, series: &WrittenSeries<'_>, outside: &mut Option<i64>) {
        for sample in series.histograms {
            if self.allowed.contains(sample.ts_ms) {
                self.parts.histograms.push(LoggedHistogram { series: number, sample: sample.clone() });
            } else {
                self.tally.histograms.refused += 1;
                outside.get_or_insert(sample.ts_ms);
            }
        }
        for exemplar in series.exemplars {
            if self.allowed.contains(exemplar.ts_ms) {
                self.parts.exemplars.push(LoggedExemplar { series: number, exemplar: exemplar.clone() });
            } else {
                self.tally.exemplars.refused += 1;
                outside.get_or_insert(exemplar.ts_ms);
            }
        }
        if let Some(refused) = series.refused {
            self.tally.histograms.refused += refused.histograms;
            self.tally.exemplars.refused += refused.exemplars;
            self.tally.metadata.refused += refused.metadata;
            self.tally.series_refused += 1;
            self.tally.note_refusal(|| format!("series {}: {}", series.labels.describe(), refused.first));
        }
    }

    #[cold]
    fn note_outside(&mut self, series: &WrittenSeries<'_>, ts_ms: i64) {
        let (age, future) = (self.settings.max_age_ms, self.settings.max_future_ms);
        self.tally.series_refused += 1;
        self.tally.note_refusal(|| {
            format!(
                "series {}: timestamp {ts_ms} is outside of what is taken: up to {} back (--ingest.max-age) and {} \
                 ahead (--ingest.max-future)",
                series.labels.describe(),
                format_duration_ms(age),
                format_duration_ms(future)
            )
        });
    }

    fn add_metadata(&mut self, metadata: Result<WrittenMetadata<'_>, PartError>) {
        match metadata {
            Ok(written) => {
                self.tally.metadata.written += 1;
                let known = self.head.knows_metadata(written.family, |held| {
                    let held = &held.metadata;
                    held.kind == written.kind && held.help == written.help && held.unit == written.unit
                });
                if !known {
                    self.parts.metadata.push(written.entry(self.now_ms));
                }
            }
            Err(reason) => {
                self.tally.metadata.refused += 1;
                self.tally.note_refusal(|| reason.to_string());
            }
        }
    }

    /// Numbers the series that are new to the head and returns what was built.
    pub(super) fn finish(self) -> (Parts, Tally) {
        let Self { head, mut parts, missing, unremembered, mut tally, .. } = self;
        let mut remember = unremembered;
        if !missing.is_empty() {
            let (labels, places): (Vec<Labels>, Vec<Places>) = missing.into_iter().unzip();
            for ((number, place), labels) in head.resolve(&labels).into_iter().zip(places).zip(labels) {
                parts.samples[place.samples].iter_mut().for_each(|logged| logged.series = number);
                parts.histograms[place.histograms].iter_mut().for_each(|logged| logged.series = number);
                parts.exemplars[place.exemplars].iter_mut().for_each(|logged| logged.series = number);
                if place.by_symbols {
                    remember.push((number, labels));
                }
            }
        }
        if !remember.is_empty() {
            head.remember_symbols(&remember);
        }
        tally.samples.written = parts.samples.len() as u64;
        tally.histograms.written = parts.histograms.len() as u64;
        tally.exemplars.written = parts.exemplars.len() as u64;
        (parts, tally)
    }
}

/// Returns whether labels were sent in the order of the label set, none left out.
fn is_canonical(sent: &SymbolLabels<'_>, labels: &Labels) -> bool {
    let references = sent.references().iter().map(|reference| sent.symbol(*reference));
    references.eq(labels.iter().flat_map(|(name, value)| [Some(name), Some(value)]))
}
