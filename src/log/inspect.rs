//! What lies in a log, for people: counted without changing anything, also beside a process that writes.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::ops::Range;
use std::path::Path;

use serde::Serialize;

use super::directory::see_segments;
use super::error::LogError;
use super::files::{LogFile, LogFiles};
use super::object::{DeadEpochs, EpochReader, ObjectHeader, ObjectKind};
use super::recovery::check_segments;
use super::replay::RecoveredSegment;
use super::{Entry, TenantEntry};
use crate::bucket::{Bucket, ObjectKey};
use crate::model::{ErrorKind, TenantId, Ulid};
use crate::runtime::{Cpu, Random};

/// So many damaged entries of one epoch are named.
const DAMAGE_NAMED_MAX: usize = 10;

/// Which log an epoch is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogPlace {
    /// Segments in a directory.
    Disk,
    /// Objects in the bucket.
    Object,
}

/// An epoch and what it holds.
#[derive(Debug, Serialize)]
pub struct EpochReport {
    /// Where it is.
    pub kind: LogPlace,
    /// The epoch.
    pub epoch: Ulid,
    /// Who wrote it; empty where that does not read.
    pub receiver: String,
    /// Whether somebody ended it, and who.
    pub state: String,
    /// The first entry that is there and not released; 0 where there is none.
    pub first_seq: u64,
    /// The last one.
    pub last_seq: u64,
    /// Entries that read.
    pub entries: u64,
    /// Segments or objects.
    pub parts: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects that are released and not deleted yet.
    pub garbage: u64,
    /// Bytes behind the last entry of a segment, which the next start cuts off.
    pub torn_bytes: u64,
    /// What the epoch holds of each tenant.
    pub tenants: BTreeMap<TenantId, TenantReport>,
    /// What is damaged or missing, with its place.
    pub damage: Vec<String>,
}

/// What an epoch holds of a tenant.
#[derive(Debug, Default, Serialize)]
pub struct TenantReport {
    /// The last entry that holds something of it.
    pub last_seq: u64,
    /// Different series.
    pub series: u64,
    /// Float samples.
    pub samples: u64,
    /// Native histograms.
    pub histograms: u64,
    /// Exemplars.
    pub exemplars: u64,
    /// Metadata.
    pub metadata: u64,
    #[serde(skip)]
    hashes: HashSet<u64>,
}

impl EpochReport {
    fn new(kind: LogPlace, epoch: Ulid) -> Self {
        Self {
            kind,
            epoch,
            receiver: String::new(),
            state: "open".to_owned(),
            first_seq: 0,
            last_seq: 0,
            entries: 0,
            parts: 0,
            bytes: 0,
            garbage: 0,
            torn_bytes: 0,
            tenants: BTreeMap::new(),
            damage: Vec::new(),
        }
    }

    fn add(&mut self, entry: Entry) {
        self.entries += 1;
        if self.first_seq == 0 {
            self.first_seq = entry.seq;
        }
        self.last_seq = entry.seq;
        for tenant in entry.tenants {
            self.tenants.entry(tenant.tenant.clone()).or_default().add(entry.seq, &tenant);
        }
    }

    fn note(&mut self, damage: &LogError) {
        if self.damage.len() < DAMAGE_NAMED_MAX {
            self.damage.push(damage.to_string());
        }
    }
}

impl TenantReport {
    fn add(&mut self, seq: u64, entry: &TenantEntry) {
        self.last_seq = seq;
        self.hashes.extend(entry.declared.iter().map(|(_, labels)| labels.series_hash()));
        self.series = self.hashes.len() as u64;
        self.samples += entry.samples.len() as u64;
        self.histograms += entry.histograms.len() as u64;
        self.exemplars += entry.exemplars.len() as u64;
        self.metadata += entry.metadata.len() as u64;
    }
}

/// How far an inspection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InspectProgress {
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes to read in all.
    pub total_bytes: u64,
}

/// Counts what lies in a directory. `progress` is told before the first segment and after each.
///
/// # Errors
/// What the operating system refuses. Damage is part of the report.
pub fn inspect_disk(dir: &Path, progress: &dyn Fn(InspectProgress)) -> Result<Vec<EpochReport>, LogError> {
    let names = see_segments(dir)?;
    let (segments, broken) = match check_segments(dir, names.clone(), &NoChanges, false) {
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            (check_segments(dir, names, &NoChanges, true)?, Some(error))
        }
        checked => (checked?, None),
    };
    let mut reports: BTreeMap<Ulid, EpochReport> = BTreeMap::new();
    let total_bytes = segments.iter().map(RecoveredSegment::bytes).sum();
    let mut now = InspectProgress { read_bytes: 0, total_bytes };
    progress(now);
    for segment in segments {
        let (epoch, bytes) = (segment.epoch(), segment.bytes());
        let report = reports.entry(epoch).or_insert_with(|| EpochReport::new(LogPlace::Disk, epoch));
        inspect_segment(report, segment)?;
        now.read_bytes += bytes;
        progress(now);
    }
    if let Some(error) = broken {
        // The segment that does not read says the same where it is read; a missing one is said only here.
        let text = error.to_string();
        let known = reports.values().any(|report| report.damage.contains(&text));
        if let Some(last) = reports.values_mut().next_back().filter(|_| !known) {
            last.damage.push(text);
        }
    }
    Ok(reports.into_values().collect())
}

