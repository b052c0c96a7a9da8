//! The sections behind the float samples of a group: histograms, exemplars and metadata, row by row.

use super::bytes::{Reader, put_varint, zigzag};
use super::columns::{LABELS_BYTES_MAX, LabelsTooLarge, series_number};
use super::error::CodecError;
use super::{LoggedExemplar, LoggedHistogram, TenantWrite};
use crate::model::{Exemplar, HistogramSample, Labels, Metadata, MetadataEntry, MetricType};
use crate::tsdb::wal::{decode_histogram, encode_histogram};

/// The first version of the format whose groups have sections.
pub(super) const SECTIONS_SINCE: u16 = 2;

/// The sections in their order; the bit of one says that it is there.
const HISTOGRAMS: u8 = 1;
const EXEMPLARS: u8 = 1 << 1;
const METADATA: u8 = 1 << 2;

// Numbers and times of a byte each; a histogram without buckets; a value and a length; three lengths and a type.
const HISTOGRAM_BYTES_MIN: usize = 3 + 25;
const EXEMPLAR_BYTES_MIN: usize = 2 + 8 + 1;
const METADATA_BYTES_MIN: usize = 5;
/// Rows are larger in memory than their least bytes: room for more is made as they are read.
const ROWS_ALLOCATED: usize = 1024;

/// The rows of one section while they are gathered.
#[derive(Debug, Default)]
struct Rows {
    count: u32,
    series: i64,
    ts_ms: i64,
    bytes: Vec<u8>,
}

impl Rows {
    fn begin(&mut self, series: u32, ts_ms: i64) {
        self.count += 1;
        put_varint(zigzag(i64::from(series) - self.series), &mut self.bytes);
        put_varint(zigzag(ts_ms.wrapping_sub(self.ts_ms)), &mut self.bytes);
        (self.series, self.ts_ms) = (i64::from(series), ts_ms);
    }

    fn text(&mut self, text: &[u8]) {
        put_varint(text.len() as u64, &mut self.bytes);
        self.bytes.extend_from_slice(text);
    }
}

/// The sections of a group while they are gathered.
#[derive(Debug, Default)]
pub(super) struct Sections {
    histograms: Rows,
    exemplars: Rows,
    metadata: Rows,
}

impl Sections {
    /// Takes parts until a body has about `room` bytes and returns what is left. `declare` declares a series and
    /// returns the bytes of the body so far.
    pub(super) fn fill<'a>(
        &mut self,
        mut write: TenantWrite<'a>,
        room: usize,
        declare: &mut dyn FnMut(u32) -> Result<usize, LabelsTooLarge>,
    ) -> Result<TenantWrite<'a>, LabelsTooLarge> {
        let mut body = 0;
        while let Some((first, rest)) = write.histograms.split_first()
            && self.has_room(body, room)
        {
            body = declare(first.series)?;
            self.push_histogram(&first.sample, first.series)?;
            write.histograms = rest;
        }
        while let Some((first, rest)) = write.exemplars.split_first()
            && self.has_room(body, room)
        {
            body = declare(first.series)?;
            self.push_exemplar(&first.exemplar, first.series)?;
            write.exemplars = rest;
        }
        while let Some((first, rest)) = write.metadata.split_first()
            && self.has_room(body, room)
        {
            self.push_metadata(first)?;
            write.metadata = rest;
        }
        Ok(write)
    }

    fn has_room(&self, body: usize, room: usize) -> bool {
        let gathered = self.histograms.bytes.len() + self.exemplars.bytes.len() + self.metadata.bytes.len();
        gathered == 0 || body + gathered < room
    }

    fn push_histogram(&mut self, sample: &HistogramSample, series: u32) -> Result<(), LabelsTooLarge> {
        let rows = &mut self.histograms;
        rows.begin(series, sample.ts_ms);
        put_varint(zigzag(sample.start_ms), &mut rows.bytes);
        let before = rows.bytes.len();
        encode_histogram(&sample.histogram, &mut rows.bytes);
        check_size(rows.bytes.len() - before)
    }

    fn push_exemplar(&mut self, exemplar: &Exemplar, series: u32) -> Result<(), LabelsTooLarge> {
        let rows = &mut self.exemplars;
        rows.begin(series, exemplar.ts_ms);
        rows.bytes.extend_from_slice(&exemplar.value.to_bits().to_le_bytes());
        rows.text(exemplar.labels.as_bytes());
        check_size(exemplar.labels.as_bytes().len())
    }

    fn push_metadata(&mut self, entry: &MetadataEntry) -> Result<(), LabelsTooLarge> {
        let rows = &mut self.metadata;
        let MetadataEntry { family, since_ms, metadata } = entry;
        rows.begin(u32::from(metadata.kind.number()), *since_ms);
        for text in [family, &metadata.help, &metadata.unit] {
            rows.text(text.as_bytes());
        }
        check_size(family.len() + metadata.help.len() + metadata.unit.len())
    }

    /// Appends the sections to a body.
    pub(super) fn finish(self, body: &mut Vec<u8>) {
        let all = [(HISTOGRAMS, self.histograms), (EXEMPLARS, self.exemplars), (METADATA, self.metadata)];
        body.push(all.iter().filter(|(_, rows)| rows.count > 0).fold(0, |flags, (flag, _)| flags | flag));
        for (_, rows) in all.iter().filter(|(_, rows)| rows.count > 0) {
            body.extend_from_slice(&rows.count.to_le_bytes());
            body.extend_from_slice(&rows.bytes);
        }
    }
}

