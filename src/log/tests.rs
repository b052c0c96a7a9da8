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
use crate::model::tests::made::{any_exemplar, any_histogram, any_metadata};
use crate::model::{ErrorKind, Histogram, Metadata, NativeHistogram, Span, Ulid};

pub(super) const TENANT: &str = "team-a";

pub(super) fn labels(number: u32) -> Labels {
    Labels::from_pairs([("__name__", "up".to_owned()), ("instance", format!("host-{number}:9100"))]).unwrap()
}

pub(super) fn sample(series: u32, ts_ms: i64, value: f64) -> LoggedSample {
    LoggedSample { series, sample: Sample::new(ts_ms, value) }
}

/// A write of floats only.
pub(super) fn floats<'a>(
    tenant: &'a TenantId,
    samples: &'a [LoggedSample],
    labels: &'a dyn Fn(u32) -> Labels,
) -> TenantWrite<'a> {
    TenantWrite { tenant, samples, histograms: &[], exemplars: &[], metadata: &[], labels }
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

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        OsFiles.create_dir(dir)
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
    log.append(&[floats(&tenant, samples, &labels)])
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

/// All kinds of one tenant, with the labels in place of the numbers.
#[derive(Debug, Default, PartialEq)]
struct Contents {
    samples: Vec<(Labels, Sample)>,
    histograms: Vec<(Labels, HistogramSample)>,
    exemplars: Vec<(Labels, Exemplar)>,
    metadata: Vec<MetadataEntry>,
}

/// One write as it is made up.
#[derive(Debug, Clone, Default)]
struct MadeWrite {
    samples: Vec<LoggedSample>,
    histograms: Vec<LoggedHistogram>,
    exemplars: Vec<LoggedExemplar>,
    metadata: Vec<MetadataEntry>,
}

impl MadeWrite {
    fn write<'a>(&'a self, tenant: &'a TenantId) -> TenantWrite<'a> {
        TenantWrite {
            histograms: &self.histograms,
            exemplars: &self.exemplars,
            metadata: &self.metadata,
            ..floats(tenant, &self.samples, &labels)
        }
    }

    fn put_into(&self, contents: &mut Contents) {
        contents.samples.extend(self.samples.iter().map(|s| (labels(s.series), s.sample)));
        contents.histograms.extend(self.histograms.iter().map(|h| (labels(h.series), h.sample.clone())));
        contents.exemplars.extend(self.exemplars.iter().map(|e| (labels(e.series), e.exemplar.clone())));
        contents.metadata.extend(self.metadata.iter().cloned());
    }
}

/// Replays all kinds of all tenants, in log order.
fn replay_all(segments: &[RecoveredSegment]) -> BTreeMap<TenantId, Contents> {
    let mut all: BTreeMap<TenantId, Contents> = BTreeMap::new();
    for segment in segments {
        let mut declared: BTreeMap<TenantId, BTreeMap<u32, Labels>> = BTreeMap::new();
        for entry in segment.entries().unwrap() {
            for tenant in entry.unwrap().tenants {
                let known = declared.entry(tenant.tenant.clone()).or_default();
                known.extend(tenant.declared);
                let contents = all.entry(tenant.tenant).or_default();
                contents.samples.extend(tenant.samples.iter().map(|s| (known[&s.series].clone(), s.sample)));
                let histograms = tenant.histograms.into_iter();
                contents.histograms.extend(histograms.map(|h| (known[&h.series].clone(), h.sample)));
                let exemplars = tenant.exemplars.into_iter();
                contents.exemplars.extend(exemplars.map(|e| (known[&e.series].clone(), e.exemplar)));
                contents.metadata.extend(tenant.metadata);
            }
        }
    }
    all
}

fn any_number() -> impl Strategy<Value = u32> {
    prop_oneof![0u32..40, any::<u32>()]
}

fn any_time() -> impl Strategy<Value = i64> {
    prop_oneof![1_700_000_000_000i64..1_700_000_100_000, any::<i64>()]
}

fn any_sample() -> impl Strategy<Value = LoggedSample> {
    let start = prop_oneof![3 => Just(0i64), 1 => any::<i64>()];
    (any_number(), any_time(), any::<u64>(), start).prop_map(|(series, ts_ms, bits, start_ms)| LoggedSample {
        series,
        sample: Sample { ts_ms, value: f64::from_bits(bits), start_ms },
    })
}

