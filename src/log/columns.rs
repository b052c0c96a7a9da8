//! The body of an entry: per tenant the series it declares, its float samples column by column, and its other kinds.
//!
//! A body is a run of groups up to its end. One tenant may have several groups: batches of several requests are
//! laid side by side, not merged.

use hashbrown::HashMap;

use super::bytes::{Reader, put_varint, zigzag};
use super::error::CodecError;
use super::sections::{DecodedSections, SECTIONS_SINCE, Sections};
use super::series_set::SeriesSet;
use super::{Entry, LoggedSample, TenantEntry, TenantWrite};
use crate::model::{Labels, Sample, TenantId};

/// The most label bytes of one series.
pub(super) const LABELS_BYTES_MAX: usize = 1 << 20;

/// A sample takes at least this: a byte each of number and time, eight of value.
const SAMPLE_BYTES_MIN: usize = 10;
/// A declaration takes at least this: a byte each of number and length.
const DECLARATION_BYTES_MIN: usize = 2;
/// What a sample takes at most, to tell when a body is full before its columns are written.
const SAMPLE_BYTES_MAX: usize = 5 + 10 + 8 + 10 + 1;

const HAS_STARTS: u8 = 1;

/// The series declared so far in a segment, by tenant.
#[derive(Debug, Default)]
pub(super) struct Declared(HashMap<TenantId, SeriesSet>);

impl Declared {
    fn of(&mut self, tenant: &TenantId) -> &mut SeriesSet {
        self.0.entry(tenant.clone()).or_default()
    }
}

/// Labels, or another single part, that are too large to be logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LabelsTooLarge {
    pub(super) bytes: usize,
}

/// Writes the declarations of one group.
struct Declarer<'a> {
    write: &'a TenantWrite<'a>,
    declared: &'a mut SeriesSet,
    count: u32,
    previous: i64,
}

impl Declarer<'_> {
    /// Declares a series unless the segment knows it.
    #[inline]
    fn declare(&mut self, series: u32, body: &mut Vec<u8>) -> Result<(), LabelsTooLarge> {
        if self.declared.insert(series) {
            let labels = (self.write.labels)(series);
            let bytes = labels.as_bytes();
            if bytes.len() > LABELS_BYTES_MAX {
                return Err(LabelsTooLarge { bytes: bytes.len() });
            }
            put_varint(zigzag(i64::from(series) - self.previous), body);
            put_varint(bytes.len() as u64, body);
            body.extend_from_slice(bytes);
            self.previous = i64::from(series);
            self.count += 1;
        }
        Ok(())
    }
}

/// Appends a group with the first parts of `write` to a body and returns what is left: nothing, or what did not fit
/// in about `body_bytes_target`. At least one part is taken.
pub(super) fn encode_group<'a>(
    write: &TenantWrite<'a>,
    declared: &mut Declared,
    body_bytes_target: usize,
    body: &mut Vec<u8>,
) -> Result<TenantWrite<'a>, LabelsTooLarge> {
    let name = write.tenant.as_str().as_bytes();
    body.push(name.len() as u8);
    body.extend_from_slice(name);
    let count_at = body.len();
    body.extend_from_slice(&[0; 4]);
    let mut declarer = Declarer { write, declared: declared.of(write.tenant), count: 0, previous: 0 };
    let mut taken = 0;
    for sample in write.samples {
        if taken > 0 && body.len() + taken * SAMPLE_BYTES_MAX >= body_bytes_target {
            break;
        }
        taken += 1;
        declarer.declare(sample.series, body)?;
    }
    let (samples, samples_left) = write.samples.split_at(taken);
    let mut rest = TenantWrite { samples: samples_left, ..*write };
    let mut sections = Sections::default();
    if samples_left.is_empty() && !rest.is_empty() {
        let room = body_bytes_target.saturating_sub(taken * SAMPLE_BYTES_MAX);
        rest =
            sections.fill(rest, room, &mut |series| declarer.declare(series, body).map(|()| body.len()))?;
    }
    body[count_at..count_at + 4].copy_from_slice(&declarer.count.to_le_bytes());
    encode_samples(samples, body);
    sections.finish(body);
    Ok(rest)
}

fn encode_samples(samples: &[LoggedSample], body: &mut Vec<u8>) {
    // A group is bounded by the body's target, far below 32 bits.
    body.extend_from_slice(&(samples.len() as u32).to_le_bytes());
    let has_starts = samples.iter().any(|s| s.sample.start_ms != 0);
    body.push(if has_starts { HAS_STARTS } else { 0 });
    body.reserve(samples.len() * SAMPLE_BYTES_MIN);
    let mut previous = 0i64;
    for sample in samples {
        put_varint(zigzag(i64::from(sample.series) - previous), body);
        previous = i64::from(sample.series);
    }
    let mut previous = 0i64;
    for sample in samples {
        put_varint(zigzag(sample.sample.ts_ms.wrapping_sub(previous)), body);
        previous = sample.sample.ts_ms;
    }
    for sample in samples {
        body.extend_from_slice(&sample.sample.value.to_bits().to_le_bytes());
    }
    if has_starts {
        encode_starts(samples, body);
    }
}

