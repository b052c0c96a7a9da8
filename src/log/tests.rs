mod damage;
mod faults;
mod format;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::model::{ErrorKind, Ulid};

pub(super) const TENANT: &str = "team-a";

pub(super) fn labels(number: u32) -> Labels {
    Labels::from_pairs([("__name__", "up".to_owned()), ("instance", format!("host-{number}:9100"))]).unwrap()
}

pub(super) fn sample(series: u32, ts_ms: i64, value: f64) -> LoggedSample {
    LoggedSample { series, sample: Sample::new(ts_ms, value) }
}

pub(super) fn small_segments(bytes: u64) -> LogSettings {
    LogSettings { segment_bytes_max: bytes, ..LogSettings::default() }
}

/// The operating system's files without their fsync, which tells a test nothing and takes most of its time.
#[derive(Debug)]
pub(super) struct QuickFiles;

#[derive(Debug)]
struct QuickFile(Box<dyn LogFile>);

impl LogFiles for QuickFiles {
    fn create(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        Ok(Box::new(QuickFile(OsFiles.create(path)?)))
    }

    fn truncate(&self, path: &Path, length: u64) -> io::Result<()> {
        fs::File::options().write(true).open(path)?.set_len(length)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        OsFiles.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        OsFiles.remove(path)
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }
}

impl LogFile for QuickFile {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) fn open(dir: &Path, epoch: u64, settings: LogSettings) -> (DiskLog, Vec<RecoveredSegment>) {
    try_open(dir, epoch, settings, Arc::new(QuickFiles)).unwrap()
}

pub(super) fn try_open(
    dir: &Path,
    epoch: u64,
    settings: LogSettings,
    files: Arc<dyn LogFiles>,
) -> Result<(DiskLog, Vec<RecoveredSegment>), LogError> {
    DiskLog::open(dir, "receiver-0", Ulid::from_parts(epoch, 7), settings, files)
}

pub(super) fn append(log: &mut DiskLog, samples: &[LoggedSample]) -> Result<u64, LogError> {
    let tenant = TenantId::new(TENANT).unwrap();
    log.append(&[TenantWrite { tenant: &tenant, samples, labels: &labels }])
}

/// Replays everything and returns, per tenant, the samples with their labels, in log order.
pub(super) fn replay(
    segments: &[RecoveredSegment],
) -> Result<BTreeMap<TenantId, Vec<(Labels, Sample)>>, LogError> {
    let mut all: BTreeMap<TenantId, Vec<(Labels, Sample)>> = BTreeMap::new();
    for segment in segments {
        let mut declared = BTreeMap::new();
        let mut next = segment.first_seq();
        let mut entries = segment.entries()?;
        for entry in entries.by_ref() {
            let entry = entry?;
            assert_eq!(entry.seq, next);
            next += 1;
            for tenant in entry.tenants {
                let known: &mut BTreeMap<u32, Labels> = declared.entry(tenant.tenant.clone()).or_default();
                known.extend(tenant.declared);
                let samples = tenant.samples.iter().map(|s| (known[&s.series].clone(), s.sample));
                all.entry(tenant.tenant).or_default().extend(samples);
            }
        }
        if entries.skipped().is_none() {
            assert_eq!(next, segment.last_seq() + 1);
        }
    }
    Ok(all)
}

pub(super) fn replayed_times(segments: &[RecoveredSegment]) -> Result<Vec<i64>, LogError> {
    Ok(replay(segments)?.into_values().flatten().map(|(_, s)| s.ts_ms).collect())
}

