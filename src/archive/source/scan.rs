//! What lies in a data directory beside the logs: blocks, tombstones, the checkpoint.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io::{ErrorKind, Result};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::spool::Spool;
use super::tailer::LogsSeen;
use crate::archive::{Base, BlockState};
use crate::model::Ulid;

/// How often a listing is repeated until two are equal.
const LISTINGS_MAX: usize = 5;

/// A tombstones file without entries is its header.
const EMPTY_TOMBSTONES_BYTES: u64 = 9;

/// The spool's folder for all that is not a log.
pub(super) const KEPT: &str = "base";

/// The largest `meta.json` that is read.
const META_BYTES_MAX: u64 = 16 << 20;

/// What tells a file from its replacement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileStamp {
    pub(super) inode: u64,
    pub(super) size: u64,
    pub(super) modified_ms: i64,
}

impl FileStamp {
    fn of(meta: &Metadata) -> Self {
        let modified_ms = meta.mtime().saturating_mul(1_000).saturating_add(meta.mtime_nsec() / 1_000_000);
        Self { inode: meta.ino(), size: meta.len(), modified_ms }
    }
}

/// What a listing says, without opening a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Signature {
    /// Number and stamp of the newest checkpoint.
    pub(super) checkpoint: Option<(u32, FileStamp)>,
    /// Stamps of each block's `meta.json` and tombstones.
    pub(super) blocks: BTreeMap<Ulid, (Option<FileStamp>, Option<FileStamp>)>,
}

impl Signature {
    /// Returns the newest modification time of what differs from an earlier listing; 0 where only something is missing.
    /// `directory_ms` tells when a block was removed.
    fn newest_change_ms(&self, old: &Self, directory_ms: i64) -> i64 {
        let newest = |stamp: Option<FileStamp>, old: Option<FileStamp>| {
            stamp.filter(|_| stamp != old).map_or(0, |stamp| stamp.modified_ms)
        };
        let checkpoint = newest(self.checkpoint.map(|c| c.1), old.checkpoint.map(|c| c.1));
        let blocks = self.blocks.iter().map(|(id, &(meta, tombstones))| {
            let (old_meta, old_tombstones) = old.blocks.get(id).copied().unwrap_or_default();
            newest(meta, old_meta).max(newest(tombstones, old_tombstones))
        });
        let removed = old.blocks.keys().any(|id| !self.blocks.contains_key(id));
        let changed = blocks.max().unwrap_or(0).max(checkpoint);
        if removed { changed.max(directory_ms) } else { changed }
    }
}

/// When the data directory came to be as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dated {
    /// By the modification times of what is there, and what earlier listings found.
    pub(super) changed_ms: i64,
    /// What is not as in the base before was still so at this time: a modification time tells nothing of what is
    /// missing, nor of what was moved here.
    pub(super) not_before_ms: i64,
}

/// An earlier listing: the next one is dated by it.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    pub(super) signature: Signature,
    /// The directory was still like this at this time.
    pub(super) seen_ms: i64,
    pub(super) dated: Dated,
}

/// What a listing is compared with.
#[derive(Debug, Clone)]
pub(super) enum Before {
    /// The listing before it.
    Listing(Listed),
    /// There is none yet: all that is known is that the archive reaches to this time.
    Archive(i64),
}

impl Before {
    /// Returns whether this was the same listing.
    pub(super) fn is(&self, signature: &Signature) -> bool {
        matches!(self, Self::Listing(listed) if listed.signature == *signature)
    }

    fn date(&self, signature: &Signature, directory_ms: i64, seen_ms: i64) -> Dated {
        let dated = match self {
            Self::Listing(listed) if listed.signature == *signature => listed.dated,
            Self::Listing(listed) => {
                let changed_ms = signature.newest_change_ms(&listed.signature, directory_ms);
                let changed_ms = changed_ms.max(listed.seen_ms);
                Dated { changed_ms, not_before_ms: changed_ms }
            }
            Self::Archive(not_before_ms) => {
                let changed_ms = signature.newest_change_ms(&Signature::default(), directory_ms);
                let changed_ms = if changed_ms == 0 { seen_ms } else { changed_ms };
                Dated { changed_ms, not_before_ms: *not_before_ms }
            }
        };
        Dated { changed_ms: dated.changed_ms.min(seen_ms), not_before_ms: dated.not_before_ms.min(seen_ms) }
    }
}

/// A file that is kept for the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeptFile {
    /// Its path below the block or checkpoint.
    pub(super) path: String,
    /// Its name in the spool.
    pub(super) kept: String,
}

