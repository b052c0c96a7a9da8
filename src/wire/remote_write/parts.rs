//! What a series holds beside its labels, in vectors that are used again for the next series.

use super::histograms::HistogramScratch;
use super::labels::{LabelGate, SeriesError, read_label};
use super::symbols::SymbolTable;
use super::{EXEMPLARS_MAX, Limits, Protocol, SAMPLES_MAX};
use crate::model::{Exemplar, HistogramError, Labels, Sample};
use crate::wire::error::{Malformed, WireError};
use crate::wire::protobuf::Cursor;

/// Why one histogram, exemplar or metadata entry was refused while the rest of its series stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PartError {
    /// The histogram breaks a rule.
    #[error("a native histogram is refused: {0}")]
    Histogram(#[from] HistogramError),
    /// The labels of an exemplar are no label set, or over a limit.
    #[error("an exemplar is refused: {0}")]
    Exemplar(#[source] SeriesError),
    /// Metadata names no family.
    #[error("metadata is refused: it names no metric family")]
    NoFamily,
    /// A text of metadata is too long.
    #[error("metadata is refused: its {what} has {bytes} bytes and {limit} are allowed")]
    TextTooLong {
        /// Which text.
        what: &'static str,
        /// Its length.
        bytes: usize,
        /// The length that is allowed.
        limit: usize,
    },
    /// A text of metadata is not UTF-8.
    #[error("metadata is refused: a text is not UTF-8")]
    NotUtf8,
}

/// What was left out of one series while the rest of it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedParts {
    /// Histograms.
    pub histograms: u64,
    /// Exemplars.
    pub exemplars: u64,
    /// Metadata entries.
    pub metadata: u64,
    /// Why the first was.
    pub first: PartError,
}

/// The parts of the series at hand, and how many more the request may have.
#[derive(Debug)]
pub(super) struct Scratch {
    pub(super) samples: Vec<Sample>,
    pub(super) histograms: HistogramScratch,
    pub(super) exemplars: Vec<Exemplar>,
    pub(super) refused: Option<RefusedParts>,
    samples_left: usize,
    exemplars_left: usize,
}

impl Scratch {
    pub(super) const fn new() -> Self {
        Self {
            samples: Vec::new(),
            histograms: HistogramScratch::new(),
            exemplars: Vec::new(),
            refused: None,
            samples_left: SAMPLES_MAX,
            exemplars_left: EXEMPLARS_MAX,
        }
    }

    #[inline]
    pub(super) fn clear(&mut self) {
        self.samples.clear();
        self.histograms.read.clear();
        self.exemplars.clear();
        self.refused = None;
    }

    /// Returns how many histograms and exemplars came, the refused ones too.
    pub(super) fn came(&self) -> (u64, u64) {
        let refused = self.refused.as_ref().map_or((0, 0), |refused| (refused.histograms, refused.exemplars));
        (self.histograms.read.len() as u64 + refused.0, self.exemplars.len() as u64 + refused.1)
    }

    /// Notes a refusal; the place to count it is returned.
    pub(super) fn refuse(&mut self, reason: PartError) -> &mut RefusedParts {
        let none = || RefusedParts { histograms: 0, exemplars: 0, metadata: 0, first: reason };
        self.refused.get_or_insert_with(none)
    }

    /// Reads one sample. Both protocols number its fields alike; the start timestamp came with 2.0.
    #[inline]
    pub(super) fn read_sample(&mut self, mut at: Cursor<'_>, protocol: Protocol) -> Result<(), WireError> {
        let mut sample = Sample::new(0, 0.0);
        while !at.is_done() {
            match at.tag()? {
                0x09 => sample.value = f64::from_bits(at.fixed64()?),
                0x10 => sample.ts_ms = at.varint()?.cast_signed(),
                0x18 if protocol == Protocol::V2 => sample.start_ms = at.varint()?.cast_signed(),
                tag => at.skip_unknown(tag, if protocol == Protocol::V1 { 2 } else { 3 })?,
            }
        }
        if self.samples_left == 0 {
            return Err(WireError::TooMany { what: "samples", limit: SAMPLES_MAX });
        }
        self.samples_left -= 1;
        self.samples.push(sample);
        Ok(())
    }

    /// Reads one histogram.
    pub(super) fn read_histogram(&mut self, at: Cursor<'_>, protocol: Protocol) -> Result<(), WireError> {
        if let Err(reason) = self.histograms.read(at, protocol)? {
            self.refuse(reason.into()).histograms += 1;
        }
        Ok(())
    }

