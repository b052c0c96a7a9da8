//! The directory that is made: beside its place first, and there by one rename.
//!
//! `<place>.partial/` holds `data/` and a file that says whose it is: only a directory with that file is ever emptied.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::ExportError;

/// Tells a directory of an interrupted export from anybody else's.
const MARKER: &str = "perennial-export";

/// What becomes the data directory.
const DATA: &str = "data";

/// A directory in the making. Dropped before [`Target::finish`], it takes what it has written away.
#[derive(Debug)]
pub(super) struct Target {
    place: PathBuf,
    partial: PathBuf,
    data: PathBuf,
    /// Held until the end, so that a second run neither writes here nor takes it for a left-over.
    _lock: File,
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
        let written = |source| ExportError::io(&partial, source);
        let is_new = match fs::create_dir(&partial) {
            Ok(()) => true,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(written(error)),
        };
        if !is_new && !is_of_an_export(&partial) {
            return Err(ExportError::Strange(partial));
        }
        let lock = File::open(&partial).map_err(written)?;
        let exclusive = rustix::fs::FlockOperation::NonBlockingLockExclusive;
        match rustix::fs::flock(&lock, exclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(ExportError::Busy(partial)),
            Err(error) => return Err(ExportError::io(&partial, error.into())),
        }
        fs::write(partial.join(MARKER), "an unfinished export of perennial\n").map_err(written)?;
        let target = Self { place: place.to_owned(), data: partial.join(DATA), partial, _lock: lock };
        match fs::remove_dir_all(&target.data) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(ExportError::io(&target.data, error));
            }
            _ => {}
        }
        fs::create_dir(&target.data).map_err(|e| ExportError::io(&target.data, e))?;
        Ok(target)
    }

    /// Returns where to write.
    pub(super) fn folder(&self) -> &Path {
        &self.data
    }

    /// Makes everything durable and moves it to its place.
    pub(super) fn finish(self) -> Result<(), ExportError> {
        let failed = |source: std::io::Error| ExportError::io(&self.place, source);
        sync_folders(&self.data).map_err(failed)?;
        fs::rename(&self.data, &self.place).map_err(failed)?;
        let parent = self.place.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all()).map_err(failed)?;
        // The rest of the work directory goes when this is dropped.
        Ok(())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.partial) {
            tracing::warn!(directory = %self.partial.display(), %error, "cannot remove an unfinished directory");
        }
    }
}

/// Returns whether a directory, itself and not behind a link, is one that an export has left.
fn is_of_an_export(partial: &Path) -> bool {
    let is_dir = fs::symlink_metadata(partial).is_ok_and(|found| found.is_dir());
    let marker = fs::symlink_metadata(partial.join(MARKER)).is_ok_and(|found| found.is_file());
    let is_empty = || fs::read_dir(partial).is_ok_and(|mut entries| entries.next().is_none());
    is_dir && (marker || is_empty())
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
