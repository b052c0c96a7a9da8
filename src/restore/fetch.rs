//! Brings objects into the work directory, each checked before it is written.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};

use super::RestoreError;
use super::context::RestoreContext;
use super::estimate::FETCHES_AT_ONCE;
use super::inventory::{Inventory, Obstacle};
use super::journal::Journal;
use super::local::{LocalFiles, hash_file};
use super::progress::Phase;
use super::workplace::{Workplace, make_dir, open_file, remove_file_if_there};
use crate::archive::{ArchiveError, PieceCut, PieceEntry, Sha256Hash, StoredFile};
use crate::bucket::ObjectKey;
use crate::model::{ErrorKind, Ulid};
use crate::runtime::{Clock, crash_point};

/// How often a fetch is tried, with pauses that double from [`FIRST_PAUSE`].
const ATTEMPTS: u32 = 6;

const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// Where a file of a block or checkpoint goes.
#[derive(Debug, Clone)]
pub(super) struct Destination {
    pub(super) file: StoredFile,
    /// Below the work directory; also its name in the journal.
    pub(super) name: String,
    /// What another way must not need where this file is damaged.
    pub(super) upload: Ulid,
}

/// Everything that a way needs on disk.
#[derive(Debug, Default)]
pub(super) struct Destinations {
    pub(super) files: Vec<Destination>,
    pub(super) pieces: Vec<PieceEntry>,
}

impl Destinations {
    pub(super) fn of(inventory: &Inventory) -> Self {
        let mut files = Vec::new();
        for block in &inventory.blocks {
            for file in block.all_files() {
                let name = format!("data/{}", block.path_of(file).display());
                let upload = if file.path == "tombstones" { file.upload } else { block.block.upload };
                files.push(Destination { file: file.clone(), name, upload });
            }
        }
        for file in inventory.checkpoint_files() {
            let name = format!("stage/checkpoint/{}", file.path);
            files.push(Destination { file: file.clone(), name, upload: file.upload });
        }
        let cuts = inventory.resolved.wal.iter().chain(&inventory.resolved.wbl);
        Self { files, pieces: cuts.map(|PieceCut { piece, .. }| piece.clone()).collect() }
    }

    /// Lets blocks go to the stage, from where they are rewritten.
    pub(super) fn stage_blocks(&mut self) {
        for destination in &mut self.files {
            if let Some(path) = destination.name.strip_prefix("data/") {
                destination.name = format!("stage/blocks/{path}");
            }
        }
    }

    /// Returns the names of all files below a folder of the work directory.
    pub(super) fn below(&self, folder: &str) -> std::collections::BTreeSet<PathBuf> {
        let pieces = self.pieces.iter().map(|piece| format!("stage/{}", piece.id));
        let names = self.files.iter().map(|destination| destination.name.clone()).chain(pieces);
        names.filter_map(|name| name.strip_prefix(&format!("{folder}/")).map(PathBuf::from)).collect()
    }
}

/// Fetches for one restore.
#[derive(Debug)]
pub(super) struct Fetcher<'a> {
    pub(super) context: &'a RestoreContext,
    pub(super) place: &'a Workplace,
    pub(super) journal: &'a Journal,
    pub(super) limiter: Limiter,
}

