//! From labels as sent to a canonical label set: what a series goes through that was not found by its bytes.

use std::borrow::Cow;

use super::Limits;
use crate::model::{ErrorKind, LabelError, Labels};
use crate::wire::error::Malformed;
use crate::wire::protobuf::Cursor;

/// Labels without a value do not count against the limit, up to this many times the limit.
const FIELDS_PER_LABEL_MAX: usize = 16;
/// How much of a name is repeated in a message.
const SHOWN_NAME_BYTES: usize = 64;
/// How long the description of a label set may get before it is cut.
const SHOWN_LABELS_BYTES: usize = 200;

/// Why one series was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SeriesError {
    /// It has more labels than allowed.
    #[error(
        "the series has more than {limit} labels: drop some with write_relabel_configs or raise the limit"
    )]
    TooManyLabels {
        /// How many are allowed.
        limit: usize,
    },
    /// A label's name is too long.
    #[error("label name {name:?} has {bytes} bytes and {limit} are allowed")]
    NameTooLong {
        /// The beginning of the name.
        name: String,
        /// Its length.
        bytes: usize,
        /// The length that is allowed.
        limit: usize,
    },
    /// A label's value is too long.
    #[error("the value of label {name:?} has {bytes} bytes and {limit} are allowed")]
    ValueTooLong {
        /// The label's name.
        name: String,
        /// The value's length.
        bytes: usize,
        /// The length that is allowed.
        limit: usize,
    },
    /// A name or value is not UTF-8.
    #[error("a label name or value is not UTF-8: send label names and values as UTF-8")]
    NotUtf8,
    /// Remote write 2.0 wants a sample or a histogram in every series.
    #[error("the series has no samples and no histograms: remote write 2.0 wants one in every series")]
    NoSamples,
    /// The labels are no label set.
    #[error(transparent)]
    Labels(#[from] LabelError),
}

impl SeriesError {
    /// Returns what the failure asks of the sender.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

impl From<Malformed> for SeriesError {
    fn from(malformed: Malformed) -> Self {
        Self::Labels(LabelError::Malformed(malformed.what))
    }
}

/// Builds the label set of a series from its labels as sent: sorted, without the labels that have no value.
///
/// # Errors
/// Labels over a limit, empty, double or non-UTF-8 names, a set without any value, malformed bytes.
pub(super) fn canonical_labels(labels_as_sent: &[u8], limits: &Limits) -> Result<Labels, SeriesError> {
    let mut pairs = Vec::new();
    let mut gate = LabelGate::new(limits);
    let mut at = Cursor::new(labels_as_sent);
    while let Some((name, value)) = next_label(&mut at)? {
        gate.admit(name, value)?;
        let text = |bytes| std::str::from_utf8(bytes).map_err(|_| SeriesError::NotUtf8);
        pairs.push((text(name)?, text(value)?));
    }
    let labels = Labels::from_pairs(pairs)?;
    if labels.is_empty() { Err(LabelError::EmptySet.into()) } else { Ok(labels) }
}

/// Writes labels as sent for a message: `{a="1", b="2"}`, cut after about 200 bytes, whatever they hold.
pub(super) fn describe_labels(labels_as_sent: &[u8]) -> String {
    let mut text = String::new();
    let mut description = Description::begin(&mut text);
    let mut at = Cursor::new(labels_as_sent);
    while let Ok(Some((name, value))) = next_label(&mut at) {
        if !description.push(name, value) {
            break;
        }
    }
    description.end();
    text
}

/// Name and value of a label as sent.
pub(super) type SentLabel<'a> = (&'a [u8], &'a [u8]);

/// Reads the next label of a series; of a field that comes twice the last stays, as in all of protobuf.
fn next_label<'a>(at: &mut Cursor<'a>) -> Result<Option<SentLabel<'a>>, Malformed> {
    if at.is_done() {
        return Ok(None);
    }
    if at.tag()? != 0x0A {
        return Err(at.refuse("a field between labels is none"));
    }
    read_label(at.message()?).map(Some)
}

/// Reads the fields of one label.
pub(super) fn read_label<'a>(mut label: Cursor<'a>) -> Result<SentLabel<'a>, Malformed> {
    let (mut name, mut value) = (&[] as &[u8], &[] as &[u8]);
    while !label.is_done() {
        match label.tag()? {
            0x0A => name = label.bytes()?,
            0x12 => value = label.bytes()?,
            tag => label.skip_unknown(tag, 2)?,
        }
    }
    Ok((name, value))
}

/// Holds the labels of one series against the limits, before anything is copied.
#[derive(Debug)]
pub(super) struct LabelGate<'a> {
    limits: &'a Limits,
    fields: usize,
    labels: usize,
}

impl<'a> LabelGate<'a> {
    pub(super) const fn new(limits: &'a Limits) -> Self {
        Self { limits, fields: 0, labels: 0 }
    }

    /// Returns how many labels, with and without a value, a series may be sent with.
    pub(super) const fn fields_max(limits: &Limits) -> usize {
        limits.labels_max.saturating_mul(FIELDS_PER_LABEL_MAX)
    }

    pub(super) fn admit(&mut self, name: &[u8], value: &[u8]) -> Result<(), SeriesError> {
        self.fields += 1;
        self.labels += usize::from(!value.is_empty());
        let Limits { labels_max, name_bytes_max, value_bytes_max } = *self.limits;
        if self.labels > labels_max || self.fields > Self::fields_max(self.limits) {
            return Err(SeriesError::TooManyLabels { limit: labels_max });
        }
        if name.len() > name_bytes_max {
            let (name, bytes) = (beginning(name, SHOWN_NAME_BYTES).into_owned(), name.len());
            return Err(SeriesError::NameTooLong { name, bytes, limit: name_bytes_max });
        }
        if value.len() > value_bytes_max {
            let (name, bytes) = (beginning(name, SHOWN_NAME_BYTES).into_owned(), value.len());
            return Err(SeriesError::ValueTooLong { name, bytes, limit: value_bytes_max });
        }
        Ok(())
    }
}

fn beginning(bytes: &[u8], len_max: usize) -> Cow<'_, str> {
    String::from_utf8_lossy(&bytes[..bytes.len().min(len_max)])
}

/// A label set being written for a message, cut when it gets long.
#[derive(Debug)]
pub(super) struct Description<'a> {
    text: &'a mut String,
    cut: bool,
}

impl<'a> Description<'a> {
    pub(super) fn begin(text: &'a mut String) -> Self {
        text.clear();
        text.push('{');
        Self { text, cut: false }
    }

    /// Writes one label; returns whether there is room for more.
    pub(super) fn push(&mut self, name: &[u8], value: &[u8]) -> bool {
        let comma = if self.text.len() > 1 { ", " } else { "" };
        let (name, value) = (beginning(name, SHOWN_LABELS_BYTES), beginning(value, SHOWN_LABELS_BYTES));
        self.text.push_str(&format!("{comma}{}={value:?}", name.escape_debug()));
        self.cut = self.text.len() > SHOWN_LABELS_BYTES;
        if self.cut {
            self.text.truncate(self.text.floor_char_boundary(SHOWN_LABELS_BYTES));
        }
        !self.cut
    }

    pub(super) fn end(self) {
        self.text.push_str(if self.cut { "…}" } else { "}" });
    }
}
