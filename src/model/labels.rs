//! Label sets in one canonical byte form.
//!
//! The form is the protobuf encoding of `repeated Label labels = 1` with `Label {1 name, 2 value}`, which remote
//! write 1.0, remote read and StoreAPI all use: per label `0A <len> 0A <len> name 12 <len> value`, lengths as
//! shortest varints. A request that is already canonical is therefore found with one `memcmp`, and an answer is
//! written with one copy.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use xxhash_rust::xxh64::Xxh64;

/// The label that holds the metric's name.
pub const METRIC_NAME: &str = "__name__";

/// A label set: sorted by name, unique names, no empty values. Cloning copies a pointer.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Labels(Arc<[u8]>);

/// Why a label set was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// A label has an empty name.
    #[error("a label name is empty: give every label a name")]
    EmptyName,
    /// Two labels have the same name.
    #[error("label {0:?} appears twice: label names are unique within a series")]
    Duplicate(String),
    /// The set has no label with a value.
    #[error("the label set is empty: a series needs at least one label with a value")]
    EmptySet,
    /// The bytes are not the canonical form.
    #[error("the label bytes are malformed: {0}")]
    Malformed(&'static str),
}

impl Labels {
    /// Returns the label set without labels.
    #[must_use]
    pub fn empty() -> Self {
        Self(Arc::from([]))
    }

    /// Builds a label set from pairs in any order; pairs with an empty value are dropped.
    ///
    /// # Errors
    /// An empty name, or one name twice.
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, LabelError> {
        let mut pairs: Vec<(N, V)> = pairs.into_iter().collect();
        pairs.sort_by(|a, b| a.0.as_ref().cmp(b.0.as_ref()));
        let mut bytes = Vec::with_capacity(pairs.len() * 32);
        for (i, (name, value)) in pairs.iter().enumerate() {
            let name = name.as_ref();
            if name.is_empty() {
                return Err(LabelError::EmptyName);
            }
            if i > 0 && pairs[i - 1].0.as_ref() == name {
                return Err(LabelError::Duplicate(name.to_owned()));
            }
            if !value.as_ref().is_empty() {
                encode_label(name, value.as_ref(), &mut bytes);
            }
        }
        Ok(Self(Arc::from(bytes)))
    }

    /// Takes bytes that must already be the canonical form.
    ///
    /// # Errors
    /// Anything else: other fields, long varints, invalid UTF-8, unsorted or double names, empty values.
    pub fn from_canonical(bytes: &[u8]) -> Result<Self, LabelError> {
        let mut rest = bytes;
        let mut previous: Option<&str> = None;
        while !rest.is_empty() {
            let (name, value, tail) = decode_label(rest)?;
            if name.is_empty() {
                return Err(LabelError::EmptyName);
            }
            if value.is_empty() {
                return Err(LabelError::Malformed("empty value"));
            }
            match previous.map(|p| p.cmp(name)) {
                Some(Ordering::Equal) => return Err(LabelError::Duplicate(name.to_owned())),
                Some(Ordering::Greater) => return Err(LabelError::Malformed("names out of order")),
                _ => {}
            }
            previous = Some(name);
            rest = tail;
        }
        Ok(Self(Arc::from(bytes)))
    }

    /// Returns the canonical bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns whether there is no label.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Iterates over `(name, value)`, sorted by name.
    #[must_use]
    pub fn iter(&self) -> LabelsIter<'_> {
        LabelsIter { rest: &self.0 }
    }

    /// Iterates over the labels as they are encoded, name and value together, without decoding them.
    pub fn encoded(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.0[..];
        std::iter::from_fn(move || {
            let (label, tail) = take_field(rest, 0x0A).ok()?;
            rest = tail;
            Some(label)
        })
    }

    /// Returns the value of a label.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(n, _)| *n == name).map(|(_, v)| v)
    }

    /// Returns the value of `__name__`, or the empty string.
    #[must_use]
    pub fn metric_name(&self) -> &str {
        self.get(METRIC_NAME).unwrap_or("")
    }

    /// Returns xxh64 (seed 0) of `name 0xFF value 0xFF …`: the block's `_series` and StoreAPI's shard hash.
    #[must_use]
    pub fn series_hash(&self) -> u64 {
        let mut hash = Xxh64::new(0);
        for (name, value) in self.iter() {
            hash.update(name.as_bytes());
            hash.update(&[0xFF]);
            hash.update(value.as_bytes());
            hash.update(&[0xFF]);
        }
        hash.digest()
    }

    /// Returns this set with `external` laid over it (external labels win) and without the labels in `drop`.
    #[must_use]
    pub fn with_external(&self, external: &Labels, drop: &[String]) -> Labels {
        let kept = |name: &str| !drop.iter().any(|d| d == name);
        let mut bytes = Vec::with_capacity(self.0.len() + external.0.len());
        let (mut own, mut ext) = (self.iter().peekable(), external.iter().peekable());
        loop {
            let order = match (own.peek(), ext.peek()) {
                (Some(a), Some(b)) => a.0.cmp(b.0),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => break,
            };
            if order == Ordering::Equal {
                own.next();
            }
            let next = if order == Ordering::Less { own.next() } else { ext.next() };
            if let Some((name, value)) = next
                && kept(name)
            {
                encode_label(name, value, &mut bytes);
            }
        }
        Self(Arc::from(bytes))
    }
}

