//! Torn tails, flipped bits, cut off and missing files.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;

/// Two epochs with two segments each; two samples a segment, times 0 to 7.
fn four_segments(dir: &Path) -> Vec<PathBuf> {
    for epoch in 0..2 {
        let (mut log, _) = open(dir, epoch + 1, LogSettings::default());
        for n in 0..4 {
            if n == 2 {
                log.start_segment();
            }
            let time = epoch as i64 * 4 + n;
            append(&mut log, &[sample(n as u32, time, 1.0), sample(9, 100 + time, 2.0)]).unwrap();
        }
    }
    let (_log, segments) = open(dir, 9, LogSettings::default());
    segments.iter().map(RecoveredSegment::path).collect()
}

/// Changes a bit of the last entry of a segment and returns the segment as it is then.
fn damage_last_entry(segment: &Path) -> Vec<u8> {
    let mut bytes = fs::read(segment).unwrap();
    let last = bytes.len() - 3;
    bytes[last] ^= 0x10;
    fs::write(segment, &bytes).unwrap();
    bytes
}

fn times_below_100(segments: &[RecoveredSegment]) -> Result<Vec<i64>, LogError> {
    Ok(replayed_times(segments)?.into_iter().filter(|t| *t < 100).collect())
}

fn reopen(dir: &Path, skip_damaged: bool) -> Result<Vec<i64>, LogError> {
    let settings = LogSettings { skip_damaged, ..LogSettings::default() };
    let (_log, segments) = try_open(dir, 10, settings, Arc::new(QuickFiles))?;
    times_below_100(&segments)
}

#[test]
fn every_flipped_bit_is_reported_unless_it_is_in_the_last_entry() {
    let dir = tempfile::tempdir().unwrap();
    let paths = four_segments(dir.path());
    let mut reported = 0;
    for (i, path) in paths.iter().enumerate() {
        let good = fs::read(path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1 << ((at * 5 + i) % 8);
            fs::write(path, &bad).unwrap();
            match reopen(dir.path(), false) {
                Err(error) => {
                    let kind = error.kind();
                    assert!(matches!(kind, ErrorKind::Corrupt | ErrorKind::Unsupported), "{error}");
                    reported += 1;
                }
                Ok(times) => {
                    assert_eq!(i, 3, "byte {at} of segment {i} went unnoticed");
                    assert_eq!(times, (0..7).collect::<Vec<_>>());
                }
            }
            fs::write(path, &good).unwrap();
        }
    }
    assert!(reported > 300, "{reported}");
    assert_eq!(reopen(dir.path(), false).unwrap(), (0..8).collect::<Vec<_>>());
}

#[test]
fn a_segment_that_is_missing_or_shorter_than_recorded_is_reported() {
    for i in 0..3 {
        let dir = tempfile::tempdir().unwrap();
        let paths = four_segments(dir.path());
        let length = fs::metadata(&paths[i]).unwrap().len();
        for cut in [length - 1, length / 2, 3, 0] {
            let good = fs::read(&paths[i]).unwrap();
            fs::write(&paths[i], &good[..cut as usize]).unwrap();
            assert_eq!(reopen(dir.path(), false).unwrap_err().kind(), ErrorKind::Corrupt);
            fs::write(&paths[i], &good).unwrap();
        }
        fs::remove_file(&paths[i]).unwrap();
        let outcome = reopen(dir.path(), false);
        if i == 0 {
            // The oldest may have been released: `follows` tells the caller, who knows.
            let (_log, segments) = open(dir.path(), 11, LogSettings::default());
            assert_eq!(segments[0].follows().unwrap().1, 2);
            assert_eq!(outcome.unwrap(), (2..8).collect::<Vec<_>>());
        } else {
            let error = outcome.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
            assert!(error.to_string().contains("--log.skip-damaged"), "{error}");
            let kept: Vec<i64> = (0..8).filter(|t| t / 2 != i as i64).collect();
            assert_eq!(reopen(dir.path(), true).unwrap(), kept);
        }
    }
}

#[test]
fn threads_that_read_a_damaged_segment_at_once_keep_it_once() {
    let dir = tempfile::tempdir().unwrap();
    let paths = four_segments(dir.path());
    damage_last_entry(&paths[1]);
    let settings = LogSettings { skip_damaged: true, ..LogSettings::default() };
    let (_log, segments) = open(dir.path(), 12, settings);
    for _ in 0..200 {
        let start = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            let read = || {
                start.wait();
                segments[1].entries().unwrap().inspect(|entry| assert!(entry.is_ok())).count()
            };
            let readers = [(); 4].map(|()| scope.spawn(read));
            assert!(readers.into_iter().all(|reader| reader.join().unwrap() == 1));
        });
        fs::remove_dir_all(dir.path().join("damaged")).unwrap();
    }
}

