//! A disk that keeps what was synced, and of the rest what chance leaves after a power cut.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::gate::Gate;
use super::world::World;
use perennial::log::{LogFile, LogFiles};

/// How a machine ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Death {
    /// The process is gone, the machine goes on: what was written stays.
    Kill,
    /// The power is cut: what was not synced may go.
    PowerCut,
}

/// What an operation does instead of its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DiskFault {
    /// It fails, half done.
    Error,
    /// The machine ends in the middle of it.
    Death(Death),
}

/// The disk of one machine, below a folder; it outlives the processes on it.
pub(super) struct SimDisk {
    world: Arc<World>,
    who: String,
    folder: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Written and durable length of each file.
    files: BTreeMap<PathBuf, Length>,
    /// Names that are not durable yet, per folder: how to take the change back, oldest first.
    names: Vec<(PathBuf, Undo)>,
    durable_folders: BTreeSet<PathBuf>,
    shadows: u64,
    /// Operations until the fault.
    planned: Option<(u64, DiskFault)>,
    /// Writes fail for want of room.
    full: bool,
    dead: Option<Death>,
    /// A planted defect: fsync says that it did what it did not.
    lies: bool,
    process: Option<Arc<Gate>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Length {
    written: u64,
    durable: u64,
}

enum Undo {
    Rename { from: PathBuf, to: PathBuf },
    Remove { shadow: PathBuf, path: PathBuf },
}

/// The disk as a process uses it.
#[derive(Debug, Clone)]
pub(super) struct SimFiles(Arc<SimDisk>);

impl SimDisk {
    pub(super) fn new(world: &Arc<World>, who: &str, folder: &Path, lies: bool) -> Arc<Self> {
        let state = State { lies, ..State::default() };
        fs::create_dir_all(folder.join("shadows")).unwrap();
        Arc::new(Self {
            world: Arc::clone(world),
            who: who.to_owned(),
            folder: folder.to_owned(),
            state: Mutex::new(state),
        })
    }

