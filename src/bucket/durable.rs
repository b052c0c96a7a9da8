//! A local folder as an object store whose puts are durable.
//!
//! Reads, listings and deletes are `LocalFileSystem`'s. Every put is: staging file in the same folder, fsync, hard
//! link (create) or rename (overwrite), fsync of the folder and of each folder up to the root that this process has
//! not synced before. Staging files are named `<name>#<digits>`, which `LocalFileSystem` hides.

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path as StorePath;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use tokio::fs::{self, File, OpenOptions};
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

use crate::runtime::crash_point;

use super::BucketError;

pub(super) const STORE: &str = "FILESYSTEM";

/// Staging files older than this belong to a process that died: a put renews the time with every write.
const STAGING_AGE_MAX: std::time::Duration = std::time::Duration::from_secs(3600);

/// A durable local store; clones share it.
#[derive(Clone)]
pub(super) struct DurableFiles(Arc<Inner>);

struct Inner {
    local: LocalFileSystem,
    root: PathBuf,
    folders: Mutex<Folders>,
    staged: AtomicU64,
}

/// What this process knows of its folders.
#[derive(Default)]
struct Folders {
    /// Folders whose own entry, up to the root, is durable.
    entered: HashSet<PathBuf>,
    /// Folders with a failed fsync: nobody knows which of their entries are durable.
    failed: HashSet<PathBuf>,
}

impl DurableFiles {
    /// Opens a folder, makes it where it is missing, and removes staging files that a dead process left.
    pub(super) fn open(directory: &Path) -> std::result::Result<Self, BucketError> {
        let refused = |source| BucketError::Folder { path: directory.to_owned(), source };
        let root = make_root(directory).map_err(refused)?;
        let local = LocalFileSystem::new_with_prefix(&root).map_err(|e| refused(e.into()))?;
        remove_old_staging_files(&root).map_err(refused)?;
        let (folders, staged) = (Mutex::default(), AtomicU64::new(0));
        Ok(Self(Arc::new(Inner { local, root, folders, staged })))
    }

    /// Returns the folder, absolute.
    pub(super) fn root(&self) -> &Path {
        &self.0.root
    }

    /// Makes an object that is visible durable, or says that it cannot be known.
    pub(super) async fn confirm(&self, location: &StorePath) -> Result<()> {
        let path = self.0.local.path_to_filesystem(location)?;
        self.0.sync_folders(folder_of(&path)?).await
    }
}

impl Inner {
    /// Opens a new staging file beside `path`, making folders where they are missing.
    async fn stage(&self, path: &Path) -> Result<(File, PathBuf)> {
        let folder = folder_of(path)?;
        self.refuse_failed(folder)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        loop {
            let number = self.staged.fetch_add(1, Ordering::Relaxed);
            let staging = folder.join(format!("{name}#{}{number:08}", std::process::id()));
            match OpenOptions::new().write(true).create_new(true).open(&staging).await {
                Ok(file) => return Ok((file, staging)),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                    // Somebody may have removed folders that were synced before.
                    self.known().entered.retain(|known| !folder.starts_with(known));
                    fs::create_dir_all(folder).await.map_err(failure)?;
                }
                Err(e) => return Err(failure(e)),
            }
        }
    }

    /// Syncs a staging file and gives it its name.
    async fn publish(&self, mut file: File, staging: &Path, path: &Path, create: bool) -> Result<PutResult> {
        let named = async {
            // `sync_all` alone would forget the failure of a write that is still under way.
            file.flush().await?;
            file.sync_all().await?;
            crash_point("bucket.before_link");
            if create { fs::hard_link(staging, path).await } else { fs::rename(staging, path).await }
        };
        let named = named.await;
        if create || named.is_err() {
            // What cannot be removed now is removed at a later start.
            let _ = fs::remove_file(staging).await;
        }
        named.map_err(|e| match e.kind() {
            std::io::ErrorKind::AlreadyExists => {
                Error::AlreadyExists { path: path.display().to_string(), source: e.into() }
            }
            _ => failure(e),
        })?;
        crash_point("bucket.after_link");
        self.sync_folders(folder_of(path)?).await?;
        Ok(PutResult { e_tag: None, version: None })
    }

    /// Syncs a folder, and each folder above it that this process has not entered into its parent durably.
    async fn sync_folders(&self, folder: &Path) -> Result<()> {
        self.refuse_failed(folder)?;
        self.sync_folder(folder).await?;
        let mut child = folder;
        while child != self.root && !self.known().entered.contains(child) {
            let Some(parent) = child.parent() else { break };
            self.sync_folder(parent).await?;
            child = parent;
        }
        self.known().entered.insert(folder.to_owned());
        Ok(())
    }

    async fn sync_folder(&self, folder: &Path) -> Result<()> {
        // Where it does not open (too many open files, say), nothing was synced and nothing got lost: a later try may do.
        let opened = File::open(folder).await.map_err(failure)?;
        opened.sync_all().await.map_err(|e| {
            tracing::error!(folder = %folder.display(), error = %e, "cannot sync a folder of the bucket");
            self.known().failed.insert(folder.to_owned());
            failure(e)
        })
    }

    fn refuse_failed(&self, folder: &Path) -> Result<()> {
        let known = self.known();
        match folder.ancestors().find(|f| known.failed.contains(*f)) {
            None => Ok(()),
            Some(failed) => Err(failure(std::io::Error::other(format!(
                "an fsync of {} failed before: nothing more is stored there until this process is restarted; \
                 check the disk first",
                failed.display()
            )))),
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Folders> {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl ObjectStore for DurableFiles {
    async fn put_opts(
        &self,
        location: &StorePath,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let create = match options.mode {
            PutMode::Create => true,
            PutMode::Overwrite => false,
            PutMode::Update(_) => return Err(not_implemented("an update that depends on a version")),
        };
        let path = self.0.local.path_to_filesystem(location)?;
        let (mut file, staging) = self.0.stage(&path).await?;
        for chunk in &payload {
            if let Err(e) = file.write_all(chunk).await {
                let _ = fs::remove_file(&staging).await;
                return Err(failure(e));
            }
        }
        self.0.publish(file, &staging, &path, create).await
    }

    async fn put_multipart_opts(
        &self,
        location: &StorePath,
        _options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let path = self.0.local.path_to_filesystem(location)?;
        let (file, staging) = self.0.stage(&path).await?;
        let file = Arc::new(tokio::sync::Mutex::new(Some(file)));
        Ok(Box::new(StagedUpload { inner: Arc::clone(&self.0), file, staging, path, offset: 0 }))
    }

    async fn get_opts(&self, location: &StorePath, options: GetOptions) -> Result<GetResult> {
        self.0.local.get_opts(location, options).await
    }

    async fn get_ranges(
        &self,
        location: &StorePath,
        ranges: &[std::ops::Range<u64>],
    ) -> Result<Vec<bytes::Bytes>> {
        self.0.local.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<StorePath>>,
    ) -> BoxStream<'static, Result<StorePath>> {
        self.0.local.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&StorePath>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.local.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&StorePath>) -> Result<ListResult> {
        self.0.local.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _from: &StorePath, _to: &StorePath, _options: CopyOptions) -> Result<()> {
        Err(not_implemented("a copy"))
    }
}

/// A large put in parts: they are written in place into one staging file. Its last step is a create.
struct StagedUpload {
    inner: Arc<Inner>,
    file: Arc<tokio::sync::Mutex<Option<File>>>,
    staging: PathBuf,
    path: PathBuf,
    offset: u64,
}

#[async_trait]
impl MultipartUpload for StagedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (file, offset) = (Arc::clone(&self.file), self.offset);
        self.offset += data.content_length() as u64;
        Box::pin(async move {
            let mut file = file.lock().await;
            let file = file.as_mut().ok_or_else(|| failure(std::io::Error::other("the upload has ended")))?;
            file.seek(std::io::SeekFrom::Start(offset)).await.map_err(failure)?;
            for chunk in &data {
                file.write_all(chunk).await.map_err(failure)?;
            }
            file.flush().await.map_err(failure)
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let file = self.file.lock().await.take();
        let file = file.ok_or_else(|| failure(std::io::Error::other("the upload has ended")))?;
        self.inner.publish(file, &self.staging, &self.path, true).await
    }

    async fn abort(&mut self) -> Result<()> {
        *self.file.lock().await = None;
        fs::remove_file(&self.staging).await.map_err(failure)
    }
}

impl fmt::Debug for DurableFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DurableFiles({})", self.0.root.display())
    }
}

