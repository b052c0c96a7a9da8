//! Storing a local file: blocks, which may be larger than memory allows to hold at once.

use std::io::ErrorKind as IoErrorKind;
use std::path::Path;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::{MultipartUpload, PutMultipartOptions};
use sha2::{Digest, Sha256};
use tokio::fs::File;
use tokio::io::AsyncReadExt;

use super::attempts::bounded;
use super::create::Created;
use super::instruments::Operation;
use super::read::short;
use super::{Bucket, BucketError, ObjectKey};

/// The most parts that S3 takes, with room to spare.
const PARTS_MAX: u64 = 9_000;

/// How many parts are under way at once: what bounds the memory of an upload.
const PARTS_IN_FLIGHT: usize = 2;

/// Bytes read at once while hashing.
const HASH_BYTES: usize = 256 << 10;

impl Bucket {
    /// Stores a local file under a key that no other writer uses, in parts where it is large. A second call with the
    /// same file succeeds.
    ///
    /// # Errors
    /// [`BucketError::Occupied`] where the key holds something else, a file that cannot be read, or the store's
    /// failure; the object may then still appear.
    pub async fn create_from_file(&self, key: &ObjectKey, file: &Path) -> Result<(), BucketError> {
        let unreadable = |source| BucketError::File { path: file.to_owned(), source };
        let size_bytes = tokio::fs::metadata(file).await.map_err(unreadable)?.len();
        if size_bytes > self.part_bytes {
            if self.whole_puts_only {
                let (key, limit_bytes) = (key.to_string(), self.part_bytes);
                return Err(BucketError::TooLarge { key, size_bytes, limit_bytes });
            }
            self.create_from_parts(key, file, size_bytes).await?;
            return self.confirm_lock(key).await;
        }
        let bytes = Bytes::from(tokio::fs::read(file).await.map_err(unreadable)?);
        match self.create(key, bytes).await? {
            Created::Stored => Ok(()),
            Created::Conflict(_) => Err(BucketError::Occupied { key: key.to_string() }),
        }
    }

    async fn create_from_parts(
        &self,
        key: &ObjectKey,
        file: &Path,
        size_bytes: u64,
    ) -> Result<(), BucketError> {
        if let Some(found) = self.head(key).await? {
            return self.verify_file(key, file, size_bytes, found.size_bytes).await;
        }
        match self.upload_parts(key, file, size_bytes).await {
            Ok(()) => Ok(()),
            // Without an object there is nothing to find out, and the upload's own failure says more.
            Err(failure) => match self.head(key).await {
                Ok(Some(found)) => self.verify_file(key, file, size_bytes, found.size_bytes).await,
                _ => Err(failure),
            },
        }
    }

    async fn upload_parts(&self, key: &ObjectKey, file: &Path, size_bytes: u64) -> Result<(), BucketError> {
        let path = key.path();
        // The client tries its requests again by itself, but not where the answer breaks off.
        let started = self.attempts.run(Operation::Create, None, || {
            let options = PutMultipartOptions { attributes: self.attributes.clone(), ..Default::default() };
            self.uploads.put_multipart_opts(&path, options)
        });
        let failed = |e| BucketError::of(Operation::Create, key, e);
        let mut upload =
            self.instruments.observe(Operation::Create, Box::pin(started)).await.map_err(failed)?;
        let part_bytes = self.part_bytes.max(size_bytes.div_ceil(PARTS_MAX));
        let sent = self.send_parts(upload.as_mut(), key, file, part_bytes).await;
        let outcome = match sent {
            Ok(()) => {
                let completed = self.instruments.observe(Operation::Create, upload.complete()).await;
                completed.map(|_| ()).map_err(failed)
            }
            Err(error) => Err(error),
        };
        if outcome.is_err()
            && let Err(error) = upload.abort().await
        {
            tracing::debug!(%key, %error, "cannot abort an upload, the store has to clear it");
        }
        outcome
    }

    async fn send_parts(
        &self,
        upload: &mut dyn MultipartUpload,
        key: &ObjectKey,
        file: &Path,
        part_bytes: u64,
    ) -> Result<(), BucketError> {
        let unreadable = |source| BucketError::File { path: file.to_owned(), source };
        let failed = |e| BucketError::of(Operation::Create, key, e);
        let mut source = File::open(file).await.map_err(unreadable)?;
        let mut in_flight = futures::stream::FuturesUnordered::new();
        loop {
            let mut part = Vec::new();
            (&mut source).take(part_bytes).read_to_end(&mut part).await.map_err(unreadable)?;
            if part.is_empty() {
                break;
            }
            if in_flight.len() >= PARTS_IN_FLIGHT {
                in_flight.next().await.transpose().map_err(failed)?;
            }
            let size = part.len() as u64;
            let request = upload.put_part(part.into());
            in_flight.push(async move {
                let sent = self.instruments.observe(Operation::Create, request).await;
                self.instruments.count_bytes(Operation::Create, size);
                sent
            });
        }
        in_flight.try_collect::<Vec<()>>().await.map_err(failed)?;
        Ok(())
    }

    /// Compares what is stored with the file, by size and by hash.
    async fn verify_file(
        &self,
        key: &ObjectKey,
        file: &Path,
        size_bytes: u64,
        found_bytes: u64,
    ) -> Result<(), BucketError> {
        let unreadable = |source| BucketError::File { path: file.to_owned(), source };
        if size_bytes == found_bytes {
            let ours = hash_file(file).await.map_err(unreadable)?;
            let hash = self.attempts.run(Operation::Get, None, || self.hash_object(key, found_bytes));
            let theirs = self
                .instruments
                .observe(Operation::Get, Box::pin(hash))
                .await
                .map_err(|e| BucketError::of(Operation::Get, key, e))?;
            if ours == theirs {
                return self.confirm_durable(key).await;
            }
        }
        Err(BucketError::Occupied { key: key.to_string() })
    }

    async fn hash_object(&self, key: &ObjectKey, expected_bytes: u64) -> object_store::Result<[u8; 32]> {
        let mut hash = Sha256::new();
        let mut got_bytes = 0;
        let mut stream = self.answer(Operation::Get, &key.path(), None).await?.into_stream();
        while let Some(chunk) = bounded(self.attempts.patience.idle_max, stream.try_next()).await? {
            hash.update(&chunk);
            got_bytes += chunk.len() as u64;
            self.instruments.count_bytes(Operation::Get, chunk.len() as u64);
        }
        if got_bytes != expected_bytes {
            return Err(short(got_bytes, expected_bytes));
        }
        Ok(hash.finalize().into())
    }
}

async fn hash_file(file: &Path) -> std::io::Result<[u8; 32]> {
    let mut source = File::open(file).await?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; HASH_BYTES];
    loop {
        match source.read(&mut chunk).await {
            Ok(0) => return Ok(hash.finalize().into()),
            Ok(n) => hash.update(&chunk[..n]),
            Err(e) if e.kind() == IoErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}
