//! What fuzzing runs over segments and records.

use super::{Compression, PAGE_BYTES, Record, SegmentReader, SegmentWriter, Step, decode_samples, summarize};

/// Reads arbitrary bytes as a segment that begins at some offset. What can be read must come back from a segment of
/// our own writing; positions must grow, and the two ways of reading must agree.
///
/// # Panics
/// When one of these does not hold.
pub fn fuzz_wal_segment(data: &[u8]) {
    let offsets = [0, 1, 7, PAGE_BYTES as u64 - 9, (PAGE_BYTES * 4095) as u64];
    let start = data.first().map_or(0, |byte| offsets[usize::from(*byte) % offsets.len()]);
    for start in [0, start] {
        let mut reader = SegmentReader::new(data, start);
        let mut bounds = SegmentReader::new(data, start);
        let mut writer = SegmentWriter::new(Compression::None);
        let mut read = Vec::new();
        let mut end = start;
        while let Step::Record(record) = reader.next_record() {
            let Step::Record(found) = bounds.next_bounds() else { panic!("a record without bounds") };
            assert_eq!((record.start, record.end), (found.start, found.end));
            assert!(record.start >= end && record.end > record.start);
            end = record.end;
            assert!(end <= start + data.len() as u64);
            writer.append(&record.data);
            read.push(record.data);
        }
        assert_eq!(reader.offset(), end);
        let written = writer.finish();
        let mut again = SegmentReader::new(&written, 0);
        for data in read {
            let Step::Record(record) = again.next_record() else { panic!("a written record is gone") };
            assert_eq!(record.data, data);
        }
        assert!(matches!(again.next_record(), Step::End { .. }));
    }
}

/// Decodes arbitrary bytes as a record. What decodes must come back from its own encoding, and its summary must
/// agree.
///
/// # Panics
/// When one of these does not hold.
pub fn fuzz_wal_record(data: &[u8]) {
    let decoded = Record::decode(data);
    let summary = summarize(data);
    assert_eq!(decoded.is_ok(), summary.is_ok(), "decoding and summing up disagree");
    let Ok(record) = decoded else { return };
    let mut encoded = Vec::new();
    record.encode(&mut encoded);
    let again = Record::decode(&encoded).expect("what was encoded decodes");
    assert_eq!(again, record);
    assert_eq!(summarize(&encoded), summary);
    if let Record::Samples(samples) | Record::SamplesV2(samples) = &record {
        assert_eq!(decode_samples(data, |_| {}), Ok(samples.len()));
    }
    for plain in record.without_start_times() {
        encoded.clear();
        plain.encode(&mut encoded);
        assert_eq!(Record::decode(&encoded).as_ref(), Ok(&plain));
    }
}