impl fmt::Display for DurableFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl fmt::Debug for StagedUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StagedUpload({})", self.path.display())
    }
}

fn folder_of(path: &Path) -> Result<&Path> {
    path.parent().ok_or_else(|| failure(std::io::Error::other("an object needs a folder")))
}

fn failure(source: std::io::Error) -> Error {
    Error::Generic { store: STORE, source: source.into() }
}

fn not_implemented(operation: &str) -> Error {
    Error::NotImplemented { operation: operation.to_owned(), implementer: STORE.to_owned() }
}

/// Makes the bucket's folder durably and returns it absolute.
fn make_root(directory: &Path) -> std::io::Result<PathBuf> {
    let absolute = std::path::absolute(directory)?;
    let missing: Vec<&Path> = absolute.ancestors().take_while(|folder| !folder.exists()).collect();
    std::fs::create_dir_all(&absolute)?;
    for folder in &missing {
        if let Some(parent) = folder.parent() {
            std::fs::File::open(parent)?.sync_all()?;
        }
    }
    if missing.is_empty()
        && let Some(parent) = absolute.parent()
        && let Ok(parent) = std::fs::File::open(parent)
    {
        // An earlier process may have died between making the folder and syncing its parent. A parent that we may
        // not read was not made by us.
        parent.sync_all()?;
    }
    std::fs::canonicalize(absolute)
}

/// Removes staging files of dead processes. Ages are taken from the file system's own clock.
fn remove_old_staging_files(root: &Path) -> std::io::Result<()> {
    let now = tempfile::tempfile_in(root)?.metadata()?.modified()?;
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        // Other processes work in the same folder: what is gone meanwhile needs no removal.
        let Some(entries) = present(std::fs::read_dir(&folder))? else { continue };
        for entry in entries {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() && is_staging_name(&entry.file_name().to_string_lossy()) {
                let age =
                    entry.metadata().and_then(|meta| meta.modified()).map(|then| now.duration_since(then));
                if matches!(age, Ok(Ok(age)) if age > STAGING_AGE_MAX) {
                    tracing::info!(file = %entry.path().display(), "removing what an interrupted upload left");
                    present(std::fs::remove_file(entry.path()))?;
                }
            }
        }
    }
    Ok(())
}

/// Turns "not found" into nothing.
fn present<T>(result: std::io::Result<T>) -> std::io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn is_staging_name(name: &str) -> bool {
    match name.split_once('#') {
        Some((_, digits)) => !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()),
        None => false,
    }
}