#[test]
fn skipping_replays_the_readable_prefix_again_and_again_and_keeps_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let paths = four_segments(dir.path());
    let bytes = damage_last_entry(&paths[1]);
    for _ in 0..3 {
        assert_eq!(reopen(dir.path(), false).unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(reopen(dir.path(), true).unwrap(), [0, 1, 2, 4, 5, 6, 7]);
    }
    let settings = LogSettings { skip_damaged: true, ..LogSettings::default() };
    let (mut log, segments) = open(dir.path(), 12, settings);
    let mut entries = segments[1].entries().unwrap();
    assert_eq!(entries.by_ref().count(), 1);
    let skipped = entries.skipped().unwrap();
    assert_eq!((skipped.entries, skipped.offset + skipped.bytes), (1, bytes.len() as u64));
    for segment in &segments {
        log.release(segment.epoch(), segment.last_seq()).unwrap();
    }
    drop(log);
    assert!(!paths[1].exists());
    let kept: Vec<_> = fs::read_dir(dir.path().join("damaged")).unwrap().collect();
    assert_eq!(kept.len(), 1);
    assert_eq!(fs::read(kept[0].as_ref().unwrap().path()).unwrap(), bytes);
    assert_eq!(reopen(dir.path(), false).unwrap(), Vec::<i64>::new());
}

#[test]
fn skipping_a_segment_whose_header_is_damaged_loses_that_segment_only() {
    for i in 0..4 {
        let dir = tempfile::tempdir().unwrap();
        let paths = four_segments(dir.path());
        let mut bytes = fs::read(&paths[i]).unwrap();
        bytes[30] ^= 1;
        fs::write(&paths[i], &bytes).unwrap();
        assert_eq!(reopen(dir.path(), false).unwrap_err().kind(), ErrorKind::Corrupt);
        let kept: Vec<i64> = (0..8).filter(|t| t / 2 != i as i64).collect();
        assert_eq!(reopen(dir.path(), true).unwrap(), kept);
    }
}

#[test]
fn a_tail_longer_than_any_entry_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let paths = four_segments(dir.path());
    let mut bytes = fs::read(&paths[3]).unwrap();
    bytes.resize(bytes.len() + super::super::frame::ENTRY_BYTES_MAX + 1, 0);
    fs::write(&paths[3], &bytes).unwrap();
    assert_eq!(reopen(dir.path(), false).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(reopen(dir.path(), true).unwrap(), (0..8).collect::<Vec<_>>());
}

#[test]
fn an_entry_of_another_segment_is_not_taken_for_one_of_this() {
    let dir = tempfile::tempdir().unwrap();
    let paths = four_segments(dir.path());
    let other = fs::read(&paths[0]).unwrap();
    let mut bytes = fs::read(&paths[3]).unwrap();
    let good = bytes.len();
    bytes.extend_from_slice(&[7; 40]);
    bytes.extend_from_slice(&other[100..]);
    fs::write(&paths[3], &bytes).unwrap();
    assert_eq!(reopen(dir.path(), false).unwrap(), (0..8).collect::<Vec<_>>());
    assert_eq!(fs::metadata(&paths[3]).unwrap().len(), good as u64, "the stale bytes are cut off");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_tail_cut_or_garbled_past_the_synced_entries_loses_nothing_synced(
        entries in 1usize..6,
        synced in 0usize..6,
        cut in 0.0f64..1.0,
        garbage in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, _) = open(dir.path(), 1, LogSettings::default());
        let mut lengths = vec![];
        for n in 0..entries {
            let samples: Vec<_> = (0..20).map(|s| sample(s, n as i64, 0.1 * f64::from(s))).collect();
            append(&mut log, &samples).unwrap();
            lengths.push(log.bytes());
        }
        drop(log);
        // Of the entries only one can have been under way.
        let synced = synced.min(entries - 1).max(entries.saturating_sub(1));
        let from = if synced == 0 { 0 } else { lengths[synced - 1] };
        let (probe, segments) = open(dir.path(), 1, LogSettings::default());
        let header = segments[0].start.unwrap().offset as u64;
        let path = segments[0].path();
        drop(probe);
        let from = from.max(header);
        let keep = from + ((lengths[entries - 1] - from) as f64 * cut) as u64;
        let mut bytes = fs::read(&path).unwrap();
        bytes.truncate(keep as usize);
        bytes.extend_from_slice(&garbage);
        fs::write(&path, &bytes).unwrap();
        let (mut log, segments) = open(dir.path(), 2, LogSettings::default());
        let times = replayed_times(&segments).unwrap();
        let whole = usize::from(keep == lengths[entries - 1]);
        prop_assert_eq!(times.len(), (synced + whole) * 20);
        append(&mut log, &[sample(0, 99, 1.0)]).unwrap();
        drop(log);
        let (_log, segments) = open(dir.path(), 3, LogSettings::default());
        prop_assert_eq!(replayed_times(&segments).unwrap().len(), times.len() + 1);
    }
}
