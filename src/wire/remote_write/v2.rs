//! `io.prometheus.write.v2.Request`: labels are pairs of references into a table of symbols.

use super::labels::{Description, LabelGate, SeriesError};
use super::{
    ASSEMBLED_BYTES_MAX, Limits, Protocol, RefusedSeries, SYMBOLS_MAX, SampleScratch, Totals, WrittenSeries,
    skip_request_field,
};
use crate::model::encode_label;
use crate::wire::error::{Malformed, WireError};
use crate::wire::protobuf::Cursor;

/// A symbol; `None` where it is not UTF-8, which refuses the series that use it and no others.
type Symbol<'a> = Option<&'a str>;

pub(super) fn walk<F>(body: &[u8], limits: &Limits, mut visit: F) -> Result<Totals, WireError>
where
    F: FnMut(Result<WrittenSeries<'_>, RefusedSeries<'_>>),
{
    let symbols = read_symbols(body)?;
    let mut totals = Totals::default();
    let mut walker = Walker::new(&symbols, limits);
    let mut at = Cursor::new(body);
    while !at.is_done() {
        match at.tag()? {
            0x2A => {
                let counts = walker.read_series(at.message()?)?;
                totals.series += 1;
                totals.samples += walker.samples.samples.len() as u64;
                totals.histograms += counts.histograms;
                totals.exemplars += counts.exemplars;
                totals.metadata += counts.metadata;
                visit(walker.finish_series(&counts)?);
            }
            0x22 => at.step_over()?,
            tag => at.skip_unknown(tag, 5)?,
        }
    }
    Ok(totals)
}

/// Reads the table first, as protobuf lets it stand behind the series that refer to it.
fn read_symbols(body: &[u8]) -> Result<Vec<Symbol<'_>>, WireError> {
    let mut symbols = Vec::new();
    let mut at = Cursor::new(body);
    while !at.is_done() {
        match at.tag()? {
            0x22 => {
                let symbol = at.bytes()?;
                if symbols.is_empty() && !symbol.is_empty() {
                    return Err(at.refuse("symbol 0 is not the empty string").into());
                }
                if symbols.len() == SYMBOLS_MAX {
                    return Err(WireError::TooMany { what: "symbols", limit: SYMBOLS_MAX });
                }
                symbols.push(std::str::from_utf8(symbol).ok());
            }
            0x2A => at.step_over()?,
            tag => match tag >> 3 {
                4 | 5 => at.skip_unknown(tag, 5)?,
                // Series and metadata of 1.0; 2.0 reserves the numbers so that they can be told apart.
                _ => skip_request_field(&mut at, tag, &[1, 2, 3])?,
            },
        }
    }
    Ok(symbols)
}

/// What a series has beside labels and samples.
#[derive(Debug, Default)]
struct Counts {
    histograms: u64,
    exemplars: u64,
    metadata: u64,
}

/// The scratch of a walk, used again for each series.
#[derive(Debug)]
struct Walker<'a> {
    symbols: &'a [Symbol<'a>],
    limits: &'a Limits,
    samples: SampleScratch,
    refs: References,
    assembled: Vec<u8>,
    assembled_left: usize,
    text: String,
}

