//! The directory that is made: beside its place first, and there by one rename.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::ExportError;

/// A directory in the making. Dropped before [`Target::finish`], it takes what it has written away.
#[derive(Debug)]
pub(super) struct Target {
    place: PathBuf,
    partial: PathBuf,
    /// Held until the end, so that a second run neither writes here nor takes it for a left-over.
    lock: Option<File>,
}

impl Target {
    /// Starts a directory for `place`, which must be absent or empty. What an interrupted run has left is removed.
    pub(super) fn create(place: &Path) -> Result<Self, ExportError> {
        let failed = |source: std::io::Error| ExportError::io(place, source);
        match fs::symlink_metadata(place) {
            Ok(found) if !found.is_dir() => return Err(ExportError::Occupied(place.to_owned())),
            Ok(_) if fs::read_dir(place).map_err(failed)?.next().is_some() => {
                return Err(ExportError::Occupied(place.to_owned()));
            }
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let Some(name) = place.file_name() else { return Err(ExportError::Occupied(place.to_owned())) };
        let mut partial_name = name.to_owned();
        partial_name.push(".partial");
        let partial = place.with_file_name(partial_name);
        if let Some(parent) = place.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        fs::create_dir_all(&partial).map_err(|e| ExportError::io(&partial, e))?;
        let lock = File::open(&partial).map_err(|e| ExportError::io(&partial, e))?;
        let exclusive = rustix::fs::FlockOperation::NonBlockingLockExclusive;
        match rustix::fs::flock(&lock, exclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(ExportError::Busy(partial)),
            Err(error) => return Err(ExportError::io(&partial, error.into())),
        }
        remove_content(&partial).map_err(|e| ExportError::io(&partial, e))?;
        Ok(Self { place: place.to_owned(), partial, lock: Some(lock) })
    }

    /// Returns where to write.
    pub(super) fn folder(&self) -> &Path {
        &self.partial
    }

    /// Makes everything durable and moves it to its place.
    pub(super) fn finish(mut self) -> Result<(), ExportError> {
        let failed = |source: std::io::Error| ExportError::io(&self.place, source);
        sync_folders(&self.partial).map_err(failed)?;
        fs::rename(&self.partial, &self.place).map_err(failed)?;
        let parent = self.place.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all()).map_err(failed)?;
        self.lock = None;
        Ok(())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if self.lock.is_some()
            && let Err(error) = fs::remove_dir_all(&self.partial)
        {
            tracing::warn!(directory = %self.partial.display(), %error, "cannot remove an unfinished directory");
        }
    }
}

fn remove_content(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn sync_folders(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_folders(&entry.path())?;
        }
    }
    File::open(folder)?.sync_all()
}
