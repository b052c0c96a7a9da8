//! Metadata: entries of their own in 1.0, a part of each series in 2.0.

use super::labels::Description;
use super::parts::PartError;
use super::symbols::{SymbolLabels, SymbolTable};
use super::{METADATA_BYTES_MAX, METADATA_MAX};
use crate::model::{Metadata, MetadataEntry, MetricType};
use crate::wire::error::{Malformed, WireError};
use crate::wire::protobuf::Cursor;

/// What a request says about a metric family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrittenMetadata<'a> {
    /// The family's name.
    pub family: &'a str,
    /// Its type.
    pub kind: MetricType,
    /// Its help text.
    pub help: &'a str,
    /// Its unit.
    pub unit: &'a str,
}

impl WrittenMetadata<'_> {
    /// Returns the entry to keep.
    #[must_use]
    pub fn entry(&self, since_ms: i64) -> MetadataEntry {
        let metadata = Metadata { kind: self.kind, help: self.help.to_owned(), unit: self.unit.to_owned() };
        MetadataEntry { family: self.family.to_owned(), since_ms, metadata }
    }

    fn check(self) -> Result<Self, PartError> {
        if self.family.is_empty() {
            return Err(PartError::NoFamily);
        }
        for (what, text) in [("family name", self.family), ("help", self.help), ("unit", self.unit)] {
            if text.len() > METADATA_BYTES_MAX {
                let bytes = text.len();
                return Err(PartError::TextTooLong { what, bytes, limit: METADATA_BYTES_MAX });
            }
        }
        Ok(self)
    }

    /// Writes the family for a message.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut text = String::new();
        let mut description = Description::begin(&mut text);
        description.push(b"family", self.family.as_bytes());
        description.end();
        text
    }
}

/// Counts the entries of a 1.0 request and reads them.
#[derive(Debug)]
pub(super) struct MetadataReader {
    left: usize,
}

impl MetadataReader {
    pub(super) const fn new() -> Self {
        Self { left: METADATA_MAX }
    }

    pub(super) fn read<'a>(
        &mut self,
        mut at: Cursor<'a>,
    ) -> Result<Result<WrittenMetadata<'a>, PartError>, WireError> {
        let Some(left) = self.left.checked_sub(1) else {
            return Err(WireError::TooMany { what: "metadata entries", limit: METADATA_MAX });
        };
        self.left = left;
        let (mut kind, mut texts) = (0, [&[] as &[u8]; 3]);
        while !at.is_done() {
            match at.tag()? {
                0x08 => kind = at.varint()?.cast_signed(),
                0x12 => texts[0] = at.bytes()?,
                0x22 => texts[1] = at.bytes()?,
                0x2A => texts[2] = at.bytes()?,
                // Number 3 was never used.
                tag if tag >> 3 == 3 => at.skip_unknown(tag, 2)?,
                tag => at.skip_unknown(tag, 5)?,
            }
        }
        let [Ok(family), Ok(help), Ok(unit)] = texts.map(std::str::from_utf8) else {
            return Ok(Err(PartError::NotUtf8));
        };
        Ok(WrittenMetadata { family, kind: MetricType::from_number(kind), help, unit }.check())
    }
}

/// The metadata of a 2.0 series as sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct SentMetadata {
    kind: MetricType,
    help: u32,
    unit: u32,
}

impl SentMetadata {
    #[inline]
    pub(super) fn read(mut at: Cursor<'_>, symbols: usize) -> Result<Self, Malformed> {
        let mut sent = Self::default();
        let reference = |at: &mut Cursor<'_>| match u32::try_from(at.varint()?) {
            Ok(index) if (index as usize) < symbols || index == 0 => Ok(index),
            _ => Err(at.refuse("metadata refers to a symbol that the request does not have")),
        };
        while !at.is_done() {
            match at.tag()? {
                0x08 => sent.kind = MetricType::from_number(at.varint()?.cast_signed()),
                0x18 => sent.help = reference(&mut at)?,
                0x20 => sent.unit = reference(&mut at)?,
                // Number 2 was never used.
                tag if tag >> 3 == 2 => at.skip_unknown(tag, 1)?,
                tag => at.skip_unknown(tag, 4)?,
            }
        }
        Ok(sent)
    }
}

/// Hands on what the series of a 2.0 request say, once for each metric name as long as it is the same.
#[derive(Debug, Default)]
pub(super) struct SeriesMetadata {
    /// By the reference to the metric's name.
    seen: Vec<SentMetadata>,
}

impl SeriesMetadata {
    /// Returns the metadata of a series if it says something and this was not handed on before.
    #[inline]
    pub(super) fn first<'a>(
        &mut self,
        sent: SentMetadata,
        labels: &SymbolLabels<'_>,
        symbols: &SymbolTable<'a>,
    ) -> Option<Result<WrittenMetadata<'a>, PartError>> {
        let name = labels.metric_name()?;
        if self.seen.is_empty() {
            self.seen.resize(symbols.len(), SentMetadata::default());
        }
        let seen = &mut self.seen[name as usize];
        if *seen == sent {
            return None;
        }
        *seen = sent;
        let text = |index: u32| if index == 0 { Some("") } else { symbols.get(index) };
        let (Some(name), Some(help), Some(unit)) = (symbols.get(name), text(sent.help), text(sent.unit))
        else {
            return Some(Err(PartError::NotUtf8));
        };
        symbols.unfold(name.len() + help.len() + unit.len());
        let family = family_of(name, sent.kind);
        Some(WrittenMetadata { family, kind: sent.kind, help, unit }.check())
    }
}

/// Returns the family that a series of this type and name belongs to.
fn family_of(name: &str, kind: MetricType) -> &str {
    let endings: &[&str] = match kind {
        MetricType::Histogram => &["_bucket", "_sum", "_count"],
        MetricType::GaugeHistogram => &["_bucket", "_gsum", "_gcount", "_sum", "_count"],
        MetricType::Summary => &["_sum", "_count"],
        _ => &[],
    };
    let cut = endings.iter().find_map(|ending| name.strip_suffix(ending));
    cut.filter(|family| !family.is_empty()).unwrap_or(name)
}
