//! The directory that a restore works in, `<to>.restore/`, beside the one that it makes.
//!
//! `lock` is held by flock; `journal` names what is restored; `stage/` has fetched pieces and checkpoint files; `data/`
//! becomes the data directory by a rename; `report.json` tells then what was made. Nothing in it is trusted for being there: pieces are hashed again, files of
//! blocks are hashed as a whole before they count.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::RestoreError;
use super::finish::{forget, settle};

/// Refuses to follow a symbolic link in the last part of a path.
const NO_FOLLOW: i32 = rustix::fs::OFlags::NOFOLLOW.bits() as i32;

/// The directories of one restore, locked.
#[derive(Debug)]
pub(super) struct Workplace {
    to: PathBuf,
    work: PathBuf,
    _lock: File,
}

impl Workplace {
    /// Returns the work directory of a target.
    ///
    /// # Errors
    /// A target without a name.
    pub(super) fn path_for(to: &Path) -> Result<PathBuf, RestoreError> {
        beside(to, ".restore")
    }

    /// Makes and locks the work directory.
    ///
    /// # Errors
    /// A target or work directory that cannot be used; another restore to the same target.
    pub(super) fn open(to: &Path) -> Result<Self, RestoreError> {
        let work = Self::path_for(to)?;
        refuse_link(&work)?;
        if let Some(parent) = work.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            fs::create_dir_all(parent).map_err(RestoreError::file(parent))?;
        }
        make_dir(&work)?;
        let place = Self { to: to.to_owned(), _lock: lock(&work)?, work };
        if settle(&place.work, to)?.is_some() {
            place.clear()?;
        }
        forget(&place.work)?;
        make_dir(&place.data())?;
        make_dir(&place.stage())?;
        Ok(place)
    }

    pub(super) fn to(&self) -> &Path {
        &self.to
    }

    pub(super) fn work(&self) -> &Path {
        &self.work
    }

    /// Returns the directory that becomes the data directory.
    pub(super) fn data(&self) -> PathBuf {
        self.work.join("data")
    }

    /// Returns where pieces and checkpoint files lie until the log is written.
    pub(super) fn stage(&self) -> PathBuf {
        self.work.join("stage")
    }

    pub(super) fn journal(&self) -> PathBuf {
        self.work.join("journal")
    }

    /// Throws away everything that was fetched and built.
    pub(super) fn clear(&self) -> Result<(), RestoreError> {
        remove_file_if_there(&self.journal())?;
        for folder in [self.data(), self.stage()] {
            remove_all(&folder)?;
            make_dir(&folder)?;
        }
        Ok(())
    }

    /// Removes everything below `data/` and `stage/` that is not in the lists, and every link.
    pub(super) fn prune(
        &self,
        data: &BTreeSet<PathBuf>,
        stage: &BTreeSet<PathBuf>,
    ) -> Result<(), RestoreError> {
        prune_folder(&self.data(), Path::new(""), data)?;
        prune_folder(&self.stage(), Path::new(""), stage)
    }
}

/// Locks a work directory for as long as the file is held.
pub(super) fn lock(work: &Path) -> Result<File, RestoreError> {
    let path = work.join("lock");
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true).custom_flags(NO_FOLLOW);
    let lock = options.open(&path).map_err(RestoreError::file(&path))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            let advice = "another restore writes there";
            Err(RestoreError::Locked { path: work.to_owned(), advice })
        }
        Err(TryLockError::Error(source)) => Err(RestoreError::File { path, source }),
    }
}

/// Refuses a place that no directory can be moved to, that is in use, or that holds something while it must not.
/// Returns whether it holds something.
pub(super) fn check_place(to: &Path, may_hold: bool) -> Result<bool, RestoreError> {
    let refuse = |reason: String| Err(RestoreError::Target { path: to.to_owned(), reason });
    refuse_link(to)?;
    let Ok(found) = fs::symlink_metadata(to) else { return Ok(false) };
    if !found.is_dir() {
        return refuse("it is not a directory: give another --to".to_owned());
    }
    if is_mount_point(to) {
        let below = to.join("restored");
        return refuse(format!(
            "it is a mount point, which no rename can replace: give a directory below it, such as {}",
            below.display()
        ));
    }
    let occupied = !is_empty_dir(to)?;
    if occupied && !may_hold {
        return refuse(
            "it is not empty: give another --to, or --delta to bring it to the state of the target"
                .to_owned(),
        );
    }
    if is_locked(to) {
        return Err(RestoreError::Locked { path: to.to_owned(), advice: "stop the Prometheus that uses it" });
    }
    Ok(occupied)
}

/// Returns a path beside another one.
pub(super) fn beside(to: &Path, suffix: &str) -> Result<PathBuf, RestoreError> {
    let name = to.file_name().ok_or_else(|| RestoreError::Target {
        path: to.to_owned(),
        reason: "it has no name of its own: give a directory such as /var/lib/prometheus.new".to_owned(),
    })?;
    let mut name = name.to_owned();
    name.push(suffix);
    Ok(to.with_file_name(name))
}

