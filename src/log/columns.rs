//! The body of an entry: per tenant the series it declares and its samples, column by column.
//!
//! A body is a run of groups up to its end. One tenant may have several groups: batches of several requests are
//! laid side by side, not merged.

use hashbrown::HashMap;

use super::bytes::{Reader, put_varint, zigzag};
use super::error::CodecError;
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

/// A series whose labels are too large to be logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LabelsTooLarge {
    pub(super) bytes: usize,
}

/// Appends a group with the first samples of `samples` to a body and returns how many it took: all of them, or
/// as many as bring the body to about `body_bytes_target`, but at least one.
pub(super) fn encode_group(
    write: &TenantWrite<'_>,
    samples: &[LoggedSample],
    declared: &mut Declared,
    body_bytes_target: usize,
    body: &mut Vec<u8>,
) -> Result<usize, LabelsTooLarge> {
    let name = write.tenant.as_str().as_bytes();
    body.push(name.len() as u8);
    body.extend_from_slice(name);
    let taken = encode_declarations(write, samples, declared.of(write.tenant), body_bytes_target, body)?;
    encode_samples(&samples[..taken], body);
    Ok(taken)
}

fn encode_declarations(
    write: &TenantWrite<'_>,
    samples: &[LoggedSample],
    declared: &mut SeriesSet,
    body_bytes_target: usize,
    body: &mut Vec<u8>,
) -> Result<usize, LabelsTooLarge> {
    let count_at = body.len();
    body.extend_from_slice(&[0; 4]);
    let (mut count, mut previous, mut taken) = (0u32, 0i64, 0);
    for sample in samples {
        if taken > 0 && body.len() + taken * SAMPLE_BYTES_MAX >= body_bytes_target {
            break;
        }
        taken += 1;
        if declared.insert(sample.series) {
            let labels = (write.labels)(sample.series);
            let bytes = labels.as_bytes();
            if bytes.len() > LABELS_BYTES_MAX {
                return Err(LabelsTooLarge { bytes: bytes.len() });
            }
            put_varint(zigzag(i64::from(sample.series) - previous), body);
            put_varint(bytes.len() as u64, body);
            body.extend_from_slice(bytes);
            previous = i64::from(sample.series);
            count += 1;
        }
    }
    body[count_at..count_at + 4].copy_from_slice(&count.to_le_bytes());
    Ok(taken)
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
pub(super) fn decode_body(seq: u64, body: &[u8], declared: &mut Declared) -> Result<Entry, CodecError> {
    let mut reader = Reader::new(body);
    let mut tenants = Vec::new();
    while !reader.is_empty() {
        tenants.push(decode_group(&mut reader, declared)?);
    }
    Ok(Entry { seq, tenants })
}

fn decode_group(reader: &mut Reader<'_>, declared: &mut Declared) -> Result<TenantEntry, CodecError> {
    let name_len = usize::from(reader.u8()?);
    let name = std::str::from_utf8(reader.take(name_len)?).ok();
    let tenant = name
        .and_then(|name| TenantId::new(name).ok())
        .ok_or(CodecError::Malformed("a tenant name is not allowed"))?;
    let known = declared.of(&tenant);
    let declarations = decode_declarations(reader, known)?;
    let samples = decode_samples(reader)?;
    if !samples.iter().all(|s| known.contains(s.series)) {
        return Err(CodecError::Malformed("a sample's series was not declared"));
    }
    Ok(TenantEntry { tenant, declared: declarations, samples })
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
        let len = usize::try_from(reader.varint()?).map_err(|_| CodecError::Cut)?;
        let labels = Labels::from_canonical(reader.take(len)?)
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

fn series_number(previous: u32, delta: i64) -> Result<u32, CodecError> {
    i64::from(previous)
        .checked_add(delta)
        .and_then(|number| u32::try_from(number).ok())
        .ok_or(CodecError::Malformed("a series number is out of range"))
}
