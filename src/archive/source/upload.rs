//! Stores files in parts, and tries again until the store takes them.

use std::fs::File;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::instruments::Instruments;
use super::walk::read_at_most;
use crate::archive::{Archive, ArchiveError, Sha256Hash, StoredFile, StoredPart, compress};
use crate::bucket::{Created, FileOwner, ObjectKey};
use crate::model::{ErrorKind, Ulid, error_chain};
use crate::runtime::{Clock, Cpu, Random, Shutdown, crash_point};

/// The size of a part. A few of them are in memory at once.
const PART_BYTES: u64 = 16 << 20;

/// Parts are compressed where that makes them smaller; indices are, chunks hardly.
const ZSTD_LEVEL: i32 = 1;

const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// How long the store is asked again after the process was told to end.
const LAST_TRIES: Duration = Duration::from_secs(15);

/// Stores objects of one archive.
#[derive(Debug, Clone)]
pub(super) struct Uploader {
    pub(super) archive: Archive,
    pub(super) cpu: Cpu,
    pub(super) random: Random,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) stop: Shutdown,
    pub(super) instruments: Instruments,
}

/// A part that is ready to be stored.
struct SealedPart {
    number: u32,
    plain_bytes: u64,
    compressed: bool,
    key: ObjectKey,
    stored: Bytes,
}

/// Where a file's reading stands.
struct Reading {
    file: Arc<File>,
    hash: Sha256,
    offset: u64,
    number: u32,
}

impl Uploader {
    /// Runs a request until it succeeds or fails for good. After the stop it is tried for a short while only.
    ///
    /// # Errors
    /// A failure that trying again does not heal, or the last one after the stop.
    pub(super) async fn retry<T, F: Future<Output = Result<T, ArchiveError>>>(
        &self,
        what: &'static str,
        mut request: impl FnMut() -> F,
    ) -> Result<T, ArchiveError> {
        let mut pause = PAUSE_FIRST;
        let mut stopped_ms = None;
        loop {
            let error = match request().await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            self.instruments.upload_failures.inc();
            if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::Internal) {
                return Err(error);
            }
            let now_ms = self.clock.monotonic_ms();
            if self.stop.started() {
                let since_ms = *stopped_ms.get_or_insert(now_ms);
                if now_ms - since_ms >= LAST_TRIES.as_millis() as i64 {
                    return Err(error);
                }
                pause = pause.min(Duration::from_secs(1));
            }
            let source = self.archive.source();
            tracing::warn!(%source, what, error = error_chain(&error), "object storage does not take it, trying again");
            if self.stop.started() {
                tokio::time::sleep(pause).await;
            } else {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = self.stop.wait() => {}
                }
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Stores an object whose key has a random id.
    ///
    /// # Errors
    /// As [`Uploader::retry`].
    pub(super) async fn put(
        &self,
        what: &'static str,
        key: &ObjectKey,
        stored: Bytes,
    ) -> Result<(), ArchiveError> {
        self.retry(what, || async {
            match self.archive.bucket().create(key, stored.clone()).await? {
                Created::Stored => Ok(()),
                Created::Conflict(_) => {
                    Err(crate::bucket::BucketError::Occupied { key: key.to_string() }.into())
                }
            }
        })
        .await
    }

    /// Stores a file.
    ///
    /// # Errors
    /// A file that cannot be read, or as [`Uploader::retry`].
    pub(super) async fn store_file(
        &self,
        owner: FileOwner,
        path: &str,
        upload: Ulid,
        file: Arc<File>,
    ) -> Result<StoredFile, ArchiveError> {
        let named = crate::bucket::file_name(path)
            .ok_or_else(|| ArchiveError::Invalid(format!("{path:?} is no name of a block's file")))?;
        let mut reading = Reading { file, hash: Sha256::new(), offset: 0, number: 0 };
        let (mut parts, mut sealed) = (Vec::new(), None);
        loop {
            // One part is read and compressed while the one before is stored.
            let next = self.read_part(owner, named.clone(), upload, path, reading);
            let (next, stored) = futures::future::join(next, self.put_part(sealed)).await;
            parts.extend(stored?);
            (sealed, reading) = next?;
            if sealed.is_none() {
                let sha256 = Sha256Hash::finish(reading.hash);
                let size_bytes = reading.offset;
                return Ok(StoredFile { path: path.to_owned(), owner, upload, size_bytes, sha256, parts });
            }
        }
    }

    async fn read_part(
        &self,
        owner: FileOwner,
        file_name: String,
        upload: Ulid,
        path: &str,
        mut reading: Reading,
    ) -> Result<(Option<SealedPart>, Reading), ArchiveError> {
        let (archive, random, path) = (self.archive.clone(), self.random.clone(), path.to_owned());
        let read = move || {
            let failed = |source| ArchiveError::File { path: (&path).into(), source };
            let rest = reading.file.metadata().map_err(failed)?.len().saturating_sub(reading.offset);
            let mut plain = vec![0; rest.min(PART_BYTES) as usize];
            let read = read_at_most(&reading.file, &mut plain, reading.offset).map_err(failed)?;
            plain.truncate(read);
            if plain.is_empty() {
                return Ok((None, reading));
            }
            reading.hash.update(&plain);
            let number = reading.number;
            let object =
                crate::bucket::ArchiveObject::FilePart { owner, upload, file: file_name, part: number };
            let key = archive.key(object);
            let packed = compress(&plain, ZSTD_LEVEL);
            let compressed = packed.len() < plain.len();
            let content = if compressed { packed } else { plain };
            let name = key.to_string();
            let stored = archive
                .envelope()
                .seal(&name, Bytes::from(content), &random)
                .map_err(|source| ArchiveError::Envelope { key: name, source })?;
            reading.offset += read as u64;
            reading.number += 1;
            Ok((Some(SealedPart { number, plain_bytes: read as u64, compressed, key, stored }), reading))
        };
        self.cpu.run(read).await?
    }

    async fn put_part(&self, part: Option<SealedPart>) -> Result<Option<StoredPart>, ArchiveError> {
        let Some(part) = part else { return Ok(None) };
        let stored_sha256 = Sha256Hash::of(&part.stored);
        let stored_bytes = part.stored.len() as u64;
        self.put("a part of a block or checkpoint", &part.key, part.stored.clone()).await?;
        if part.number == 0 {
            crash_point("archive.block-part");
        }
        let SealedPart { plain_bytes, compressed, .. } = part;
        Ok(Some(StoredPart { plain_bytes, compressed, stored_bytes, stored_sha256 }))
    }
}

/// Returns size and hash of a file, read in steps.
pub(super) fn hash_file(file: &File) -> std::io::Result<(u64, Sha256Hash)> {
    let mut buffer = vec![0; 1 << 20];
    let (mut hash, mut offset) = (Sha256::new(), 0);
    loop {
        let read = read_at_most(file, &mut buffer, offset)?;
        hash.update(&buffer[..read]);
        offset += read as u64;
        if read < buffer.len() {
            return Ok((offset, Sha256Hash::finish(hash)));
        }
    }
}