/// Returns `<to>.replaced`, or the first numbered one that is free: nothing that was kept is ever written over.
pub(super) fn free_name(to: &Path) -> Result<PathBuf, RestoreError> {
    let mut name = beside(to, ".replaced")?;
    for number in 2_u32.. {
        if fs::symlink_metadata(&name).is_err() {
            break;
        }
        name = beside(to, &format!(".replaced.{number}"))?;
    }
    Ok(name)
}

/// Returns the directory that holds a path.
pub(super) fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Refuses a path that is a symbolic link.
pub(super) fn refuse_link(path: &Path) -> Result<(), RestoreError> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_symlink() => Err(RestoreError::Target {
            path: path.to_owned(),
            reason: "it is a symbolic link: give the directory itself".to_owned(),
        }),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(RestoreError::File { path: path.to_owned(), source }),
    }
}

/// Returns whether a directory holds nothing.
pub(super) fn is_empty_dir(path: &Path) -> Result<bool, RestoreError> {
    let mut entries = fs::read_dir(path).map_err(RestoreError::file(path))?;
    Ok(entries.next().is_none())
}

/// Returns whether a directory is a mount point, which cannot be renamed.
fn is_mount_point(path: &Path) -> bool {
    let devices = fs::metadata(path).and_then(|own| Ok((own.dev(), fs::metadata(parent_of(path))?.dev())));
    devices.is_ok_and(|(own, parent)| own != parent)
}

/// Returns whether another process holds the lock of a data directory.
fn is_locked(data_dir: &Path) -> bool {
    let lock = OpenOptions::new().read(true).custom_flags(NO_FOLLOW).open(data_dir.join("lock"));
    lock.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Makes a directory that may be there already, but not as a link.
pub(super) fn make_dir(path: &Path) -> Result<(), RestoreError> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let found = fs::symlink_metadata(path).map_err(RestoreError::file(path))?;
            let reason = "it should be a directory and is something else: remove it".to_owned();
            if found.is_dir() { Ok(()) } else { Err(RestoreError::Target { path: path.to_owned(), reason }) }
        }
        made => made.map_err(RestoreError::file(path)),
    }
}

/// Opens a file for writing, made where it is missing; never through a link.
pub(super) fn open_file(path: &Path) -> Result<File, RestoreError> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).read(true).write(true).mode(0o644).custom_flags(NO_FOLLOW);
    options.open(path).map_err(RestoreError::file(path))
}

/// Makes a file anew; what was there goes first, so that a hard link elsewhere keeps its bytes.
pub(super) fn new_file(path: &Path) -> Result<File, RestoreError> {
    remove_file_if_there(path)?;
    let mut options = OpenOptions::new();
    options.create_new(true).read(true).write(true).mode(0o644).custom_flags(NO_FOLLOW);
    options.open(path).map_err(RestoreError::file(path))
}

/// Writes a whole file and makes it durable.
pub(super) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), RestoreError> {
    use std::io::Write;
    let mut file = new_file(path)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(RestoreError::file(path))
}

/// Makes a directory's entries durable.
pub(super) fn sync_dir(path: &Path) -> Result<(), RestoreError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(RestoreError::file(path))
}

/// Makes all directories below one durable, the deepest first.
pub(super) fn sync_dirs(path: &Path) -> Result<(), RestoreError> {
    for entry in fs::read_dir(path).map_err(RestoreError::file(path))? {
        let entry = entry.map_err(RestoreError::file(path))?;
        if entry.file_type().map_err(RestoreError::file(path))?.is_dir() {
            sync_dirs(&entry.path())?;
        }
    }
    sync_dir(path)
}

/// Removes a directory with everything in it, without following links.
pub(super) fn remove_all(path: &Path) -> Result<(), RestoreError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(RestoreError::file(path)),
    }
}

pub(super) fn remove_file_if_there(path: &Path) -> Result<(), RestoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(RestoreError::file(path)),
    }
}

/// Returns the free bytes of the file system that a path lies or will lie in.
pub(super) fn free_bytes(path: &Path) -> Option<u64> {
    let there = path.ancestors().find(|p| !p.as_os_str().is_empty() && p.exists());
    let found = rustix::fs::statvfs(there.unwrap_or(Path::new("."))).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Returns the size of what only a work directory has: hard links take no room of their own.
pub(super) fn own_bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => own_bytes(&entry.path()),
        Ok(found) if found.nlink() == 1 => found.len(),
        _ => 0,
    });
    sizes.fold(0, u64::saturating_add)
}

fn prune_folder(root: &Path, below: &Path, keep: &BTreeSet<PathBuf>) -> Result<(), RestoreError> {
    let folder = root.join(below);
    for entry in fs::read_dir(&folder).map_err(RestoreError::file(&folder))? {
        let entry = entry.map_err(RestoreError::file(&folder))?;
        let (path, relative) = (entry.path(), below.join(entry.file_name()));
        let kind = entry.file_type().map_err(RestoreError::file(&path))?;
        if kind.is_dir() {
            prune_folder(root, &relative, keep)?;
            if !keep.iter().any(|kept| kept.starts_with(&relative)) {
                remove_all(&path)?;
            }
        } else if kind.is_symlink() || !keep.contains(&relative) {
            remove_file_if_there(&path)?;
        }
    }
    Ok(())
}