/// A block as it was found.
#[derive(Debug, Clone)]
pub(super) struct SeenBlock {
    pub(super) id: Ulid,
    pub(super) meta: BlockMeta,
    pub(super) meta_ms: i64,
    /// Its files but the tombstones; nothing where the archive has them.
    pub(super) files: Option<Vec<KeptFile>>,
    /// Its tombstones, where there are any, and when they were written.
    pub(super) tombstones: Option<(KeptFile, i64)>,
}

/// The newest checkpoint as it was found.
#[derive(Debug, Clone)]
pub(super) struct SeenCheckpoint {
    pub(super) number: u32,
    pub(super) files: Vec<KeptFile>,
}

/// The data directory at one moment; all files are kept.
#[derive(Debug, Clone)]
pub(super) struct Scan {
    pub(super) logs: LogsSeen,
    pub(super) signature: Signature,
    pub(super) dated: Dated,
    pub(super) checkpoint: Option<SeenCheckpoint>,
    pub(super) blocks: Vec<SeenBlock>,
    /// Blocks that cannot be read, and why.
    pub(super) unreadable: Vec<(Ulid, String)>,
}

/// What `meta.json` says that the archive needs.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BlockMeta {
    pub(super) min_time: i64,
    pub(super) max_time: i64,
    #[serde(default)]
    pub(super) stats: BlockStats,
    pub(super) compaction: BlockCompaction,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct BlockStats {
    pub(super) num_samples: u64,
    pub(super) num_series: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct BlockCompaction {
    pub(super) level: u32,
    pub(super) sources: Vec<Ulid>,
    pub(super) parents: Vec<ParentBlock>,
    pub(super) hints: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct ParentBlock {
    pub(super) ulid: Ulid,
}

/// Blocks that the archive has, with whether it has their own files: else those of the blocks that they were made from,
/// which do as long as nothing is deleted in them.
#[derive(Debug, Clone, Default)]
pub(super) struct Stored(BTreeMap<Ulid, bool>);

impl Stored {
    pub(super) fn of(base: Option<&Base>) -> Self {
        let blocks = base.into_iter().flat_map(|base| &base.blocks).filter(|block| !block.stored.is_empty());
        let own = |block: &BlockState| block.stored.iter().any(|stored| stored.id == block.id);
        Self(blocks.map(|block| (block.id, own(block))).collect())
    }

    fn has(&self, id: Ulid, tombstones: bool) -> bool {
        self.0.get(&id).is_some_and(|own| *own || !tombstones)
    }
}

/// Lists blocks and checkpoints until two listings are equal.
pub(super) fn list(data_dir: &Path) -> Result<Signature> {
    let mut before = list_once(data_dir)?;
    for _ in 1..LISTINGS_MAX {
        let now = list_once(data_dir)?;
        if now == before {
            break;
        }
        before = now;
    }
    Ok(before)
}

fn list_once(data_dir: &Path) -> Result<Signature> {
    let mut signature = Signature::default();
    for (number, path) in numbered(&data_dir.join("wal"))? {
        if let Some(stamp) = stamp(&path)? {
            let newer = signature.checkpoint.is_none_or(|(newest, _)| newest < number);
            signature.checkpoint = if newer { Some((number, stamp)) } else { signature.checkpoint };
        }
    }
    for entry in fs::read_dir(data_dir)? {
        let Some(id) = entry?.file_name().to_str().and_then(block_id) else { continue };
        let dir = data_dir.join(id.to_string());
        signature.blocks.insert(id, (stamp(&dir.join("meta.json"))?, stamp(&dir.join("tombstones"))?));
    }
    Ok(signature)
}

fn block_id(name: &str) -> Option<Ulid> {
    Ulid::from_string(name).ok().filter(|id| id.to_string() == name)
}

fn stamp(path: &Path) -> Result<Option<FileStamp>> {
    match fs::metadata(path) {
        Ok(meta) => Ok(Some(FileStamp::of(&meta))),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Lists the checkpoints in the log's folder.
fn numbered(wal: &Path) -> Result<Vec<(u32, PathBuf)>> {
    let entries = match fs::read_dir(wal) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("checkpoint."));
        let digits = number.filter(|n| n.len() >= 8 && n.bytes().all(|b| b.is_ascii_digit()));
        if let Some(number) = digits.and_then(|number| number.parse().ok()) {
            found.push((number, entry.path()));
        }
    }
    Ok(found)
}

/// Keeps all files that a listing names and the archive lacks. Nothing where the server changed them meanwhile: list
/// again.
pub(super) fn keep(
    data_dir: &Path,
    spool: &Spool,
    logs: LogsSeen,
    (signature, before): (Signature, &Before),
    archived: &Stored,
) -> Result<Option<Scan>> {
    let checkpoint = match signature.checkpoint {
        Some((number, stamp)) => {
            let name = format!("checkpoint.{number:08}");
            let files = keep_folder(
                spool,
                &data_dir.join("wal").join(&name),
                &format!("{KEPT}/{name}-{}", stamp.inode),
                |file| crate::bucket::file_name(file).is_some(),
            )?;
            Some(SeenCheckpoint { number, files })
        }
        None => None,
    };
    let (mut blocks, mut unreadable) = (Vec::new(), Vec::new());
    for (&id, &(meta, tombstones)) in &signature.blocks {
        match keep_block((data_dir, spool), id, (meta, tombstones), archived)? {
            Ok(block) => blocks.push(block),
            Err(reason) => unreadable.push((id, reason)),
        }
    }
    if list_once(data_dir)? != signature {
        return Ok(None);
    }
    let directory_ms = FileStamp::of(&fs::metadata(data_dir)?).modified_ms;
    let dated = before.date(&signature, directory_ms, logs.seen.wall_ms);
    Ok(Some(Scan { logs, signature, dated, checkpoint, blocks, unreadable }))
}

type Readable<T> = std::result::Result<T, String>;

fn keep_block(
    (data_dir, spool): (&Path, &Spool),
    id: Ulid,
    (meta, tombstones): (Option<FileStamp>, Option<FileStamp>),
    archived: &Stored,
) -> Result<Readable<SeenBlock>> {
    let dir = data_dir.join(id.to_string());
    let Some(meta_stamp) = meta else { return Ok(Err("it has no meta.json".to_owned())) };
    let tombstones = tombstones.filter(|stamp| stamp.size > EMPTY_TOMBSTONES_BYTES);
    let folder = format!("{KEPT}/blocks/{id}");
    let meta_name = format!("{folder}/meta.json-{}", meta_stamp.inode);
    let wanted = !archived.has(id, tombstones.is_some());
    if wanted {
        spool.keep(&meta_name, &dir.join("meta.json"))?;
    }
    if meta_stamp.size > META_BYTES_MAX {
        return Ok(Err(format!("its meta.json has {} bytes", meta_stamp.size)));
    }
    let meta: BlockMeta = match serde_json::from_slice(&fs::read(dir.join("meta.json"))?) {
        Ok(meta) => meta,
        Err(error) => return Ok(Err(format!("its meta.json: {error}"))),
    };
    if stamp(&dir.join("index"))?.is_none() {
        return Ok(Err("it has no index".to_owned()));
    }
    let files = if wanted { Some(keep_files(&dir, spool, &folder, meta_name)?) } else { None };
    let tombstones = match tombstones {
        Some(stamp) => {
            let kept = format!("{folder}/tombstones-{}", stamp.inode);
            spool.keep(&kept, &dir.join("tombstones"))?;
            Some((KeptFile { path: "tombstones".to_owned(), kept }, stamp.modified_ms))
        }
        None => None,
    };
    Ok(Ok(SeenBlock { id, meta, meta_ms: meta_stamp.modified_ms, files, tombstones }))
}

/// Keeps index and chunks of a block, and names them after its `meta.json`.
fn keep_files(dir: &Path, spool: &Spool, folder: &str, meta_name: String) -> Result<Vec<KeptFile>> {
    let index = KeptFile { path: "index".to_owned(), kept: format!("{folder}/index") };
    spool.keep(&index.kept, &dir.join("index"))?;
    let mut files = vec![KeptFile { path: "meta.json".to_owned(), kept: meta_name }, index];
    let chunks = keep_folder(spool, &dir.join("chunks"), &format!("{folder}/chunks"), |_| true)?;
    files.extend(chunks.into_iter().filter_map(|file| {
        let path = format!("chunks/{}", file.path);
        crate::bucket::file_name(&path)?;
        Some(KeptFile { path, ..file })
    }));
    Ok(files)
}

/// Keeps the files of a folder, sorted by name.
fn keep_folder(
    spool: &Spool,
    live: &Path,
    kept: &str,
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<KeptFile>> {
    let mut files = Vec::new();
    let entries = match fs::read_dir(live) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(files),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let Some(path) = entry.file_name().to_str().filter(|name| wanted(name)).map(str::to_owned) else {
            continue;
        };
        let file = KeptFile { kept: format!("{kept}/{path}"), path };
        spool.keep(&file.kept, &entry.path())?;
        files.push(file);
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}