/// A bit per sample says whether it has a start timestamp; those that have one follow.
fn encode_starts(samples: &[LoggedSample], body: &mut Vec<u8>) {
    for eight in samples.chunks(8) {
        let bits = eight.iter().enumerate().map(|(i, s)| u8::from(s.sample.start_ms != 0) << i);
        body.push(bits.fold(0, |byte, bit| byte | bit));
    }
    let mut previous = 0i64;
    for start_ms in samples.iter().map(|s| s.sample.start_ms).filter(|start_ms| *start_ms != 0) {
        put_varint(zigzag(start_ms.wrapping_sub(previous)), body);
        previous = start_ms;
    }
}

/// Decodes a body. `declared` holds what earlier entries of the segment declared, and learns what this one does.
pub(super) fn decode_body(
    (seq, version): (u64, u16),
    body: &[u8],
    declared: &mut Declared,
) -> Result<Entry, CodecError> {
    let mut reader = Reader::new(body);
    let mut tenants = Vec::new();
    while !reader.is_empty() {
        tenants.push(decode_group(&mut reader, version, declared)?);
    }
    Ok(Entry { seq, tenants })
}

fn decode_group(
    reader: &mut Reader<'_>,
    version: u16,
    declared: &mut Declared,
) -> Result<TenantEntry, CodecError> {
    let name_len = usize::from(reader.u8()?);
    let name = std::str::from_utf8(reader.take(name_len)?).ok();
    let tenant = name
        .and_then(|name| TenantId::new(name).ok())
        .ok_or(CodecError::Malformed("a tenant name is not allowed"))?;
    let known = declared.of(&tenant);
    let declarations = decode_declarations(reader, known)?;
    let samples = decode_samples(reader)?;
    let sections =
        if version >= SECTIONS_SINCE { DecodedSections::read(reader)? } else { Default::default() };
    let DecodedSections { histograms, exemplars, metadata } = sections;
    let all_known = samples.iter().all(|s| known.contains(s.series))
        && histograms.iter().all(|h| known.contains(h.series))
        && exemplars.iter().all(|e| known.contains(e.series));
    if !all_known {
        return Err(CodecError::Malformed("a sample's series was not declared"));
    }
    Ok(TenantEntry { tenant, declared: declarations, samples, histograms, exemplars, metadata })
}

fn decode_declarations(
    reader: &mut Reader<'_>,
    known: &mut SeriesSet,
) -> Result<Vec<(u32, Labels)>, CodecError> {
    let count = reader.count(DECLARATION_BYTES_MIN)?;
    let mut declarations = Vec::with_capacity(count);
    let mut previous = 0;
    for _ in 0..count {
        let number = series_number(previous, reader.zigzag()?)?;
        let labels = Labels::from_canonical(reader.text()?)
            .map_err(|_| CodecError::Malformed("a label set is not in canonical form"))?;
        if !known.insert(number) {
            return Err(CodecError::Malformed("a series is declared twice"));
        }
        declarations.push((number, labels));
        previous = number;
    }
    Ok(declarations)
}

fn decode_samples(reader: &mut Reader<'_>) -> Result<Vec<LoggedSample>, CodecError> {
    let count = reader.count(1)?;
    let flags = reader.u8()?;
    if flags & !HAS_STARTS != 0 {
        return Err(CodecError::Malformed("an unknown flag is set"));
    }
    if count > reader.remaining() / SAMPLE_BYTES_MIN {
        return Err(CodecError::Cut);
    }
    let mut samples = Vec::with_capacity(count);
    let mut previous = 0;
    for _ in 0..count {
        previous = series_number(previous, reader.zigzag()?)?;
        samples.push(LoggedSample { series: previous, sample: Sample::new(0, 0.0) });
    }
    let mut previous = 0i64;
    for sample in &mut samples {
        previous = previous.wrapping_add(reader.zigzag()?);
        sample.sample.ts_ms = previous;
    }
    for sample in &mut samples {
        sample.sample.value = f64::from_bits(reader.u64()?);
    }
    if flags & HAS_STARTS != 0 {
        decode_starts(reader, &mut samples)?;
    }
    Ok(samples)
}

fn decode_starts(reader: &mut Reader<'_>, samples: &mut [LoggedSample]) -> Result<(), CodecError> {
    let bitmap = reader.take(samples.len().div_ceil(8))?;
    let mut previous = 0i64;
    for (i, sample) in samples.iter_mut().enumerate() {
        if bitmap[i / 8] & (1 << (i % 8)) != 0 {
            previous = previous.wrapping_add(reader.zigzag()?);
            if previous == 0 {
                return Err(CodecError::Malformed("a start timestamp is zero"));
            }
            sample.sample.start_ms = previous;
        }
    }
    Ok(())
}

pub(super) fn series_number(previous: u32, delta: i64) -> Result<u32, CodecError> {
    i64::from(previous)
        .checked_add(delta)
        .and_then(|number| u32::try_from(number).ok())
        .ok_or(CodecError::Malformed("a series number is out of range"))
}