impl<'a> Walker<'a> {
    fn new(symbols: &'a [Symbol<'a>], limits: &'a Limits) -> Self {
        Self {
            symbols,
            limits,
            samples: SampleScratch::new(),
            refs: References { kept: Vec::new(), kept_max: 2 * LabelGate::fields_max(limits) + 2, sent: 0 },
            assembled: Vec::new(),
            assembled_left: ASSEMBLED_BYTES_MAX,
            text: String::new(),
        }
    }

    /// Reads references, samples and counts of one series.
    fn read_series(&mut self, mut at: Cursor<'_>) -> Result<Counts, WireError> {
        let mut counts = Counts::default();
        let mut created_ms = 0;
        self.samples.samples.clear();
        self.refs.clear();
        while !at.is_done() {
            match at.tag()? {
                0x0A => {
                    let mut packed = at.message()?;
                    while !packed.is_done() {
                        self.refs.read(&mut packed, self.symbols.len())?;
                    }
                }
                0x08 => self.refs.read(&mut at, self.symbols.len())?,
                0x12 => self.samples.read(at.message()?, Protocol::V2)?,
                0x1A => {
                    at.step_over()?;
                    counts.histograms += 1;
                }
                0x22 => {
                    at.step_over()?;
                    counts.exemplars += 1;
                }
                0x2A => counts.metadata = u64::from(!at.message()?.is_done()),
                0x30 => created_ms = at.varint()?.cast_signed(),
                tag => at.skip_unknown(tag, 6)?,
            }
        }
        if self.refs.sent % 2 == 1 {
            return Err(at
                .refuse("a series has a label name without a value: references come in pairs")
                .into());
        }
        if created_ms != 0 {
            for sample in self.samples.samples.iter_mut().filter(|s| s.start_ms == 0) {
                sample.start_ms = created_ms;
            }
        }
        Ok(counts)
    }

    /// Returns the series that was read, or why it is refused.
    fn finish_series(
        &mut self,
        counts: &Counts,
    ) -> Result<Result<WrittenSeries<'_>, RefusedSeries<'_>>, WireError> {
        let samples = self.samples.samples.as_slice();
        let (histograms, exemplars) = (counts.histograms, counts.exemplars);
        let checked = if samples.is_empty() && histograms == 0 && exemplars == 0 {
            Err(SeriesError::NoSamples)
        } else {
            assemble(&self.refs, self.symbols, self.limits, &mut self.assembled)
        };
        if let Err(reason) = checked {
            describe(&self.refs, self.symbols, &mut self.text);
            let samples = samples.len() as u64;
            return Ok(Err(RefusedSeries { reason, labels: &self.text, samples, histograms, exemplars }));
        }
        self.assembled_left = self
            .assembled_left
            .checked_sub(self.assembled.len())
            .ok_or(WireError::TooMany { what: "bytes of labels", limit: ASSEMBLED_BYTES_MAX })?;
        let labels = &self.assembled;
        Ok(Ok(WrittenSeries { labels, samples, histograms, exemplars, metadata: counts.metadata }))
    }
}

/// The references of one series: all are counted and checked, but no more kept than labels are allowed.
#[derive(Debug)]
struct References {
    kept: Vec<u32>,
    kept_max: usize,
    sent: u64,
}

impl References {
    fn clear(&mut self) {
        self.kept.clear();
        self.sent = 0;
    }

    #[inline]
    fn read(&mut self, at: &mut Cursor<'_>, symbols: usize) -> Result<(), Malformed> {
        let reference = at.varint()?;
        match u32::try_from(reference) {
            Ok(index) if (index as usize) < symbols => {
                if self.kept.len() < self.kept_max {
                    self.kept.push(index);
                }
                self.sent += 1;
                Ok(())
            }
            _ => Err(at.refuse("a label refers to a symbol that the request does not have")),
        }
    }

    fn pairs<'s, 'a>(
        &'s self,
        symbols: &'s [Symbol<'a>],
    ) -> impl Iterator<Item = (Symbol<'a>, Symbol<'a>)> + 's {
        self.kept.chunks_exact(2).map(|pair| (symbols[pair[0] as usize], symbols[pair[1] as usize]))
    }
}

/// Writes the labels out, each checked before it is copied.
fn assemble(
    refs: &References,
    symbols: &[Symbol<'_>],
    limits: &Limits,
    out: &mut Vec<u8>,
) -> Result<(), SeriesError> {
    out.clear();
    let mut gate = LabelGate::new(limits);
    for (name, value) in refs.pairs(symbols) {
        let (Some(name), Some(value)) = (name, value) else { return Err(SeriesError::NotUtf8) };
        gate.admit(name.as_bytes(), value.as_bytes())?;
        encode_label(name, value, out);
    }
    Ok(())
}

fn describe(refs: &References, symbols: &[Symbol<'_>], text: &mut String) {
    const NOT_UTF8: &str = "\u{FFFD}";
    let mut description = Description::begin(text);
    for (name, value) in refs.pairs(symbols) {
        let (name, value) = (name.unwrap_or(NOT_UTF8), value.unwrap_or(NOT_UTF8));
        if !description.push(name.as_bytes(), value.as_bytes()) {
            break;
        }
    }
    description.end();
}