fn check_size(bytes: usize) -> Result<(), LabelsTooLarge> {
    if bytes > LABELS_BYTES_MAX { Err(LabelsTooLarge { bytes }) } else { Ok(()) }
}

/// The sections of a group, read back.
#[derive(Debug, Default)]
pub(super) struct DecodedSections {
    pub(super) histograms: Vec<LoggedHistogram>,
    pub(super) exemplars: Vec<LoggedExemplar>,
    pub(super) metadata: Vec<MetadataEntry>,
}

impl DecodedSections {
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let flags = reader.u8()?;
        if flags & !(HISTOGRAMS | EXEMPLARS | METADATA) != 0 {
            return Err(CodecError::Malformed("an unknown section is there"));
        }
        let mut sections = Self::default();
        if flags & HISTOGRAMS != 0 {
            sections.histograms = rows(reader, HISTOGRAM_BYTES_MIN, read_histogram)?;
        }
        if flags & EXEMPLARS != 0 {
            sections.exemplars = rows(reader, EXEMPLAR_BYTES_MIN, read_exemplar)?;
        }
        if flags & METADATA != 0 {
            sections.metadata = rows(reader, METADATA_BYTES_MIN, read_metadata)?;
        }
        Ok(sections)
    }
}

/// Reads the rows of a section; `one` gets the number and the time that each begins with.
fn rows<T>(
    reader: &mut Reader<'_>,
    least_bytes: usize,
    one: fn(&mut Reader<'_>, u32, i64) -> Result<T, CodecError>,
) -> Result<Vec<T>, CodecError> {
    let count = reader.count(least_bytes)?;
    let mut read = Vec::with_capacity(count.min(ROWS_ALLOCATED));
    let (mut number, mut ts_ms) = (0, 0i64);
    for _ in 0..count {
        number = series_number(number, reader.zigzag()?)?;
        ts_ms = ts_ms.wrapping_add(reader.zigzag()?);
        read.push(one(reader, number, ts_ms)?);
    }
    Ok(read)
}

fn read_histogram(reader: &mut Reader<'_>, series: u32, ts_ms: i64) -> Result<LoggedHistogram, CodecError> {
    let start_ms = reader.zigzag()?;
    let damaged = CodecError::Malformed("a histogram does not read");
    let (histogram, bytes) = decode_histogram(reader.rest()).map_err(|_| damaged)?;
    reader.take(bytes)?;
    // What encodes histograms later relies on it.
    histogram
        .check_layout()
        .map_err(|_| CodecError::Malformed("a histogram's spans do not fit its buckets"))?;
    Ok(LoggedHistogram { series, sample: HistogramSample { ts_ms, start_ms, histogram } })
}

fn read_exemplar(reader: &mut Reader<'_>, series: u32, ts_ms: i64) -> Result<LoggedExemplar, CodecError> {
    let value = f64::from_bits(reader.u64()?);
    let labels = Labels::from_canonical(reader.text()?)
        .map_err(|_| CodecError::Malformed("the labels of an exemplar are not in canonical form"))?;
    Ok(LoggedExemplar { series, exemplar: Exemplar { labels, value, ts_ms } })
}

fn read_metadata(reader: &mut Reader<'_>, kind: u32, since_ms: i64) -> Result<MetadataEntry, CodecError> {
    let mut texts = [(); 3].map(|()| String::new());
    for text in &mut texts {
        let bytes = std::str::from_utf8(reader.text()?);
        *text = bytes.map_err(|_| CodecError::Malformed("metadata is not UTF-8"))?.to_owned();
    }
    let [family, help, unit] = texts;
    let kind = MetricType::from_number(i64::from(kind));
    Ok(MetadataEntry { family, since_ms, metadata: Metadata { kind, help, unit } })
}