/// Appends one label in the canonical form.
pub fn encode_label(name: &str, value: &str, out: &mut Vec<u8>) {
    let inner = 2 + varint_len(name.len()) + name.len() + varint_len(value.len()) + value.len();
    if inner < 0x80 {
        // Nearly every label: all lengths are one byte. Assembling 2.0 series is bound by this.
        out.reserve(inner + 2);
        out.extend_from_slice(&[0x0A, inner as u8, 0x0A, name.len() as u8]);
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(&[0x12, value.len() as u8]);
        out.extend_from_slice(value.as_bytes());
        return;
    }
    out.push(0x0A);
    put_varint(inner, out);
    out.push(0x0A);
    put_varint(name.len(), out);
    out.extend_from_slice(name.as_bytes());
    out.push(0x12);
    put_varint(value.len(), out);
    out.extend_from_slice(value.as_bytes());
}

const fn varint_len(mut value: usize) -> usize {
    let mut len = 1;
    while value >= 0x80 {
        value >>= 7;
        len += 1;
    }
    len
}

fn put_varint(mut value: usize, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value as u8 & 0x7F) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads a shortest-form varint of at most four bytes (label sets are far smaller than 256 MiB).
fn take_length(bytes: &[u8]) -> Result<(usize, &[u8]), LabelError> {
    let mut value = 0usize;
    for (i, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * i);
        if byte & 0x80 == 0 {
            if i > 0 && *byte == 0 {
                return Err(LabelError::Malformed("a length is not in its shortest form"));
            }
            return Ok((value, &bytes[i + 1..]));
        }
    }
    Err(LabelError::Malformed("a length is cut off or too large"))
}

fn take_field(bytes: &[u8], tag: u8) -> Result<(&[u8], &[u8]), LabelError> {
    match bytes.split_first() {
        Some((t, rest)) if *t == tag => {
            let (len, rest) = take_length(rest)?;
            rest.split_at_checked(len).ok_or(LabelError::Malformed("a field is cut off"))
        }
        _ => Err(LabelError::Malformed("an unexpected field")),
    }
}

fn decode_label(bytes: &[u8]) -> Result<(&str, &str, &[u8]), LabelError> {
    let (label, tail) = take_field(bytes, 0x0A)?;
    let (name, rest) = take_field(label, 0x0A)?;
    let (value, rest) = take_field(rest, 0x12)?;
    if !rest.is_empty() {
        return Err(LabelError::Malformed("bytes after a value"));
    }
    let text = |b| std::str::from_utf8(b).map_err(|_| LabelError::Malformed("not UTF-8"));
    Ok((text(name)?, text(value)?, tail))
}

/// Iterator over the labels of a set.
#[derive(Debug, Clone)]
pub struct LabelsIter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for LabelsIter<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let (name, value, tail) = decode_label(self.rest).expect("Labels are canonical by construction");
        self.rest = tail;
        Some((name, value))
    }
}

impl<'a> IntoIterator for &'a Labels {
    type Item = (&'a str, &'a str);
    type IntoIter = LabelsIter<'a>;

    fn into_iter(self) -> LabelsIter<'a> {
        self.iter()
    }
}

impl Ord for Labels {
    /// Compares label by label as `(name, value)` bytes; a shorter prefix comes first (StoreAPI's order).
    fn cmp(&self, other: &Self) -> Ordering {
        let (mut left, mut right) = (&self.0[..], &other.0[..]);
        // Labels that are the same byte for byte are passed over without being decoded.
        while let (Ok((a, rest_of_left)), Ok((b, rest_of_right))) =
            (take_field(left, 0x0A), take_field(right, 0x0A))
        {
            if a != b {
                return compare_label(a, b);
            }
            (left, right) = (rest_of_left, rest_of_right);
        }
        left.len().cmp(&right.len())
    }
}

/// Compares two labels by name and value.
fn compare_label(a: &[u8], b: &[u8]) -> Ordering {
    let split = |label| take_field(label, 0x0A).unwrap_or_default();
    let ((name_a, value_a), (name_b, value_b)) = (split(a), split(b));
    // The values follow their names in a field of their own, whose length comes first.
    let value = |field| take_field(field, 0x12).map_or(&[][..], |(value, _)| value);
    name_a.cmp(name_b).then_with(|| value(value_a).cmp(value(value_b)))
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Labels {
    /// Writes `{a="1", b="2"}`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, (name, value)) in self.iter().enumerate() {
            let comma = if i > 0 { ", " } else { "" };
            write!(f, "{comma}{name}={value:?}")?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
