use proptest::prelude::*;

use super::*;

const PAGE: u64 = PAGE_BYTES as u64;

/// Bytes that compress a little or not at all.
fn bytes_of(len: usize, seed: u8) -> Vec<u8> {
    let mut state = u64::from(seed) * 2 + 1;
    let next = |_| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        if seed & 1 == 0 { (state >> 60) as u8 } else { (state >> 56) as u8 }
    };
    (0..len).map(next).collect()
}

/// Lengths around everything that matters: nothing, a page's end, several pages.
fn any_records() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let len = prop_oneof![
        4 => 0usize..40,
        4 => 0usize..2_000,
        3 => PAGE_BYTES - 20..PAGE_BYTES + 20,
        1 => 2 * PAGE_BYTES - 30..2 * PAGE_BYTES + 30,
        1 => 0usize..150_000,
    ];
    prop::collection::vec((len, any::<u8>()).prop_map(|(len, seed)| bytes_of(len, seed)), 1..12)
}

fn any_compression() -> impl Strategy<Value = Compression> {
    prop_oneof![Just(Compression::None), Just(Compression::Snappy)]
}

fn write(records: &[Vec<u8>], offset: u64, compression: Compression) -> Vec<u8> {
    let mut writer = SegmentWriter::at(offset, compression);
    let mut out = Vec::new();
    for (i, record) in records.iter().enumerate() {
        writer.append(record);
        if i % 3 == 0 {
            out.extend(writer.take());
        }
    }
    out.extend(writer.take());
    assert_eq!(writer.len(), offset + out.len() as u64);
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn records_come_back_from_any_offset(
        records in any_records(), offset in 0..2 * PAGE, compression in any_compression(),
    ) {
        let bytes = write(&records, offset, compression);
        let (read, last) = read_all(&bytes, offset);
        prop_assert_eq!(last, Step::End { offset: read.last().map_or(0, |r| r.1) });
        let data: Vec<_> = read.into_iter().map(|r| r.2).collect();
        prop_assert_eq!(data, records);
    }

    #[test]
    fn a_tail_cut_anywhere_gives_its_whole_records_and_goes_on_from_there(
        records in any_records(), offset in 0..PAGE, cut in 0.0..1.0f64, compression in any_compression(),
    ) {
        let bytes = write(&records, offset, compression);
        let (all, _) = read_all(&bytes, offset);
        let cut = (bytes.len() as f64 * cut) as usize;
        let cut_offset = offset + cut as u64;
        let (read, last) = read_all(&bytes[..cut], offset);
        let whole = all.iter().take_while(|r| r.1 <= cut_offset).count();
        prop_assert_eq!(&read[..], &all[..whole]);
        let end = read.last().map_or(offset, |r| r.1);
        let begun = all[whole..].first().filter(|next| next.0 < cut_offset);
        let expected = begun.map_or(Step::End { offset: end }, |next| Step::Incomplete { offset: next.0 });
        prop_assert_eq!(last, expected);
        let (rest, _) = read_all(&bytes[(end - offset) as usize..], end);
        prop_assert_eq!(&rest[..], &all[whole..]);
    }

    #[test]
    fn bounds_are_those_of_the_records(records in any_records(), compression in any_compression()) {
        let bytes = write(&records, 0, compression);
        let mut reader = SegmentReader::new(&bytes, 0);
        for (start, end, data) in read_all(&bytes, 0).0 {
            let Step::Record(bounds) = reader.next_bounds() else { panic!("no bounds") };
            prop_assert_eq!((bounds.start, bounds.end), (start, end));
            prop_assert!(bounds.stored_bytes <= data.len());
        }
        let clean = matches!(reader.next_bounds(), Step::End { .. });
        prop_assert!(clean);
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0u8..5) {
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut() {
            *first = kind;
        }
        fuzz_wal_segment(&bytes);
    }
}

#[test]
fn a_finished_segment_ends_with_its_page_and_an_empty_one_has_none() {
    assert_eq!(SegmentWriter::new(Compression::None).finish(), Vec::<u8>::new());
    let mut writer = SegmentWriter::new(Compression::None);
    writer.append(b"one");
    let bytes = writer.finish();
    assert_eq!(bytes.len(), PAGE_BYTES);
    assert_eq!(read_all(&bytes, 0), (vec![(0, 10, b"one".to_vec())], Step::End { offset: 10 }));
}

#[test]
fn a_page_with_room_for_a_header_only_takes_an_empty_fragment() {
    let mut writer = SegmentWriter::at(PAGE - 7, Compression::None);
    writer.append(b"two");
    let bytes = writer.take();
    assert_eq!(&bytes[..7], &[FIRST, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes.len(), 7 + 10);
    assert_eq!(read_all(&bytes, PAGE - 7).0, [(PAGE - 7, PAGE + 10, b"two".to_vec())]);
}

#[test]
fn every_flipped_bit_is_noticed_but_for_the_two_that_say_compressed() {
    for compression in [Compression::None, Compression::Snappy] {
        let records: Vec<_> = [3, 80, 333, 40, 7].map(|len| bytes_of(len, 2)).into();
        let offset = PAGE - 300;
        let mut writer = SegmentWriter::at(offset, compression);
        records.iter().for_each(|record| writer.append(record));
        let bytes = writer.take();
        let (all, _) = read_all(&bytes, offset);
        assert_eq!(all.len(), records.len());
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let (read, last) = read_all(&flipped, offset);
            let wrong = read.iter().zip(&all).position(|(read, wrote)| read != wrote);
            if let Some(wrong) = wrong {
                assert_eq!((all[wrong].0 - offset) as usize, bit / 8, "only a type byte is not covered");
                assert_eq!(flipped[bit / 8] & FRAGMENT_MASK, FULL);
                assert_eq!(bit % 8, 3, "the flag of snappy");
            } else {
                assert!(!matches!(last, Step::End { .. }), "bit {bit} was not noticed");
                assert!(read.len() < all.len());
            }
        }
    }
}