    /// Reads one exemplar of 1.0, whose labels stand in it.
    pub(super) fn read_exemplar(&mut self, mut at: Cursor<'_>, limits: &Limits) -> Result<(), WireError> {
        let (mut value, mut ts_ms) = (0.0, 0);
        let mut labels = ExemplarLabels::new(limits);
        while !at.is_done() {
            match at.tag()? {
                0x0A => {
                    let (name, value) = read_label(at.message()?)?;
                    labels.push(name, value);
                }
                tag => read_exemplar_field(&mut at, tag, &mut value, &mut ts_ms)?,
            }
        }
        self.finish_exemplar(labels, value, ts_ms)
    }

    /// Reads one exemplar of 2.0, whose labels are references.
    pub(super) fn read_exemplar_v2(
        &mut self,
        mut at: Cursor<'_>,
        (refs, symbols): (&mut super::symbols::References, &SymbolTable<'_>),
        limits: &Limits,
    ) -> Result<(), WireError> {
        let (mut value, mut ts_ms) = (0.0, 0);
        refs.clear();
        while !at.is_done() {
            match at.tag()? {
                0x0A => refs.read_packed(at.message()?, symbols.len())?,
                0x08 => refs.read(&mut at, symbols.len())?,
                tag => read_exemplar_field(&mut at, tag, &mut value, &mut ts_ms)?,
            }
        }
        refs.check_pairs(&at)?;
        let mut labels = ExemplarLabels::new(limits);
        for (name, value) in symbols.pairs(refs.kept()) {
            let bytes = |text: Option<&str>| text.map_or(0, str::len);
            symbols.unfold(bytes(name) + bytes(value));
            match (name, value) {
                (Some(name), Some(value)) => labels.push(name.as_bytes(), value.as_bytes()),
                _ => labels.fail(SeriesError::NotUtf8),
            }
        }
        symbols.check_unfolded()?;
        self.finish_exemplar(labels, value, ts_ms)
    }

    fn finish_exemplar(
        &mut self,
        labels: ExemplarLabels<'_>,
        value: f64,
        ts_ms: i64,
    ) -> Result<(), WireError> {
        let Some(left) = self.exemplars_left.checked_sub(1) else {
            return Err(WireError::TooMany { what: "exemplars", limit: EXEMPLARS_MAX });
        };
        self.exemplars_left = left;
        match labels.finish() {
            Ok(labels) => self.exemplars.push(Exemplar { labels, value, ts_ms }),
            Err(reason) => self.refuse(PartError::Exemplar(reason)).exemplars += 1,
        }
        Ok(())
    }
}

#[inline]
fn read_exemplar_field(
    at: &mut Cursor<'_>,
    tag: u32,
    value: &mut f64,
    ts_ms: &mut i64,
) -> Result<(), Malformed> {
    match tag {
        0x11 => *value = f64::from_bits(at.fixed64()?),
        0x18 => *ts_ms = at.varint()?.cast_signed(),
        tag => at.skip_unknown(tag, 3)?,
    }
    Ok(())
}

/// The labels of one exemplar, checked as they come.
#[derive(Debug)]
struct ExemplarLabels<'a> {
    gate: LabelGate<'a>,
    pairs: Vec<(String, String)>,
    failed: Option<SeriesError>,
}

impl<'a> ExemplarLabels<'a> {
    fn new(limits: &'a Limits) -> Self {
        Self { gate: LabelGate::new(limits), pairs: Vec::new(), failed: None }
    }

    fn fail(&mut self, reason: SeriesError) {
        self.failed.get_or_insert(reason);
    }

    fn push(&mut self, name: &[u8], value: &[u8]) {
        if self.failed.is_some() {
            return;
        }
        match (self.gate.admit(name, value), std::str::from_utf8(name), std::str::from_utf8(value)) {
            (Ok(()), Ok(name), Ok(value)) => self.pairs.push((name.to_owned(), value.to_owned())),
            (Err(reason), _, _) => self.fail(reason),
            _ => self.fail(SeriesError::NotUtf8),
        }
    }

    fn finish(self) -> Result<Labels, SeriesError> {
        match self.failed {
            Some(reason) => Err(reason),
            None => Ok(Labels::from_pairs(self.pairs)?),
        }
    }
}
