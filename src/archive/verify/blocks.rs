//! L3 of a block: its files are read in parts, as they are asked for, and nothing is held whole.
//!
//! The check of a block is synchronous and runs on a compute thread; a part that it needs is asked for over a channel
//! and read by the I/O side meanwhile.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::decode::{SharedFile, check_file_hash};
use super::inventory::KnownBlock;
use super::reading::{Decoded, Reader};
use crate::archive::{Archive, ArchiveError, StoredFile};
use crate::bucket::BucketError;
use crate::tsdb::block::{BlockFile, BlockParts, ReadAt, check_block};

/// What was read last of one block stays in memory up to this size: a small block is read once.
const CACHE_BYTES_MAX: usize = 192 << 20;

/// A `meta.json` has a few KiB, unless a block was compacted from very many.
const META_BYTES_MAX: u64 = 64 << 20;

/// Asks the I/O side for the stored bytes of a part.
struct Ask {
    file: SharedFile,
    part: u32,
    answer: SyncSender<Result<Bytes, ArchiveError>>,
}

/// What all files of a block share.
struct Shared {
    archive: Archive,
    ask: UnboundedSender<Ask>,
    state: Mutex<State>,
}

/// Parts in memory, the newest last, and what went wrong.
#[derive(Default)]
struct State {
    cached: VecDeque<(String, u32, Bytes)>,
    cached_bytes: usize,
    read_objects: u64,
    read_bytes: u64,
    errors: Vec<(String, ArchiveError)>,
}

/// A file of a block, read part by part.
#[derive(Clone)]
struct PartsFile {
    shared: Arc<Shared>,
    file: SharedFile,
    /// Where each part begins, and the end.
    starts: Arc<[u64]>,
}

impl PartsFile {
    fn new(shared: &Arc<Shared>, file: StoredFile) -> Self {
        let mut starts = vec![0_u64];
        for part in &file.parts {
            starts.push(starts.last().copied().unwrap_or(0).saturating_add(part.plain_bytes));
        }
        Self { shared: Arc::clone(shared), file: Arc::new(file), starts: starts.into() }
    }

    fn part(&self, part: u32) -> io::Result<Bytes> {
        let path = self.file.path.as_str();
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, _, bytes)) = state.cached.iter().rev().find(|(p, n, _)| p == path && *n == part) {
            return Ok(bytes.clone());
        }
        let (answer, answered) = sync_channel(1);
        let ask = Ask { file: Arc::clone(&self.file), part, answer };
        let gone = || io::Error::from(io::ErrorKind::Interrupted);
        self.shared.ask.send(ask).map_err(|_| gone())?;
        let stored = answered.recv().map_err(|_| gone())?;
        let plain = stored.and_then(|stored| {
            state.read_objects += 1;
            state.read_bytes += stored.len() as u64;
            let named = self.file.part_key(self.shared.archive.source(), part);
            check_hash(&self.file, part, named, &stored)?;
            self.shared.archive.open_part(&self.file, part, stored)
        });
        let plain = match plain {
            Ok(plain) => plain,
            Err(error) => {
                let key = self.file.part_key(self.shared.archive.source(), part);
                state.errors.push((key.map(|key| key.to_string()).unwrap_or_default(), error));
                return Err(io::ErrorKind::InvalidData.into());
            }
        };
        state.cached_bytes += plain.len();
        state.cached.push_back((path.to_owned(), part, plain.clone()));
        while state.cached_bytes > CACHE_BYTES_MAX && state.cached.len() > 1 {
            let freed = state.cached.pop_front().map_or(0, |(_, _, bytes)| bytes.len());
            state.cached_bytes -= freed;
        }
        Ok(plain)
    }

    /// Reads the file from end to end and holds it against its hash.
    fn check_hash(&self) -> io::Result<Result<(), ArchiveError>> {
        let (mut hash, mut bytes) = (Sha256::new(), 0);
        for part in 0..self.file.parts.len() {
            let plain = self.part(part as u32)?;
            hash.update(&plain);
            bytes += plain.len() as u64;
        }
        Ok(check_file_hash(&self.shared.archive, &self.file, bytes, hash))
    }
}

fn check_hash(
    file: &StoredFile,
    part: u32,
    key: Option<crate::bucket::ObjectKey>,
    stored: &Bytes,
) -> Result<(), ArchiveError> {
    let due = file.parts.get(part as usize).map(|part| part.stored_sha256);
    let found = crate::archive::Sha256Hash::of(stored);
    if due == Some(found) {
        return Ok(());
    }
    let key = key.map(|key| key.to_string()).unwrap_or_default();
    Err(ArchiveError::Damaged { key, reason: "its SHA-256 is not the one that was recorded".to_owned() })
}

