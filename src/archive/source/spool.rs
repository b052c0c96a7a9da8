//! Keeps what is not archived yet: by hard links, or by open descriptors where nothing may be written.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::runtime::crash_point;

/// The folder below the data directory. Prometheus passes over names that are not its own.
const FOLDER: &str = "perennial-spool";

/// How files are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SpoolMode {
    /// Hard links in the spool folder: they outlive this process.
    Links,
    /// Descriptors: what the server deletes while no archiver runs is gone.
    Descriptors,
}

/// Files of the server that are kept, by a name of their own.
#[derive(Debug)]
pub(super) struct Spool {
    root: PathBuf,
    mode: SpoolMode,
    held: Mutex<BTreeMap<String, Arc<File>>>,
    /// Held until the end: only one archiver works in a data directory.
    _lock: Option<File>,
}

impl Spool {
    /// Opens the spool of a data directory.
    ///
    /// # Errors
    /// [`ErrorKind::WouldBlock`] where another archiver has it, or a failure that is not about rights.
    pub(super) fn open(data_dir: &Path) -> Result<Self> {
        let root = data_dir.join(FOLDER);
        match Self::prepare(&root, data_dir) {
            Ok(lock) => Ok(Self { root, mode: SpoolMode::Links, held: Mutex::default(), _lock: Some(lock) }),
            Err(error) if may_not_write(&error) => {
                Ok(Self { root, mode: SpoolMode::Descriptors, held: Mutex::default(), _lock: None })
            }
            Err(error) => Err(error),
        }
    }

    /// Returns a spool that holds descriptors, wherever it could write.
    #[cfg(test)]
    pub(super) fn descriptors(data_dir: &Path) -> Self {
        Self {
            root: data_dir.join(FOLDER),
            mode: SpoolMode::Descriptors,
            held: Mutex::default(),
            _lock: None,
        }
    }

    fn prepare(root: &Path, data_dir: &Path) -> Result<File> {
        if !data_dir.is_dir() {
            return Err(ErrorKind::NotFound.into());
        }
        fs::create_dir_all(root)?;
        let lock = File::create(root.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        Self::probe_links(root, data_dir)?;
        Ok(lock)
    }

    /// Links one of the server's own files: a kernel may refuse that for files of another user.
    fn probe_links(root: &Path, data_dir: &Path) -> Result<()> {
        let Some(sample) = first_file(&data_dir.join("wal"))? else { return Ok(()) };
        let probe = root.join("probe");
        let _ = fs::remove_file(&probe);
        match fs::hard_link(&sample, &probe) {
            Ok(()) => fs::remove_file(&probe),
            // The server may delete a segment at any moment.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) fn mode(&self) -> SpoolMode {
        self.mode
    }

    /// Keeps a file under a name. Doing so again does nothing.
    pub(super) fn keep(&self, name: &str, live: &Path) -> Result<()> {
        match self.mode {
            SpoolMode::Links => {
                let link = self.root.join(name);
                crash_point("archive.spool-link");
                match fs::hard_link(live, &link) {
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
                    Err(error) if error.kind() == ErrorKind::NotFound && !parent(&link).is_dir() => {
                        fs::create_dir_all(parent(&link))?;
                        fs::hard_link(live, &link)
                    }
                    linked => linked,
                }
            }
            SpoolMode::Descriptors => {
                let mut held = self.held();
                if !held.contains_key(name) {
                    held.insert(name.to_owned(), Arc::new(File::open(live)?));
                }
                Ok(())
            }
        }
    }

    /// Opens a file that is kept.
    pub(super) fn open_kept(&self, name: &str) -> Result<Arc<File>> {
        match self.mode {
            SpoolMode::Links => File::open(self.root.join(name)).map(Arc::new),
            SpoolMode::Descriptors => {
                self.held().get(name).map(Arc::clone).ok_or_else(|| ErrorKind::NotFound.into())
            }
        }
    }

    /// Lets go of a file.
    pub(super) fn release(&self, name: &str) -> Result<()> {
        match self.mode {
            SpoolMode::Links => match fs::remove_file(self.root.join(name)) {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                removed => removed,
            },
            SpoolMode::Descriptors => {
                self.held().remove(name);
                Ok(())
            }
        }
    }

    /// Lets go of all files below a folder.
    pub(super) fn release_folder(&self, folder: &str) -> Result<()> {
        match self.mode {
            SpoolMode::Links => match fs::remove_dir_all(self.root.join(folder)) {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                removed => removed,
            },
            SpoolMode::Descriptors => {
                self.held().retain(|name, _| !name.starts_with(&format!("{folder}/")));
                Ok(())
            }
        }
    }

    /// Lists the names directly in a folder, with inode and size.
    pub(super) fn list(&self, folder: &str) -> Result<Vec<(String, u64, u64)>> {
        let entries = match fs::read_dir(self.root.join(folder)) {
            Ok(entries) if self.mode == SpoolMode::Links => entries,
            Ok(_) => return Ok(Vec::new()),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            let meta = entry.metadata()?;
            if let Some(name) = entry.file_name().to_str().filter(|_| meta.is_file()) {
                names.push((name.to_owned(), meta.ino(), meta.len()));
            }
        }
        Ok(names)
    }

    /// Returns the bytes that the server has deleted and only the spool still holds.
    pub(super) fn bytes(&self) -> u64 {
        let only_here = |meta: &fs::Metadata, links: u64| {
            if meta.is_file() && meta.nlink() == links { meta.len() } else { 0 }
        };
        match self.mode {
            SpoolMode::Links => files_below(&self.root).iter().map(|meta| only_here(meta, 1)).sum(),
            SpoolMode::Descriptors => self
                .held()
                .values()
                .filter_map(|file| file.metadata().ok())
                .map(|meta| only_here(&meta, 0))
                .sum(),
        }
    }

    fn held(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<File>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

fn first_file(folder: &Path) -> Result<Option<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(mut entries) => Ok(entries.find_map(|entry| {
            let entry = entry.ok()?;
            entry.file_type().ok()?.is_file().then(|| entry.path())
        })),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn files_below(folder: &Path) -> Vec<fs::Metadata> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        match entry.metadata() {
            Ok(meta) if meta.is_dir() => found.extend(files_below(&entry.path())),
            Ok(meta) => found.push(meta),
            Err(_) => {}
        }
    }
    found
}

/// Returns whether links are not possible here, while reading may be.
fn may_not_write(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::PermissionDenied
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::CrossesDevices
            | ErrorKind::Unsupported
    )
}