    /// Returns the log's folder.
    pub(super) fn log_dir(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Returns where block files wait.
    pub(super) fn pending_dir(&self) -> PathBuf {
        self.folder.join("pending")
    }

    /// Switches the machine on for a process. After a power cut, what was not synced is gone, torn or there.
    pub(super) fn start(self: &Arc<Self>, process: &Arc<Gate>) -> SimFiles {
        let mut state = self.state();
        if state.dead.take() == Some(Death::PowerCut) {
            self.lose(&mut state);
        }
        (state.planned, state.full) = (None, false);
        state.process = Some(Arc::clone(process));
        drop(state);
        SimFiles(Arc::clone(self))
    }

    /// Ends the machine now.
    pub(super) fn end(&self, death: Death) {
        let mut state = self.state();
        state.dead.get_or_insert(death);
        let process = state.process.take();
        drop(state);
        self.world.note(&self.who, format_args!("machine: {death:?}"));
        if let Some(process) = process {
            process.kill();
        }
    }

    /// Lets the operation after so many others go wrong.
    pub(super) fn plan(&self, after: u64, fault: DiskFault) {
        self.state().planned = Some((after, fault));
    }

    pub(super) fn set_full(&self, full: bool) {
        self.state().full = full;
    }

    /// Lets nothing more go wrong.
    pub(super) fn calm(&self) {
        let mut state = self.state();
        (state.planned, state.full) = (None, false);
    }

    fn lose(&self, state: &mut State) {
        for (path, length) in &mut state.files {
            if length.written > length.durable {
                self.lose_bytes(path, *length);
            }
            length.written = fs::metadata(path).map_or(0, |meta| meta.len());
            length.durable = length.written;
        }
        self.lose_names(state);
        let epochs = fs::read_dir(self.log_dir()).into_iter().flatten().map(|entry| entry.unwrap().path());
        let mut epochs: Vec<PathBuf> = epochs.filter(|path| path.is_dir()).collect();
        epochs.sort();
        for folder in epochs {
            if !state.durable_folders.contains(&folder) && self.world.chance(50) {
                self.world.note(&self.who, format_args!("a folder is lost"));
                fs::remove_dir_all(&folder).unwrap();
                state.files.retain(|path, _| !path.starts_with(&folder));
            }
        }
    }

    fn lose_bytes(&self, path: &Path, Length { written, durable }: Length) {
        let Ok(file) = fs::File::options().write(true).open(path) else { return };
        let unsynced = written - durable;
        let kept = match self.world.below(4) {
            0 => 0,
            1 => unsynced,
            _ => self.world.below(unsynced),
        };
        file.set_len(durable + kept).unwrap();
        if kept > 0 && self.world.chance(30) {
            // A sector that never reached the disk, between others that did.
            use std::os::unix::fs::FileExt;
            let at = self.world.below(kept);
            let zeros = vec![0; usize::try_from((kept - at).min(512)).unwrap()];
            file.write_all_at(&zeros, durable + at).unwrap();
        }
        self.world.note(&self.who, format_args!("of {unsynced} unsynced bytes {kept} are left"));
    }

    /// Takes back the last changes of names in each folder, as many as chance says.
    fn lose_names(&self, state: &mut State) {
        let names = std::mem::take(&mut state.names);
        let folders: BTreeSet<PathBuf> = names.iter().map(|(folder, _)| folder.clone()).collect();
        let mut kept: BTreeMap<PathBuf, u64> = BTreeMap::new();
        for folder in folders {
            let changes = names.iter().filter(|(of, _)| *of == folder).count() as u64;
            kept.insert(folder, self.world.below(changes + 1));
        }
        let mut lost = Vec::new();
        for (folder, undo) in names {
            match kept.get_mut(&folder) {
                Some(left) if *left > 0 => *left -= 1,
                _ => lost.push(undo),
            }
        }
        for undo in lost.into_iter().rev() {
            let (from, to) = match undo {
                Undo::Rename { from, to } => (to, from),
                Undo::Remove { shadow, path } => (shadow, path),
            };
            self.world.note(&self.who, format_args!("a change of a name is lost"));
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::rename(&from, &to).unwrap();
            if let Some(length) = state.files.remove(&from) {
                state.files.insert(to, length);
            }
        }
    }

    /// Counts an operation; fails it where that is planned. The answer says whether half of it is to be done first.
    fn step(&self, state: &mut State, what: &str, path: &Path) -> Result<(), (io::Error, bool)> {
        let name = path.strip_prefix(&self.folder).unwrap_or(path).display();
        if state.dead.is_some() {
            return Err((io::Error::other("the machine is off"), false));
        }
        let due = match &mut state.planned {
            Some((0, fault)) => Some(*fault),
            Some((after, _)) => {
                *after -= 1;
                None
            }
            None => None,
        };
        let Some(fault) = due else {
            self.world.note(&self.who, format_args!("disk: {what} {name}"));
            return Ok(());
        };
        self.world.note(&self.who, format_args!("disk: {what} {name}: {fault:?}"));
        state.planned = None;
        if let DiskFault::Death(death) = fault {
            state.dead = Some(death);
            if let Some(process) = state.process.take() {
                process.kill();
            }
        }
        Err((io::Error::from_raw_os_error(5), true))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogFiles for SimFiles {
    fn create(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        let mut state = self.0.state();
        self.0.step(&mut state, "create", path).map_err(|(error, _)| error)?;
        let file = fs::File::create(path)?;
        state.files.insert(path.to_owned(), Length::default());
        let (disk, path) = (Arc::clone(&self.0), path.to_owned());
        Ok(Box::new(SimFile { disk, file, path, failed: false }))
    }

    fn truncate(&self, path: &Path, length: u64) -> io::Result<()> {
        let mut state = self.0.state();
        self.0.step(&mut state, "truncate", path).map_err(|(error, _)| error)?;
        fs::File::options().write(true).open(path)?.set_len(length)?;
        let durable = if state.lies { 0 } else { length };
        state.files.insert(path.to_owned(), Length { written: length, durable });
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.state();
        self.0.step(&mut state, "rename", to).map_err(|(error, _)| error)?;
        fs::rename(from, to)?;
        if let Some(length) = state.files.remove(from) {
            state.files.insert(to.to_owned(), length);
        }
        let undo = Undo::Rename { from: from.to_owned(), to: to.to_owned() };
        state.names.push((to.parent().unwrap().to_owned(), undo));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.state();
        self.0.step(&mut state, "remove", path).map_err(|(error, _)| error)?;
        state.shadows += 1;
        let shadow = self.0.folder.join("shadows").join(state.shadows.to_string());
        fs::rename(path, &shadow)?;
        if let Some(length) = state.files.remove(path) {
            state.files.insert(shadow.clone(), length);
        }
        let undo = Undo::Remove { shadow, path: path.to_owned() };
        state.names.push((path.parent().unwrap().to_owned(), undo));
        Ok(())
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.0.state();
        self.0.step(&mut state, "create_dir", dir).map_err(|(error, _)| error)?;
        fs::create_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.0.state();
        self.0.step(&mut state, "sync_dir", dir).map_err(|(error, _)| error)?;
        let folders = fs::read_dir(dir)?.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
        state.durable_folders.extend(folders);
        if !state.lies {
            // A folder that was removed takes the names in it along, once its parent is synced.
            state.names.retain(|(of, _)| of != dir && (of.parent() != Some(dir) || of.exists()));
        }
        Ok(())
    }
}

#[derive(Debug)]
struct SimFile {
    disk: Arc<SimDisk>,
    file: fs::File,
    /// The name that it was made under.
    path: PathBuf,
    /// After a failed sync, a later one says nothing about the bytes before it.
    failed: bool,
}

impl SimFile {
    /// Returns the name that the file has by now.
    fn name(&self, state: &State) -> PathBuf {
        let named = self.path.with_extension("");
        if state.files.contains_key(&self.path) { self.path.clone() } else { named }
    }
}

impl LogFile for SimFile {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        let path = self.name(&state);
        let full = state.full;
        let outcome = self.disk.step(&mut state, "write", &path);
        let (written, outcome) = match outcome {
            Ok(()) if full => {
                (self.disk.world.below(bytes.len() as u64), Err(io::Error::from_raw_os_error(28)))
            }
            Ok(()) => (bytes.len() as u64, Ok(())),
            Err((error, true)) => (self.disk.world.below(bytes.len() as u64 + 1), Err(error)),
            Err((error, false)) => (0, Err(error)),
        };
        self.file.write_all(&bytes[..usize::try_from(written).unwrap()])?;
        state.files.entry(path).or_default().written += written;
        outcome
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.state();
        let path = self.name(&state);
        if let Err((error, _)) = self.disk.step(&mut state, "sync", &path) {
            self.failed = true;
            return Err(error);
        }
        if !state.lies && !self.failed {
            let length = state.files.entry(path).or_default();
            length.durable = length.written;
        }
        Ok(())
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimDisk").field("who", &self.who).finish_non_exhaustive()
    }
}
