//! The table of symbols of a 2.0 request, and label sets that refer to it.

use std::cell::Cell;

use super::labels::{Description, LabelGate, SeriesError};
use super::{Limits, SYMBOLS_MAX, UNFOLDED_BYTES_MAX, skip_request_field};
use crate::model::{LabelError, Labels, METRIC_NAME};
use crate::wire::error::{Malformed, WireError};
use crate::wire::protobuf::Cursor;

const NO_SYMBOL: &str = "a label refers to a symbol that the request does not have";

/// A symbol; `None` where it is not UTF-8, which refuses the series that use it and no others.
type Symbol<'a> = Option<&'a str>;

/// The symbols of a request, and how many bytes its references may still unfold to.
#[derive(Debug)]
pub(super) struct SymbolTable<'a> {
    symbols: Vec<Symbol<'a>>,
    unfolded_left: Cell<Option<usize>>,
}

impl<'a> SymbolTable<'a> {
    /// Reads the table first, as protobuf lets it stand behind the series that refer to it.
    pub(super) fn read(body: &'a [u8]) -> Result<Self, WireError> {
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
        Ok(Self { symbols, unfolded_left: Cell::new(Some(UNFOLDED_BYTES_MAX)) })
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.symbols.len()
    }

    pub(super) fn get(&self, index: u32) -> Symbol<'a> {
        self.symbols[index as usize]
    }

    pub(super) fn pairs<'s>(
        &'s self,
        refs: &'s [u32],
    ) -> impl Iterator<Item = (Symbol<'a>, Symbol<'a>)> + 's {
        refs.chunks_exact(2).map(|pair| (self.get(pair[0]), self.get(pair[1])))
    }

    /// Notes that references were unfolded to so many bytes.
    pub(super) fn unfold(&self, bytes: usize) {
        self.unfolded_left.set(self.unfolded_left.get().and_then(|left| left.checked_sub(bytes)));
    }

    /// Refuses the request whose references have unfolded to more than is allowed.
    #[inline]
    pub(super) fn check_unfolded(&self) -> Result<(), WireError> {
        match self.unfolded_left.get() {
            Some(_) => Ok(()),
            None => Err(WireError::TooMany {
                what: "bytes behind references to symbols",
                limit: UNFOLDED_BYTES_MAX,
            }),
        }
    }
}

/// The references of one label set: all are counted and checked, but no more kept than labels are allowed.
#[derive(Debug)]
pub(super) struct References {
    kept: Vec<u32>,
    kept_max: usize,
    sent: u64,
}

impl References {
    pub(super) fn new(limits: &Limits) -> Self {
        Self { kept: Vec::new(), kept_max: 2 * LabelGate::fields_max(limits) + 2, sent: 0 }
    }

    pub(super) fn kept(&self) -> &[u32] {
        &self.kept
    }

    #[inline]
    pub(super) fn clear(&mut self) {
        self.kept.clear();
        self.sent = 0;
    }

    /// Reads the references of a packed field.
    #[inline]
    pub(super) fn read_packed(&mut self, mut packed: Cursor<'_>, symbols: usize) -> Result<(), Malformed> {
        // A reference takes a byte at least: what fits as bytes fits as references, and is checked once.
        if packed.remaining() <= self.kept_max.saturating_sub(self.kept.len()) {
            let (first, mut greatest) = (self.kept.len(), 0);
            self.kept.reserve(packed.remaining());
            while !packed.is_done() {
                let reference = packed.varint()?;
                greatest = greatest.max(reference);
                self.kept.push(reference as u32);
            }
            self.sent += (self.kept.len() - first) as u64;
            return if greatest < symbols as u64 || self.kept.len() == first {
                Ok(())
            } else {
                self.kept.truncate(first);
                Err(packed.refuse(NO_SYMBOL))
            };
        }
        while !packed.is_done() {
            self.read(&mut packed, symbols)?;
        }
        Ok(())
    }

    #[inline]
    pub(super) fn read(&mut self, at: &mut Cursor<'_>, symbols: usize) -> Result<(), Malformed> {
        let reference = at.varint()?;
        if reference >= symbols as u64 {
            return Err(at.refuse(NO_SYMBOL));
        }
        if self.kept.len() < self.kept_max {
            self.kept.push(reference as u32);
        }
        self.sent += 1;
        Ok(())
    }

    pub(super) fn check_pairs(&self, at: &Cursor<'_>) -> Result<(), Malformed> {
        match self.sent % 2 {
            0 => Ok(()),
            _ => Err(at.refuse("a series has a label name without a value: references come in pairs")),
        }
    }
}

/// The labels of a 2.0 series: pairs of references into the request's symbols.
#[derive(Debug, Clone, Copy)]
pub struct SymbolLabels<'a> {
    refs: &'a [u32],
    table: &'a SymbolTable<'a>,
}

impl<'a> SymbolLabels<'a> {
    pub(super) const fn new(refs: &'a [u32], table: &'a SymbolTable<'a>) -> Self {
        Self { refs, table }
    }

    /// Returns the references: name, value, name, value, each within [`Self::symbol_count`].
    #[must_use]
    pub const fn references(&self) -> &'a [u32] {
        self.refs
    }

    /// Returns how many symbols the request has.
    #[must_use]
    pub fn symbol_count(&self) -> usize {
        self.table.len()
    }

    /// Returns a symbol, or nothing where it is not UTF-8.
    #[must_use]
    pub fn symbol(&self, reference: u32) -> Option<&'a str> {
        self.table.get(reference)
    }

    /// Returns the reference to the metric's name.
    pub(super) fn metric_name(&self) -> Option<u32> {
        let mut pairs = self.refs.chunks_exact(2);
        pairs.find(|pair| self.table.get(pair[0]) == Some(METRIC_NAME)).map(|pair| pair[1])
    }

    /// Builds the label set, checked before anything is copied.
    pub(super) fn canonical(&self, limits: &Limits) -> Result<Labels, SeriesError> {
        let mut gate = LabelGate::new(limits);
        let mut pairs = Vec::with_capacity(self.refs.len() / 2);
        for (name, value) in self.table.pairs(self.refs) {
            let (Some(name), Some(value)) = (name, value) else { return Err(SeriesError::NotUtf8) };
            gate.admit(name.as_bytes(), value.as_bytes())?;
            self.table.unfold(name.len() + value.len());
            pairs.push((name, value));
        }
        let labels = Labels::from_pairs(pairs)?;
        if labels.is_empty() { Err(LabelError::EmptySet.into()) } else { Ok(labels) }
    }

    pub(super) fn describe(&self) -> String {
        const NOT_UTF8: &str = "\u{FFFD}";
        let mut text = String::new();
        let mut description = Description::begin(&mut text);
        for (name, value) in self.table.pairs(self.refs) {
            let (name, value) = (name.unwrap_or(NOT_UTF8), value.unwrap_or(NOT_UTF8));
            if !description.push(name.as_bytes(), value.as_bytes()) {
                break;
            }
        }
        description.end();
        text
    }
}