fn inspect_segment(report: &mut EpochReport, segment: RecoveredSegment) -> Result<(), LogError> {
    let length = std::fs::metadata(segment.path()).map_err(LogError::io("read", &segment.path()))?.len();
    report.parts += 1;
    report.bytes += length;
    segment.receiver().clone_into(&mut report.receiver);
    report.torn_bytes = length.saturating_sub(segment.bytes());
    // Reading must not keep a copy of what is damaged, as a start does.
    let segment = RecoveredSegment { skip_damaged: false, ..segment };
    for entry in segment.entries()? {
        match entry {
            Ok(entry) => report.add(entry),
            Err(error) if error.kind() == ErrorKind::Corrupt => report.note(&error),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Counts what lies in the bucket. `progress` is told before the first entry and after each. Reads every entry.
///
/// # Errors
/// The store's failure. Damage is part of the report.
pub async fn inspect_objects(
    bucket: &Bucket,
    (cpu, random): (&Cpu, &Random),
    progress: &(dyn Fn(InspectProgress) + Sync),
) -> Result<Vec<EpochReport>, LogError> {
    let mut epochs = DeadEpochs::new(bucket.clone(), random.clone(), String::new());
    let (mut found, mut now) = (Vec::new(), InspectProgress::default());
    for newest in epochs.look(None).await? {
        let mut report = EpochReport::new(LogPlace::Object, newest.epoch);
        let mut seqs = 0..0;
        match epochs.header(newest.epoch, newest.seq).await {
            Ok(header) => {
                let to_read;
                (seqs, to_read) = list_epoch(&mut report, bucket, &header).await?;
                now.total_bytes += to_read;
            }
            Err(error) if error.kind() == ErrorKind::Corrupt => report.note(&error),
            Err(error) => return Err(error),
        }
        found.push((report, seqs));
    }
    progress(now);
    for (report, seqs) in found.iter_mut().filter(|(_, seqs)| !seqs.is_empty()) {
        let mut reader = EpochReader::new(bucket.clone(), cpu.clone(), report.epoch, seqs.clone());
        while let Some(read) = reader.next().await {
            match read {
                Ok(read) => {
                    now.read_bytes += read.bytes;
                    progress(now);
                    report.add(read.entry);
                }
                Err(error) if error.kind() == ErrorKind::Corrupt => report.note(&error),
                Err(error) => return Err(error),
            }
        }
    }
    Ok(found.into_iter().map(|(report, _)| report).collect())
}

/// Reports what an epoch's newest object and its listing say; returns the entries to read, and their bytes.
async fn list_epoch(
    report: &mut EpochReport,
    bucket: &Bucket,
    newest: &ObjectHeader,
) -> Result<(Range<u64>, u64), LogError> {
    report.receiver.clone_from(&newest.receiver);
    let end = match newest.kind {
        ObjectKind::Entry => newest.seq + 1,
        ObjectKind::Seal => newest.seq,
        ObjectKind::Released => newest.seq - 1,
    };
    report.state = match newest.kind {
        ObjectKind::Entry => "open".to_owned(),
        ObjectKind::Seal => format!("sealed by {}", newest.by),
        ObjectKind::Released => format!("released by {}", newest.by),
    };
    let (seqs, mut to_read) = (newest.released + 1..end, 0);
    for object in bucket.list(&ObjectKey::log_folder(newest.epoch)).await? {
        let Some(ObjectKey::LogEntry { seq, .. }) = ObjectKey::parse(&object.key) else { continue };
        report.parts += 1;
        report.bytes += object.size_bytes;
        report.garbage += u64::from(seq <= newest.released && seq < end);
        to_read += if seqs.contains(&seq) { object.size_bytes } else { 0 };
    }
    Ok((seqs, to_read))
}

/// Takes no change: what a start would mend stays as it is.
#[derive(Debug)]
struct NoChanges;

impl LogFiles for NoChanges {
    fn create(&self, _path: &Path) -> io::Result<Box<dyn LogFile>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn truncate(&self, _path: &Path, _length: u64) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn remove(&self, _path: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }
}
