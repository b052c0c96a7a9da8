//! Label sets as records store them.

use std::borrow::Cow;
use std::fmt;

use super::RecordError;
use super::cursor::{Cursor, put_text, put_uvarint};
use crate::model::{LabelError, Labels};

/// A label set in its stored form: `count, (length, name, length, value)*`. Its names and values are bytes, in the
/// order of storing; [`Self::to_labels`] holds it against our rules.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct WalLabels<'a>(Cow<'a, [u8]>);

impl<'a> WalLabels<'a> {
    pub(super) fn take(cursor: &mut Cursor<'a>) -> Result<Self, RecordError> {
        let before = cursor.rest();
        skip_labels(cursor)?;
        Ok(Self(Cow::Borrowed(&before[..before.len() - cursor.rest().len()])))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Makes a stored label set from one of ours.
    #[must_use]
    pub fn from_labels(labels: &Labels) -> WalLabels<'static> {
        let mut bytes = Vec::with_capacity(labels.as_bytes().len());
        put_uvarint(labels.iter().count() as u64, &mut bytes);
        for (name, value) in labels {
            put_text(name.as_bytes(), &mut bytes);
            put_text(value.as_bytes(), &mut bytes);
        }
        WalLabels(Cow::Owned(bytes))
    }

    /// Returns the label set as one of ours. Labels without a value are dropped, names are sorted.
    ///
    /// # Errors
    /// Names or values that are not UTF-8, an empty name, or one name twice.
    pub fn to_labels(&self) -> Result<Labels, RecordError> {
        let text = |bytes| std::str::from_utf8(bytes).map_err(|_| LabelError::Malformed("not UTF-8"));
        let pairs: Result<Vec<_>, LabelError> =
            self.iter().map(|(name, value)| Ok((text(name)?, text(value)?))).collect();
        Ok(Labels::from_pairs(pairs?)?)
    }

    /// Iterates over names and values as they are stored.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = &*self.0;
        let count = take_length(&mut rest).unwrap_or(0);
        (0..count).map_while(move |_| {
            let name = take_text(&mut rest)?;
            Some((name, take_text(&mut rest)?))
        })
    }

    /// Returns the label set with bytes of its own.
    #[must_use]
    pub fn into_owned(self) -> WalLabels<'static> {
        WalLabels(Cow::Owned(self.0.into_owned()))
    }
}

impl fmt::Debug for WalLabels<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes| String::from_utf8_lossy(bytes);
        f.debug_map().entries(self.iter().map(|(name, value)| (text(name), text(value)))).finish()
    }
}

/// Passes over a label set, checking that it is whole.
pub(super) fn skip_labels(cursor: &mut Cursor<'_>) -> Result<(), RecordError> {
    for _ in 0..cursor.count(2)? {
        cursor.text()?;
        cursor.text()?;
    }
    Ok(())
}

fn take_length(rest: &mut &[u8]) -> Option<usize> {
    let mut value = 0u64;
    for (i, byte) in rest.iter().take(10).enumerate() {
        value |= u64::from(*byte & 0x7F) << (7 * i);
        if *byte < 0x80 {
            *rest = &rest[i + 1..];
            return usize::try_from(value).ok();
        }
    }
    None
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = take_length(rest)?;
    let (text, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    Some(text)
}