#[test]
fn zeros_after_the_last_record_are_an_end_and_anything_else_is_damage() {
    let mut writer = SegmentWriter::new(Compression::None);
    writer.append(b"one");
    let mut bytes = writer.take();
    bytes.resize(3 * PAGE_BYTES + 5, 0);
    assert_eq!(read_all(&bytes, 0).1, Step::End { offset: 10 });
    bytes[PAGE_BYTES - 1] = 1;
    let (read, last) = read_all(&bytes, 0);
    assert_eq!(read.len(), 1);
    let damage = Damage { record_start: 10, offset: 10, flaw: Flaw::Fill };
    assert_eq!(last, Step::Damaged(damage.clone()));
    assert_eq!(
        damage.to_string(),
        "the segment is damaged at byte 10, in the record that begins at byte 10: \
         the unused end of a page holds something else than zeros"
    );
}

#[test]
fn a_record_that_a_crash_cut_and_zeros_follow_is_incomplete() {
    let mut writer = SegmentWriter::at(PAGE - 20, Compression::None);
    writer.append(&bytes_of(100, 1));
    let mut bytes = writer.take();
    bytes.truncate(20);
    bytes.resize(200, 0);
    assert_eq!(read_all(&bytes, PAGE - 20).1, Step::Incomplete { offset: PAGE - 20 });
}

#[test]
fn a_reader_says_the_same_again_and_does_not_get_past_damage() {
    let mut writer = SegmentWriter::new(Compression::None);
    [b"one", b"two"].iter().for_each(|record| writer.append(*record));
    let mut bytes = writer.take();
    bytes[12] ^= 1;
    let mut reader = SegmentReader::new(&bytes, 0);
    assert!(matches!(reader.next_record(), Step::Record(_)));
    let damaged = reader.next_record();
    assert!(matches!(damaged, Step::Damaged(Damage { record_start: 10, .. })));
    assert_eq!(reader.next_record(), damaged);
    assert_eq!(reader.offset(), 10);
}

fn single(flags: u8, stored: &[u8]) -> Vec<u8> {
    let mut bytes = vec![FULL | flags];
    bytes.extend((stored.len() as u16).to_be_bytes());
    bytes.extend(crc32c::crc32c(stored).to_be_bytes());
    bytes.extend_from_slice(stored);
    bytes
}

#[test]
fn zstd_records_are_read_with_and_without_their_length() {
    let record = bytes_of(700, 2);
    let with_length = zstd::bulk::compress(&record, 3).unwrap();
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
    encoder.include_contentsize(false).unwrap();
    std::io::copy(&mut record.as_slice(), &mut encoder).unwrap();
    for stored in [with_length, encoder.finish().unwrap()] {
        assert_eq!(read_all(&single(ZSTD_FLAG, &stored), 0).0[0].2, record);
    }
}

#[test]
fn lengths_that_the_bytes_cannot_hold_are_refused_before_anything_is_allocated() {
    let snappy = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0];
    // A frame header with eight bytes of length: 2^62.
    let zstd = [0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 0, 0, 0x40, 1, 0, 0];
    for (flags, stored, bytes) in
        [(SNAPPY_FLAG, &snappy[..], u64::from(u32::MAX)), (ZSTD_FLAG, &zstd[..], 1 << 62)]
    {
        let Step::Damaged(damage) = read_all(&single(flags, stored), 0).1 else { panic!("not damaged") };
        assert_eq!(damage.flaw, Flaw::TooLarge { bytes });
    }
    for (flags, compression) in [(SNAPPY_FLAG, "snappy"), (ZSTD_FLAG, "zstd")] {
        let Step::Damaged(damage) = read_all(&single(flags, b""), 0).1 else { panic!("not damaged") };
        assert_eq!(damage.flaw, Flaw::Compression { compression });
    }
}

#[test]
fn a_segment_is_full_where_prometheus_says_so() {
    let whole = (PAGE_BYTES - HEADER_BYTES) * (SEGMENT_BYTES_MAX / PAGE_BYTES);
    let empty = SegmentWriter::new(Compression::None);
    assert!(empty.fits(whole) && !empty.fits(whole + 1));
    let nearly = SegmentWriter::at(SEGMENT_BYTES_MAX as u64 - 17, Compression::None);
    assert!(nearly.fits(10) && !nearly.fits(11));
    let last_page = SegmentWriter::at((SEGMENT_BYTES_MAX - PAGE_BYTES) as u64 - 5, Compression::None);
    assert!(last_page.fits(PAGE_BYTES - HEADER_BYTES) && !last_page.fits(PAGE_BYTES - HEADER_BYTES + 1));
    assert!(!SegmentWriter::at(SEGMENT_BYTES_MAX as u64, Compression::None).fits(0));
}