/// One object to fetch.
enum Item<'a> {
    Piece(&'a PieceEntry),
    Part { destination: &'a Destination, part: u32, offset: u64 },
}

impl Fetcher<'_> {
    /// Fetches what is not there yet, then checks every file as a whole; one that is wrong is fetched once more.
    pub(super) async fn fetch(
        &self,
        wanted: &Destinations,
        local: &LocalFiles,
        to: &Path,
    ) -> Result<(), Obstacle> {
        let kept = self.prepare(wanted, local, to).await?;
        let missing: Vec<&Destination> =
            wanted.files.iter().zip(kept).filter(|(_, kept)| !kept).map(|(file, _)| file).collect();
        self.fetch_items(&wanted.pieces, &missing).await?;
        crash_point("restore.after-fetch");
        let wrong = self.verify(&wanted.files).await?;
        if wrong.is_empty() {
            return Ok(());
        }
        for destination in &wrong {
            tracing::warn!(file = destination.name, "fetching a file again whose hash is wrong");
            self.drop_file(destination).map_err(|e| Obstacle::of(destination.upload, e))?;
        }
        self.fetch_items(&[], &wrong).await?;
        match self.verify(&wanted.files).await?.first() {
            None => Ok(()),
            Some(wrong) => {
                let what = format!("{} in the archive", wrong.name);
                let reason = "its parts are whole, but not the file whose SHA-256 was recorded".to_owned();
                Err(Obstacle::of(wrong.upload, RestoreError::Damaged { what, reason }))
            }
        }
    }

    /// Makes folders, links what the target has, and returns for every file whether it is there as it should be.
    async fn prepare(
        &self,
        wanted: &Destinations,
        local: &LocalFiles,
        to: &Path,
    ) -> Result<Vec<bool>, Obstacle> {
        let checks = wanted.files.iter().map(|destination| async move {
            let failed = |error| Obstacle::of(destination.upload, error);
            let path = self.place.work().join(&destination.name);
            make_folders(self.place.work(), &destination.name).map_err(failed)?;
            let parts = destination.file.parts.len() as u32;
            if parts > 0 && (0..parts).all(|part| self.journal.has_part(&destination.name, part)) {
                return Ok(true);
            }
            if (0..parts).any(|part| self.journal.has_part(&destination.name, part)) {
                return Ok(false);
            }
            if let Some(relative) = path_in_data_dir(&destination.name)
                && local.has(relative)
                && std::fs::symlink_metadata(&path).is_err()
            {
                let from = to.join(relative);
                let linked =
                    std::fs::hard_link(&from, &path).or_else(|_| std::fs::copy(&from, &path).map(drop));
                linked.map_err(RestoreError::file(&from)).map_err(failed)?;
            }
            let (size_bytes, sha256) = (destination.file.size_bytes, destination.file.sha256);
            let there = path.clone();
            let same = self.context.cpu.run(move || {
                let same_size =
                    std::fs::symlink_metadata(&there).is_ok_and(|f| f.is_file() && f.len() == size_bytes);
                same_size && hash_file(&there, &mut |_| {}).is_ok_and(|found| found == sha256)
            });
            if same.await.map_err(|e| failed(e.into()))? {
                return Ok(true);
            }
            // It may be a link to the target's file: never written into.
            remove_file_if_there(&path).map_err(failed)?;
            Ok(false)
        });
        futures::stream::iter(checks).buffered(self.context.threads).try_collect().await
    }

    async fn fetch_items(&self, pieces: &[PieceEntry], files: &[&Destination]) -> Result<(), Obstacle> {
        let mut items: Vec<Item<'_>> = pieces.iter().map(Item::Piece).collect();
        let mut total_bytes: u64 = pieces.iter().map(|piece| piece.stored_bytes).sum();
        for destination in files {
            let mut offset = 0;
            for (part, entry) in (0..).zip(&destination.file.parts) {
                if !self.journal.has_part(&destination.name, part) {
                    items.push(Item::Part { destination, part, offset });
                    total_bytes += entry.stored_bytes;
                }
                offset += entry.plain_bytes;
            }
        }
        self.context.progress.begin(Phase::Fetch, total_bytes);
        let fetches = items.into_iter().map(|item| self.fetch_item(item));
        futures::stream::iter(fetches).buffer_unordered(FETCHES_AT_ONCE).try_collect::<()>().await?;
        for destination in files.iter().filter(|destination| destination.file.parts.is_empty()) {
            let path = self.place.work().join(&destination.name);
            open_file(&path).map_err(|e| Obstacle::of(destination.upload, e))?;
        }
        self.context.progress.end();
        Ok(())
    }

    async fn fetch_item(&self, item: Item<'_>) -> Result<(), Obstacle> {
        let (id, fetched) = match item {
            Item::Piece(piece) => (piece.id, self.fetch_piece(piece).await),
            Item::Part { destination, part, offset } => {
                (destination.upload, self.fetch_part(destination, part, offset).await)
            }
        };
        fetched.map_err(|error| Obstacle::of(id, error))
    }

    /// Stages the stored bytes of a piece, unless they are there.
    async fn fetch_piece(&self, piece: &PieceEntry) -> Result<(), RestoreError> {
        let (path, sha256) = (self.place.stage().join(piece.id.to_string()), piece.stored_sha256);
        let there = path.clone();
        if path.exists()
            && self.context.cpu.run(move || hash_file(&there, &mut |_| {})).await?.ok() == Some(sha256)
        {
            self.context.progress.advance(piece.stored_bytes);
            return Ok(());
        }
        let key = piece.key(self.context.archive.source());
        let stored = self.get(&key, piece.stored_bytes).await?;
        self.context
            .cpu
            .run(move || {
                check_hash(&key, &stored, sha256)?;
                std::fs::write(&path, &stored).map_err(RestoreError::file(&path))
            })
            .await??;
        crash_point("restore.after-object");
        Ok(())
    }

    async fn fetch_part(
        &self,
        destination: &Destination,
        part: u32,
        offset: u64,
    ) -> Result<(), RestoreError> {
        let archive = self.context.archive.clone();
        let entry = &destination.file.parts[part as usize];
        let key =
            destination.file.part_key(archive.source(), part).ok_or_else(|| RestoreError::Untrusted {
                what: destination.name.clone(),
                reason: "no file is called so".to_owned(),
            })?;
        let stored = self.get(&key, entry.stored_bytes).await?;
        let (sha256, file) = (entry.stored_sha256, destination.file.clone());
        let path = self.place.work().join(&destination.name);
        let written = self.context.cpu.run(move || {
            check_hash(&key, &stored, sha256)?;
            let plain = archive.open_part(&file, part, stored)?;
            open_file(&path)?.write_all_at(&plain, offset).map_err(RestoreError::file(&path))
        });
        written.await??;
        self.journal.add_part(&destination.name, part);
        crash_point("restore.after-object");
        Ok(())
    }

    async fn get(&self, key: &ObjectKey, stored_bytes: u64) -> Result<Bytes, RestoreError> {
        let stored = patiently(|| self.context.archive.read_stored(key)).await?;
        self.limiter.pass(&*self.context.clock, stored_bytes).await;
        self.context.progress.advance(stored_bytes);
        Ok(stored)
    }

    /// Hashes every file as a whole and makes it durable; returns those that are wrong.
    async fn verify<'d>(&self, files: &'d [Destination]) -> Result<Vec<&'d Destination>, Obstacle> {
        self.context.progress.begin(Phase::Verify, files.iter().map(|d| d.file.size_bytes).sum());
        let checks = files.iter().map(|destination| async move {
            let (path, file) = (self.place.work().join(&destination.name), destination.file.clone());
            let progress = std::sync::Arc::clone(&self.context.progress);
            let right = self.context.cpu.run(move || {
                let right = std::fs::symlink_metadata(&path)
                    .is_ok_and(|f| f.is_file() && f.len() == file.size_bytes)
                    && hash_file(&path, &mut |bytes| progress.advance(bytes)).is_ok_and(|h| h == file.sha256);
                if right {
                    open_file(&path)?.sync_all().map_err(RestoreError::file(&path))?;
                }
                Ok::<_, RestoreError>(right)
            });
            let right = right.await.map_err(RestoreError::from).and_then(|right| right);
            let right = right.map_err(|error| Obstacle::of(destination.upload, error))?;
            Ok((!right).then_some(destination))
        });
        let wrong: Vec<Option<&Destination>> =
            futures::stream::iter(checks).buffered(self.context.threads).try_collect().await?;
        self.context.progress.end();
        Ok(wrong.into_iter().flatten().collect())
    }

    fn drop_file(&self, destination: &Destination) -> Result<(), RestoreError> {
        self.journal.forget(&destination.name);
        remove_file_if_there(&self.place.work().join(&destination.name))
    }
}