fn any_write() -> impl Strategy<Value = MadeWrite> {
    let histogram = (any_number(), any_histogram(any_time()));
    let exemplar = (any_number(), any_exemplar(any_time()));
    let metadata = ("[a-z]{1,8}", any_time(), any_metadata());
    (
        prop::collection::vec(any_sample(), 0..30),
        prop::collection::vec(
            histogram.prop_map(|(series, sample)| LoggedHistogram { series, sample }),
            0..4,
        ),
        prop::collection::vec(
            exemplar.prop_map(|(series, exemplar)| LoggedExemplar { series, exemplar }),
            0..4,
        ),
        prop::collection::vec(
            metadata.prop_map(|(family, since_ms, metadata)| MetadataEntry { family, since_ms, metadata }),
            0..3,
        ),
        0u8..4,
    )
        .prop_map(|(samples, histograms, exemplars, metadata, kinds)| match kinds {
            0 => MadeWrite { samples, ..MadeWrite::default() },
            1 => MadeWrite { histograms, metadata, ..MadeWrite::default() },
            _ => MadeWrite { samples, histograms, exemplars, metadata },
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_batches_come_back_after_a_restart(
        appends in prop::collection::vec(prop::collection::vec((0usize..3, any_write()), 0..4), 1..8),
        segment_bytes_max in 100u64..4_000,
        cuts in any::<u8>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let tenants = ["a", "team-b", "c.d"].map(|name| TenantId::new(name).unwrap());
        let mut expected: BTreeMap<TenantId, Contents> = BTreeMap::new();
        let (mut log, _) = open(dir.path(), 1, small_segments(segment_bytes_max));
        for (i, made) in appends.iter().enumerate() {
            let writes: Vec<_> = made.iter().map(|(tenant, made)| {
                let write = made.write(&tenants[*tenant]);
                if !write.is_empty() {
                    made.put_into(expected.entry(tenants[*tenant].clone()).or_default());
                }
                write
            }).collect();
            let before = log.last_seq();
            let seq = log.append(&writes).unwrap();
            let empty = writes.iter().all(TenantWrite::is_empty);
            prop_assert_eq!(seq, before + u64::from(!empty));
            if cuts & (1 << i) != 0 {
                log.start_segment();
            }
        }
        let bytes = log.bytes();
        drop(log);
        let (log, segments) = open(dir.path(), 2, LogSettings::default());
        prop_assert_eq!(log.bytes(), bytes);
        prop_assert_eq!(replay_all(&segments), expected);
    }
}

#[test]
fn a_large_append_of_other_kinds_is_split_and_comes_back_whole() {
    let dir = tempfile::tempdir().unwrap();
    let tenant = TenantId::new(TENANT).unwrap();
    let noise = |n: u32| i64::from(n.wrapping_mul(2_654_435_761));
    let histogram = |n: u32| Histogram {
        count: u64::from(n),
        positive_spans: vec![Span { offset: 0, length: 400 }],
        positive_buckets: (0..400).map(|i| noise(n * 400 + i)).collect(),
        ..Histogram::default()
    };
    let sample = |n| HistogramSample {
        ts_ms: i64::from(n),
        start_ms: 0,
        histogram: NativeHistogram::Int(Box::new(histogram(n))),
    };
    let exemplar = |n: u32| Exemplar { labels: labels(n), value: f64::from(n), ts_ms: noise(n) };
    let help = |n: u32| Metadata { help: "h".repeat(n as usize % 1_000), ..Metadata::default() };
    let made = MadeWrite {
        samples: vec![self::sample(7, 1, 1.0)],
        histograms: (0..5_000).map(|n| LoggedHistogram { series: n % 9, sample: sample(n) }).collect(),
        exemplars: (0..60_000).map(|n| LoggedExemplar { series: n % 5, exemplar: exemplar(n) }).collect(),
        metadata: (0..6_000)
            .map(|n| MetadataEntry { family: n.to_string(), since_ms: 1, metadata: help(n) })
            .collect(),
    };
    let (mut log, _) = open(dir.path(), 1, LogSettings::default());
    let seq = log.append(&[made.write(&tenant)]).unwrap();
    assert!(seq > 3, "{seq}");
    drop(log);
    let (_log, segments) = open(dir.path(), 2, LogSettings::default());
    let mut expected = Contents::default();
    made.put_into(&mut expected);
    assert_eq!(replay_all(&segments), BTreeMap::from([(tenant, expected)]));
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
    let error = log.append(&[floats(&tenant, &samples, &huge)]).unwrap_err();
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
