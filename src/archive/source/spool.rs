//! Keeps what is not archived yet: by hard links, or by open descriptors where nothing may be written.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
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
    /// Whether files are linked. What was linked before that turned out to be impossible is still there.
    links: AtomicBool,
    held: Mutex<BTreeMap<String, Arc<File>>>,
    /// Held until the end: only one archiver works in a data directory. Nothing where the folder cannot be written.
    lock: Option<File>,
}

impl Spool {
    /// Opens the spool of a data directory.
    ///
    /// # Errors
    /// [`ErrorKind::WouldBlock`] where another archiver has it, or a failure that is not about rights.
    pub(super) fn open(data_dir: &Path) -> Result<Self> {
        if !data_dir.is_dir() {
            return Err(ErrorKind::NotFound.into());
        }
        let root = data_dir.join(FOLDER);
        let lock = match take_lock(&root) {
            Ok(lock) => Some(lock),
            Err(error) if may_not_write(&error) => None,
            Err(error) => return Err(error),
        };
        let links = match &lock {
            Some(_) => match probe_links(&root, data_dir) {
                Err(error) if may_not_write(&error) => false,
                probed => probed.map(|()| true)?,
            },
            None => false,
        };
        Ok(Self { root, links: AtomicBool::new(links), held: Mutex::default(), lock })
    }

    /// Returns a spool that holds descriptors, wherever it could write.
    #[cfg(test)]
    pub(super) fn descriptors(data_dir: &Path) -> Self {
        let root = data_dir.join(FOLDER);
        Self { root, links: AtomicBool::new(false), held: Mutex::default(), lock: None }
    }

    pub(super) fn mode(&self) -> SpoolMode {
        if self.links.load(Ordering::Relaxed) { SpoolMode::Links } else { SpoolMode::Descriptors }
    }

    /// Keeps a file under a name. Doing so again does nothing. From the first link on that is refused, files are held.
    pub(super) fn keep(&self, name: &str, live: &Path) -> Result<()> {
        if self.mode() == SpoolMode::Descriptors {
            return self.hold(name, live);
        }
        match self.link(name, live) {
            Err(error) if may_not_write(&error) => {
                // What cannot be opened either says nothing of links.
                self.hold(name, live)?;
                self.links.store(false, Ordering::Relaxed);
                tracing::warn!(spool = %self.root.display(), %error, "links are refused: files are held open from now \
                    on, and what the server deletes while no archiver runs is lost");
                Ok(())
            }
            linked => linked,
        }
    }

    fn link(&self, name: &str, live: &Path) -> Result<()> {
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

    fn hold(&self, name: &str, live: &Path) -> Result<()> {
        let mut held = self.held();
        if !held.contains_key(name) && !self.is_linked(name) {
            held.insert(name.to_owned(), Arc::new(File::open(live)?));
        }
        Ok(())
    }

    /// Returns whether a file was linked under a name.
    fn is_linked(&self, name: &str) -> bool {
        self.lock.is_some() && self.root.join(name).exists()
    }

    /// Opens a file that is kept.
    pub(super) fn open_kept(&self, name: &str) -> Result<Arc<File>> {
        if let Some(held) = self.held().get(name) {
            return Ok(Arc::clone(held));
        }
        if self.lock.is_none() {
            return Err(ErrorKind::NotFound.into());
        }
        File::open(self.root.join(name)).map(Arc::new)
    }

    /// Lets go of a file.
    pub(super) fn release(&self, name: &str) -> Result<()> {
        self.held().remove(name);
        self.remove(name, fs::remove_file)
    }

    /// Lets go of all files below a folder.
    pub(super) fn release_folder(&self, folder: &str) -> Result<()> {
        self.held().retain(|name, _| !name.starts_with(&format!("{folder}/")));
        self.remove(folder, fs::remove_dir_all)
    }

    fn remove(&self, name: &str, remove: fn(PathBuf) -> Result<()>) -> Result<()> {
        if self.lock.is_none() {
            return Ok(());
        }
        match remove(self.root.join(name)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// Lists the names directly in a folder, with inode and size.
    pub(super) fn list(&self, folder: &str) -> Result<Vec<(String, u64, u64)>> {
        let entries = match fs::read_dir(self.root.join(folder)) {
            Ok(entries) if self.lock.is_some() => entries,
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
        let linked = if self.lock.is_some() { files_below(&self.root) } else { Vec::new() };
        let linked = linked.iter().map(|meta| only_here(meta, 1)).sum::<u64>();
        let held = self.held();
        let held = held.values().filter_map(|file| file.metadata().ok());
        linked + held.map(|meta| only_here(&meta, 0)).sum::<u64>()
    }

    fn held(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<File>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn take_lock(root: &Path) -> Result<File> {
    fs::create_dir_all(root)?;
    let lock = File::create(root.join("lock"))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(ErrorKind::WouldBlock.into()),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Links one of the server's own files: a kernel may refuse that for files of another user. Where there is none yet,
/// the first one that is kept tells.
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

#[cfg(test)]
mod tests;
