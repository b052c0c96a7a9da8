//! A directory that goes when it is dropped, also where work on compute threads still adds to it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::RestoreError;

/// Work that was given up ends by itself within moments.
const REMOVALS_MAX: usize = 50;
const REMOVE_EVERY: Duration = Duration::from_millis(100);

/// A temporary directory. Dropping it removes it, and waits for that.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes one with a name of its own.
    ///
    /// # Errors
    /// A parent that is not there or cannot be written.
    pub fn create(parent: &Path, prefix: &str) -> Result<Self, RestoreError> {
        let made = tempfile::Builder::new().prefix(prefix).tempdir_in(parent);
        made.map(|folder| Self(folder.keep())).map_err(RestoreError::file(parent))
    }

    /// Returns where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for _ in 0..REMOVALS_MAX {
            if fs::remove_dir_all(&self.0).is_ok() || !self.0.exists() {
                return;
            }
            std::thread::sleep(REMOVE_EVERY);
        }
        tracing::warn!(directory = %self.0.display(), "a temporary directory could not be removed");
    }
}

#[cfg(test)]
mod tests;