/// Returns where a file of a block stands in a data directory.
fn path_in_data_dir(name: &str) -> Option<&Path> {
    name.strip_prefix("data/").or_else(|| name.strip_prefix("stage/blocks/")).map(Path::new)
}

/// Reads from the store, again where it is unavailable for a moment.
pub(super) async fn patiently<T, F>(read: impl Fn() -> F) -> Result<T, ArchiveError>
where
    F: Future<Output = Result<T, ArchiveError>>,
{
    let (mut attempt, mut pause) = (1, FIRST_PAUSE);
    loop {
        match read().await {
            Err(error)
                if attempt < ATTEMPTS
                    && matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Overloaded) =>
            {
                tracing::warn!(attempt, %error, "cannot read an object, trying again");
                tokio::time::sleep(pause).await;
                (attempt, pause) = (attempt + 1, pause * 2);
            }
            read => return read,
        }
    }
}

fn check_hash(key: &ObjectKey, stored: &[u8], sha256: Sha256Hash) -> Result<(), RestoreError> {
    if Sha256Hash::of(stored) == sha256 {
        return Ok(());
    }
    let reason = "its SHA-256 is not the one that was recorded".to_owned();
    Err(ArchiveError::Damaged { key: key.to_string(), reason }.into())
}

/// Makes the folders of a name below the work directory.
fn make_folders(work: &Path, name: &str) -> Result<(), RestoreError> {
    let mut folder = work.to_owned();
    let parents = Path::new(name).parent().map(Path::components);
    for component in parents.into_iter().flatten() {
        folder.push(component);
        make_dir(&folder)?;
    }
    Ok(())
}

/// Lets so many bytes a second through.
#[derive(Debug)]
pub(super) struct Limiter {
    bytes_per_second: Option<u64>,
    /// When what has passed so far should have passed, on the monotonic clock.
    free_at_ms: Mutex<f64>,
}

impl Limiter {
    pub(super) fn new(bytes_per_second: Option<u64>) -> Self {
        Self { bytes_per_second, free_at_ms: Mutex::new(0.0) }
    }

    async fn pass(&self, clock: &dyn Clock, bytes: u64) {
        let Some(limit) = self.bytes_per_second else { return };
        let now_ms = clock.monotonic_ms() as f64;
        let free_at_ms = {
            let mut free_at_ms = self.free_at_ms.lock().unwrap_or_else(PoisonError::into_inner);
            *free_at_ms = free_at_ms.max(now_ms) + bytes as f64 * 1_000.0 / limit.max(1) as f64;
            *free_at_ms
        };
        let wait_ms = (free_at_ms - now_ms).max(0.0);
        tokio::time::sleep(Duration::from_millis(wait_ms as u64)).await;
    }
}
