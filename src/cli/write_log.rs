//! The log of a process that takes remote write: opened, and what earlier processes left in it brought back.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::Failure;
use super::compose::{Base, WriteParts};
use super::flags::LogKind;
use crate::log::object::{ObjectLog, ObjectLogSettings};
use crate::log::{DiskLog, Log, LogSettings, OsFiles, has_segments};
use crate::model::ErrorKind;
use crate::receive::{
    BlockTarget, CreateProbe, Cutter, RecoverSettings, Recoverer, RecovererMetrics, RecovererSettings,
    WrittenMetadata, recover,
};
use crate::runtime::Random;

/// While replaying, heads above this size are cut, so that a long log needs no more memory than this.
const REPLAY_HEAD_BYTES_MAX: u64 = 1 << 30;

/// The share of the memory budget that heads may take meanwhile.
const REPLAY_HEAD_PERCENT: u64 = 40;

/// How often the logs of other receivers are looked at: with the minute after which one counts as dead, its samples are
/// readable again within two.
const RECOVERER_INTERVAL: Duration = Duration::from_secs(30);

/// A log that is ready to be written, and who turns it into blocks.
pub(super) struct OpenedLog {
    pub(super) log: Log,
    pub(super) cutter: Cutter,
    pub(super) recoverer: Recoverer,
}

/// Opens the log that the flags ask for and brings back what this receiver's earlier processes left in it.
pub(super) async fn open(base: &Base, parts: &WriteParts<'_>) -> Result<OpenedLog, Failure> {
    match parts.ingest.log_kind {
        LogKind::Disk => open_disk(base, parts).await,
        LogKind::Object => open_object(base, parts).await,
    }
}

async fn open_disk(base: &Base, parts: &WriteParts<'_>) -> Result<OpenedLog, Failure> {
    let receiver = named_by_directory(&parts.common.data_dir, &base.random)?;
    let settings = LogSettings { skip_damaged: parts.ingest.skip_damaged, ..LogSettings::default() };
    let (epoch, dir) = (base.random.ulid(base.clock.now_ms()), parts.common.data_dir.join("log"));
    let (mut log, segments) = DiskLog::open(&dir, &receiver, epoch, settings, Arc::new(OsFiles))?;
    let target = target(base, parts, receiver)?;
    let recoverer = recoverer(base, parts, target.clone(), None);
    let mut cutter =
        Cutter::new(target, Arc::clone(&parts.heads), Arc::clone(&parts.on_commit), &base.metrics);
    let started_ms = base.clock.monotonic_ms();
    let replay = RecoverSettings { head_bytes_max: replay_head_bytes(parts), bucket_away: parts.bucket_away };
    let recovered = recover(segments, &parts.heads, &mut cutter, &mut log, replay).await?;
    tracing::info!(
        segments = recovered.segments,
        samples = recovered.samples,
        milliseconds = base.clock.monotonic_ms() - started_ms,
        "replayed the log"
    );
    Ok(OpenedLog { log: Log::Disk(Box::new(log)), cutter, recoverer })
}

async fn open_object(base: &Base, parts: &WriteParts<'_>) -> Result<OpenedLog, Failure> {
    let dir = parts.common.data_dir.join("log");
    if has_segments(&dir)? {
        let message = format!(
            "--log.kind=object: there are entries of a disk log in {}: start with --log.kind=disk and stop that process \
             with SIGTERM, which turns them into blocks, or give this one another --data-dir",
            dir.display()
        );
        return Err(Failure::new(ErrorKind::Invalid, message));
    }
    let receiver = parts.ingest.receiver_name.clone().unwrap_or_else(|| named_by_host(&base.random));
    let settings =
        ObjectLogSettings { flush_interval: parts.ingest.flush_interval, ..ObjectLogSettings::default() };
    let sources = (Arc::clone(&base.clock), base.random.clone());
    let labels = parts.external_labels.clone();
    let log = ObjectLog::open(base.bucket.clone(), sources, &receiver, labels, settings)?;
    let target = target(base, parts, receiver.clone())?;
    let mut recoverer = recoverer(base, parts, target.clone(), Some(&log));
    let cutter = Cutter::new(target, Arc::clone(&parts.heads), Arc::clone(&parts.on_commit), &base.metrics);
    let started_ms = base.clock.monotonic_ms();
    let recovered = recoverer.take_back().await?;
    tracing::info!(
        receiver,
        epochs = recovered.segments,
        samples = recovered.samples,
        milliseconds = base.clock.monotonic_ms() - started_ms,
        "took back what earlier processes logged"
    );
    Ok(OpenedLog { log: Log::Object(Box::new(log)), cutter, recoverer })
}

fn target(base: &Base, parts: &WriteParts<'_>, receiver: String) -> Result<BlockTarget, Failure> {
    let target = BlockTarget {
        catalogs: Arc::clone(&base.catalogs),
        pending_dir: parts.common.data_dir.join("pending"),
        local: Arc::clone(&parts.local),
        probe: if parts.bucket_away { CreateProbe::outstanding() } else { CreateProbe::passed() },
        external_labels: parts.external_labels.clone(),
        receiver,
        cpu: base.cpu.clone(),
        clock: Arc::clone(&base.clock),
        random: base.random.clone(),
        written_metadata: WrittenMetadata::default(),
    };
    target.clear_pending()?;
    Ok(target)
}

fn recoverer(base: &Base, parts: &WriteParts<'_>, target: BlockTarget, own: Option<&ObjectLog>) -> Recoverer {
    let settings = RecovererSettings {
        interval: RECOVERER_INTERVAL,
        head_bytes_max: replay_head_bytes(parts),
        skip_damaged: parts.ingest.skip_damaged,
    };
    let (own, on_commit) = (own.map(ObjectLog::own_epoch), Arc::clone(&parts.on_commit));
    Recoverer::new(target, own, on_commit, settings, RecovererMetrics::new(&base.metrics))
}

fn replay_head_bytes(parts: &WriteParts<'_>) -> usize {
    let bytes = parts.memory.at_most(REPLAY_HEAD_BYTES_MAX, REPLAY_HEAD_PERCENT);
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// Returns the host's name, which a restarted pod of a stateful set keeps, or a random one.
fn named_by_host(random: &Random) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = host.trim().chars().filter(|c| !c.is_control()).take(60).collect();
    if name.is_empty() { random_name(random) } else { name }
}

fn random_name(random: &Random) -> String {
    format!("receiver-{:012x}", random.next_u64() >> 16)
}

/// Returns the name of the receiver that owns a data directory; made once, so that it outlives host names.
fn named_by_directory(data_dir: &Path, random: &Random) -> Result<String, Failure> {
    let path = data_dir.join("receiver-name");
    let failed = |e: std::io::Error| {
        Failure::new(ErrorKind::Unavailable, format!("--data-dir: cannot use {}: {e}", path.display()))
    };
    match std::fs::read_to_string(&path) {
        Ok(name) if !name.trim().is_empty() => return Ok(name.trim().to_owned()),
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
        _ => {}
    }
    std::fs::create_dir_all(data_dir).map_err(failed)?;
    let name = random_name(random);
    let mut file = std::fs::File::create(&path).map_err(failed)?;
    file.write_all(format!("{name}\n").as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    Ok(name)
}