impl ReadAt for PartsFile {
    fn read_at(&self, range: Range<u64>) -> io::Result<Cow<'_, [u8]>> {
        if range.end > self.len() || range.start > range.end {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut bytes = Vec::with_capacity((range.end - range.start) as usize);
        let mut at = range.start;
        while at < range.end {
            let part = self.starts.partition_point(|start| *start <= at) - 1;
            let begin = self.starts[part];
            let plain = self.part(part as u32)?;
            let from = (at - begin) as usize;
            let to = plain.len().min((range.end - begin) as usize);
            let piece = plain.get(from..to).filter(|piece| !piece.is_empty());
            bytes.extend_from_slice(piece.ok_or(io::ErrorKind::UnexpectedEof)?);
            at = begin + to as u64;
        }
        Ok(Cow::Owned(bytes))
    }

    fn len(&self) -> u64 {
        self.starts.last().copied().unwrap_or(0)
    }
}

impl Reader<'_> {
    /// Reads a block whole and checks everything in it.
    pub(super) async fn block(&self, known: &KnownBlock) -> Decoded {
        let _room = self.reserve(CACHE_BYTES_MAX as u64).await;
        let (ask, mut asked) = unbounded_channel::<Ask>();
        let shared =
            Arc::new(Shared { archive: self.archive.clone(), ask, state: Mutex::new(State::default()) });
        let known = known.clone();
        let checking = self.cpu.run(move || check(&shared, known));
        let answering = async {
            while let Some(Ask { file, part, answer }) = asked.recv().await {
                // Whoever asked may have gone with the whole run.
                let _ = answer.send(self.part(&file, part).await);
            }
        };
        let (decoded, ()) = futures::future::join(checking, answering).await;
        decoded.unwrap_or_else(|error| Decoded {
            errors: vec![(String::new(), error.into())],
            ..Decoded::default()
        })
    }

    async fn part(&self, file: &StoredFile, part: u32) -> Result<Bytes, ArchiveError> {
        let key = file
            .part_key(self.source(), part)
            .ok_or_else(|| ArchiveError::Bucket(BucketError::Name { name: file.path.clone() }))?;
        let stored = self.archive.read_stored(&key).await?;
        self.progress.read(stored.len() as u64);
        Ok(stored)
    }
}

/// Runs on a compute thread.
fn check(shared: &Arc<Shared>, known: KnownBlock) -> Decoded {
    let KnownBlock { block, files } = known;
    let source = shared.archive.source().clone();
    let manifest = block.manifest_key(&source).to_string();
    let mut decoded = Decoded::default();
    let key_of = |path: &str| -> String {
        let file = files.iter().find(|file| file.path == path);
        file.and_then(|file| file.part_key(&source, 0))
            .map_or_else(|| manifest.clone(), |key| key.to_string())
    };
    let mut index = None;
    let (mut meta, mut chunks) = (None, Vec::new());
    let mut sorted: Vec<&StoredFile> = files.iter().collect();
    sorted.sort_by(|a, b| a.path.cmp(&b.path));
    for file in sorted {
        let reader = PartsFile::new(shared, file.clone());
        match reader.check_hash() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => decoded.errors.push((key_of(&file.path), error)),
            // Noted where it was read.
            Err(_) => {}
        }
        match file.path.as_str() {
            "index" => index = Some(reader),
            "meta.json" => {
                meta = reader.read_at(0..reader.len().min(META_BYTES_MAX)).ok().map(Cow::into_owned)
            }
            path if path.starts_with("chunks/") => chunks.push(reader),
            _ => {}
        }
    }
    let is_read = shared.state.lock().unwrap_or_else(PoisonError::into_inner).errors.is_empty();
    if let (true, Some(index), Some(meta)) = (is_read, &index, &meta) {
        let no_tombstones = crate::tsdb::block::encode_tombstones(&[]);
        let parts = BlockParts {
            ulid: Some(block.id),
            meta,
            tombstones: Some(&no_tombstones),
            index,
            chunks: &chunks,
        };
        let report = check_block(&parts);
        decoded.blocks += 1;
        decoded.samples += report.samples;
        for finding in &report.findings {
            let at = finding.offset.map(|offset| format!(" at offset {offset}")).unwrap_or_default();
            let key = key_of(&BlockFile::to_string(&finding.file));
            decoded.add(key, format!("{}{at}: {}", finding.file, finding.what));
        }
        if report.samples != block.samples && report.is_sound() {
            decoded.add(
                &manifest,
                format!("the block has {} samples and not {}", report.samples, block.samples),
            );
        }
    } else if is_read {
        decoded.add(&manifest, "it names no index or no meta.json");
    }
    let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
    decoded.read_objects += state.read_objects;
    decoded.read_bytes += state.read_bytes;
    let errors = std::mem::take(&mut state.errors);
    // What is missing was found by the listing already.
    decoded.errors.extend(errors.into_iter().filter(|(_, e)| !matches!(e, ArchiveError::Missing { .. })));
    decoded
}