fn any_sample() -> impl Strategy<Value = LoggedSample> {
    let number = prop_oneof![0u32..40, any::<u32>()];
    let time = prop_oneof![1_700_000_000_000i64..1_700_000_100_000, any::<i64>()];
    let start = prop_oneof![3 => Just(0i64), 1 => any::<i64>()];
    (number, time, any::<u64>(), start).prop_map(|(series, ts_ms, bits, start_ms)| LoggedSample {
        series,
        sample: Sample { ts_ms, value: f64::from_bits(bits), start_ms },
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_batches_come_back_after_a_restart(
        appends in prop::collection::vec(
            prop::collection::vec((0usize..3, prop::collection::vec(any_sample(), 0..30)), 0..4), 1..8),
        segment_bytes_max in 100u64..4_000,
        cuts in any::<u8>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let tenants = ["a", "team-b", "c.d"].map(|name| TenantId::new(name).unwrap());
        let mut expected: BTreeMap<TenantId, Vec<(Labels, Sample)>> = BTreeMap::new();
        let (mut log, _) = open(dir.path(), 1, small_segments(segment_bytes_max));
        for (i, batches) in appends.iter().enumerate() {
            let writes: Vec<_> = batches.iter().map(|(tenant, samples)| {
                let samples_with_labels = samples.iter().map(|s| (labels(s.series), s.sample));
                if !samples.is_empty() {
                    expected.entry(tenants[*tenant].clone()).or_default().extend(samples_with_labels);
                }
                TenantWrite { tenant: &tenants[*tenant], samples, labels: &labels }
            }).collect();
            let before = log.last_seq();
            let seq = log.append(&writes).unwrap();
            let empty = batches.iter().all(|(_, samples)| samples.is_empty());
            prop_assert_eq!(seq, before + u64::from(!empty));
            if cuts & (1 << i) != 0 {
                log.start_segment();
            }
        }
        let bytes = log.bytes();
        drop(log);
        let (log, segments) = open(dir.path(), 2, LogSettings::default());
        prop_assert_eq!(log.bytes(), bytes);
        prop_assert_eq!(replay(&segments).unwrap(), expected);
    }
}

#[test]
fn a_large_append_is_split_and_comes_back_whole() {
    let dir = tempfile::tempdir().unwrap();
    let samples: Vec<_> = (0..300_000u32).map(|n| sample(n % 7, i64::from(n), f64::from(n).sin())).collect();
    let (mut log, _) = try_open(dir.path(), 1, LogSettings::default(), Arc::new(OsFiles)).unwrap();
    let seq = append(&mut log, &samples).unwrap();
    assert!(seq > 1, "{seq}");
    drop(log);
    let (_log, segments) = open(dir.path(), 2, LogSettings::default());
    assert_eq!(segments.len(), 1);
    assert_eq!(segments[0].last_seq(), seq);
    let largest = segments[0].entries().unwrap().map(|e| e.unwrap().samples()).max().unwrap();
    assert!(largest < 200_000, "{largest}");
    let times = replayed_times(&segments).unwrap();
    assert_eq!(times, (0..300_000).collect::<Vec<i64>>());
}

#[test]
fn labels_over_the_limit_are_refused_and_the_log_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path(), 1, LogSettings::default());
    let tenant = TenantId::new(TENANT).unwrap();
    let huge = |n: u32| match n {
        1 => Labels::from_pairs([("a", "x".repeat(2 << 20))]).unwrap(),
        _ => labels(n),
    };
    let samples = [sample(0, 1, 1.0), sample(1, 1, 1.0)];
    let error = log.append(&[TenantWrite { tenant: &tenant, samples: &samples, labels: &huge }]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!(append(&mut log, &[sample(0, 5, 1.0)]).unwrap(), 1);
    drop(log);
    let (_log, segments) = open(dir.path(), 2, LogSettings::default());
    assert_eq!(replayed_times(&segments).unwrap(), [5]);
}

#[test]
fn a_second_log_on_the_directory_is_told_who_holds_it() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path(), 1, LogSettings::default());
    let error = try_open(dir.path(), 2, LogSettings::default(), Arc::new(OsFiles)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    let text = error.to_string();
    assert!(text.contains("receiver-0") && text.contains(&std::process::id().to_string()), "{text}");
    drop(log);
    open(dir.path(), 2, LogSettings::default());
}

#[test]
fn epochs_stay_in_order_when_the_clock_goes_back() {
    let dir = tempfile::tempdir().unwrap();
    for (i, clock) in [50, 40, 50, 60].into_iter().enumerate() {
        let (mut log, segments) = open(dir.path(), clock, LogSettings::default());
        assert!(segments.iter().all(|s| s.epoch() < log.epoch()));
        assert_eq!(replayed_times(&segments).unwrap(), (0..i as i64).collect::<Vec<_>>());
        append(&mut log, &[sample(0, i as i64, 0.5)]).unwrap();
    }
}

#[test]
fn release_deletes_whole_segments_oldest_first_and_keeps_the_open_one() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path(), 1, LogSettings::default());
    let first_epoch = log.epoch();
    for n in 0..4 {
        append(&mut log, &[sample(0, n, 1.0)]).unwrap();
        if n == 1 {
            log.start_segment();
        }
    }
    assert_eq!(log.release(first_epoch, 1).unwrap(), 0, "entry 2 of the segment is still needed");
    drop(log);
    let (mut log, segments) = open(dir.path(), 2, LogSettings::default());
    append(&mut log, &[sample(0, 10, 1.0)]).unwrap();
    log.start_segment();
    append(&mut log, &[sample(0, 11, 1.0)]).unwrap();
    let epoch = log.epoch();
    assert_eq!(log.release(epoch, 2).unwrap(), 0, "an older epoch is still needed");
    let bytes = log.bytes();
    let freed = log.release(first_epoch, 4).unwrap();
    assert_eq!(log.bytes(), bytes - freed);
    assert!(segments.iter().all(|s| !s.path().exists()));
    assert!(!dir.path().join(first_epoch.to_string()).exists());
    drop(log);
    let (log, segments) = open(dir.path(), 3, LogSettings::default());
    assert_eq!(replayed_times(&segments).unwrap(), [11], "released out of order: gone as soon as possible");
    assert_eq!(segments[0].follows(), Some((epoch, 1)));
    assert_eq!(segments[0].receiver(), "receiver-0");
    assert_eq!((segments[0].first_seq(), segments[0].last_seq()), (2, 2));
    assert_eq!(log.bytes(), segments[0].bytes());
}

#[test]
fn an_epoch_without_entries_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    for epoch in 1..4 {
        let (mut log, segments) = open(dir.path(), epoch, LogSettings::default());
        assert!(segments.is_empty());
        log.start_segment();
        assert_eq!(log.append(&[]).unwrap(), 0);
        assert_eq!((log.bytes(), log.last_seq()), (0, 0));
    }
}
