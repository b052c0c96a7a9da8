//! `io.prometheus.write.v2.Request`: labels are pairs of references into a table of symbols.

use super::labels::SeriesError;
use super::metadata::{SentMetadata, SeriesMetadata};
use super::parts::Scratch;
use super::symbols::{References, SymbolLabels, SymbolTable};
use super::{Limits, Part, Protocol, RefusedSeries, SentLabels, Totals, WrittenSeries};
use crate::wire::error::WireError;
use crate::wire::protobuf::Cursor;

pub(super) fn walk<F>(body: &[u8], limits: &Limits, mut visit: F) -> Result<Totals, WireError>
where
    F: FnMut(Part<'_>),
{
    let symbols = SymbolTable::read(body)?;
    let mut totals = Totals::default();
    let mut walker = Walker::new(limits);
    let mut at = Cursor::new(body);
    while !at.is_done() {
        match at.tag()? {
            0x2A => {
                walker.read_series(at.message()?, &symbols)?;
                totals.count(&walker.scratch);
                totals.metadata += u64::from(walker.metadata.is_some());
                walker.finish_series(&symbols, &mut visit);
                symbols.check_unfolded()?;
            }
            0x22 => at.step_over()?,
            tag => at.skip_unknown(tag, 5)?,
        }
    }
    Ok(totals)
}

/// The scratch of a walk, used again for each series.
#[derive(Debug)]
struct Walker<'a> {
    limits: &'a Limits,
    scratch: Scratch,
    refs: References,
    exemplar_refs: References,
    metadata: Option<SentMetadata>,
    series_metadata: SeriesMetadata,
}

impl<'a> Walker<'a> {
    fn new(limits: &'a Limits) -> Self {
        Self {
            limits,
            scratch: Scratch::new(),
            refs: References::new(limits),
            exemplar_refs: References::new(limits),
            metadata: None,
            series_metadata: SeriesMetadata::default(),
        }
    }

    /// Reads references and parts of one series.
    #[inline]
    fn read_series(&mut self, mut at: Cursor<'_>, symbols: &SymbolTable<'_>) -> Result<(), WireError> {
        let mut created_ms = 0;
        self.scratch.clear();
        self.refs.clear();
        self.metadata = None;
        while !at.is_done() {
            match at.tag()? {
                0x0A => self.refs.read_packed(at.message()?, symbols.len())?,
                0x08 => self.refs.read(&mut at, symbols.len())?,
                0x12 => self.scratch.read_sample(at.message()?, Protocol::V2)?,
                0x1A => self.scratch.read_histogram(at.message()?, Protocol::V2)?,
                0x22 => {
                    let labels = (&mut self.exemplar_refs, symbols);
                    self.scratch.read_exemplar_v2(at.message()?, labels, self.limits)?;
                }
                0x2A => {
                    let sent = SentMetadata::read(at.message()?, symbols.len())?;
                    self.metadata = (sent != SentMetadata::default()).then_some(sent);
                }
                0x30 => created_ms = at.varint()?.cast_signed(),
                tag => at.skip_unknown(tag, 6)?,
            }
        }
        self.refs.check_pairs(&at)?;
        if created_ms != 0 {
            let samples = self.scratch.samples.iter_mut().map(|sample| &mut sample.start_ms);
            let histograms = self.scratch.histograms.read.iter_mut().map(|sample| &mut sample.start_ms);
            samples
                .chain(histograms)
                .filter(|start_ms| **start_ms == 0)
                .for_each(|start_ms| *start_ms = created_ms);
        }
        Ok(())
    }

    /// Hands on the series that was read.
    #[inline]
    fn finish_series(&mut self, symbols: &SymbolTable<'_>, visit: &mut impl FnMut(Part<'_>)) {
        let labels = SymbolLabels::new(self.refs.kept(), symbols);
        let (histograms, exemplars) = self.scratch.came();
        if self.scratch.samples.is_empty() && histograms == 0 && exemplars == 0 {
            let refused = RefusedSeries { reason: SeriesError::NoSamples, labels: &labels.describe() };
            return visit(Part::Refused(refused));
        }
        let first = self.metadata.and_then(|sent| self.series_metadata.first(sent, &labels, symbols));
        let metadata = match first.transpose() {
            Ok(metadata) => metadata,
            Err(reason) => {
                self.scratch.refuse(reason).metadata += 1;
                None
            }
        };
        visit(Part::Series(WrittenSeries::of(SentLabels::Symbols(labels), &self.scratch, metadata)));
    }
}
