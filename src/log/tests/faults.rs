//! Failed writes and fsyncs, and power cuts between any two steps.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::*;

/// Files that fail at a chosen step, and that know what a power cut may take away.
#[derive(Debug)]
struct FaultyFiles {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    steps: usize,
    fail_at: usize,
    /// Whether everything after the failure fails as well, as it does for a process that is gone.
    dead_after: bool,
    synced: HashMap<PathBuf, u64>,
    /// Names that are not durable yet: the directory, and how to undo the change.
    unsynced_names: Vec<(PathBuf, Undo)>,
    shadows: usize,
}

#[derive(Debug, Clone)]
enum Undo {
    Rename { from: PathBuf, to: PathBuf },
    CreateDir { path: PathBuf },
    Remove { shadow: PathBuf, path: PathBuf },
}

impl FaultyFiles {
    fn new(fail_at: usize, dead_after: bool) -> Arc<Self> {
        let state = State { fail_at, dead_after, ..State::default() };
        Arc::new(Self { state: Arc::new(Mutex::new(state)) })
    }

    fn steps(&self) -> usize {
        self.lock().steps
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes away what was never synced, or, with `keep`, leaves it.
    fn cut_power(&self, keep_bytes: bool, keep_names: bool) {
        let state = self.lock();
        if !keep_bytes {
            for (path, length) in &state.synced {
                if let Ok(file) = fs::File::options().write(true).open(path) {
                    let now = file.metadata().unwrap().len();
                    file.set_len(now.min(*length)).unwrap();
                }
            }
        }
        if !keep_names {
            for (_, undo) in state.unsynced_names.iter().rev() {
                match undo {
                    Undo::Rename { from, to } => fs::rename(to, from).unwrap(),
                    // A try that failed may have removed it itself.
                    Undo::CreateDir { path } => assert!(fs::remove_dir_all(path).is_ok() || !path.exists()),
                    Undo::Remove { shadow, path } => fs::rename(shadow, path).unwrap(),
                }
            }
        }
    }
}

impl State {
    fn step(&mut self) -> io::Result<()> {
        self.steps += 1;
        let fails = self.steps == self.fail_at || (self.dead_after && self.steps > self.fail_at);
        if fails { Err(io::Error::other("planted")) } else { Ok(()) }
    }
}

impl LogFiles for FaultyFiles {
    fn create(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        let mut state = self.lock();
        state.step()?;
        let file = QuickFiles.create(path)?;
        state.synced.insert(path.to_owned(), 0);
        Ok(Box::new(FaultyFile { file, path: path.to_owned(), written: 0, state: Arc::clone(&self.state) }))
    }

    fn truncate(&self, path: &Path, length: u64) -> io::Result<()> {
        let mut state = self.lock();
        state.step()?;
        QuickFiles.truncate(path, length)?;
        state.synced.insert(path.to_owned(), length);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.step()?;
        OsFiles.rename(from, to)?;
        if let Some(length) = state.synced.remove(from) {
            state.synced.insert(to.to_owned(), length);
        }
        let undo = Undo::Rename { from: from.to_owned(), to: to.to_owned() };
        state.unsynced_names.push((to.parent().unwrap().to_owned(), undo));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.step()?;
        state.shadows += 1;
        let shadow = path.with_extension(format!("shadow{}", state.shadows));
        fs::rename(path, &shadow)?;
        let undo = Undo::Remove { shadow, path: path.to_owned() };
        state.unsynced_names.push((path.parent().unwrap().to_owned(), undo));
        Ok(())
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.step()?;
        OsFiles.create_dir(dir)?;
        let undo = Undo::CreateDir { path: dir.to_owned() };
        state.unsynced_names.push((dir.parent().unwrap().to_owned(), undo));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.step()?;
        let done: Vec<_> = state.unsynced_names.extract_if(.., |(of, _)| of == dir).collect();
        for (_, undo) in done {
            if let Undo::Remove { shadow, .. } = undo {
                fs::remove_file(shadow)?;
            }
        }
        Ok(())
    }
}

#[derive(Debug)]
struct FaultyFile {
    file: Box<dyn LogFile>,
    path: PathBuf,
    written: u64,
    state: Arc<Mutex<State>>,
}

impl FaultyFile {
    /// The name the file has by now.
    fn name(&self) -> PathBuf {
        match self.path.to_str().and_then(|p| p.strip_suffix(".new")) {
            Some(named) if Path::new(named).exists() => PathBuf::from(named),
            _ => self.path.clone(),
        }
    }
}

impl LogFile for FaultyFile {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Err(error) = self.state.lock().unwrap().step() {
            self.file.write_all(&bytes[..bytes.len() / 2])?;
            return Err(error);
        }
        self.written += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        let name = self.name();
        let mut state = self.state.lock().unwrap();
        state.step()?;
        state.synced.insert(name, self.written);
        self.file.sync()
    }
}

/// What a run promised: times that were acknowledged, and those that may be gone because they were released.
#[derive(Debug, Default)]
struct Promise {
    acknowledged: Vec<i64>,
    attempted: Vec<i64>,
    released: Vec<i64>,
    failed: usize,
}

/// Appends, cuts and releases for a while. Carries on after errors, as a receiver does.
fn run(dir: &Path, epoch: u64, first_time: i64, files: Arc<dyn LogFiles>, promise: &mut Promise) {
    let Ok((mut log, recovered)) = try_open(dir, epoch, small_segments(400), files) else {
        promise.failed += 1;
        return;
    };
    let earlier = replayed_times(&recovered).unwrap();
    let mut last_acknowledged = 0;
    for n in 0..12 {
        let time = first_time + n;
        promise.attempted.push(time);
        match append(&mut log, &[sample(n as u32 % 5, time, 0.5)]) {
            Ok(seq) => {
                assert!(seq > last_acknowledged);
                last_acknowledged = seq;
                promise.acknowledged.push(time);
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                promise.failed += 1;
            }
        }
        if n == 5 || n == 8 {
            log.start_segment();
        }
        if n == 9 {
            promise.released.extend(&earlier);
            promise.released.extend(first_time..first_time + 9);
            for segment in &recovered {
                promise.failed += usize::from(log.release(segment.epoch(), segment.last_seq()).is_err());
            }
            let through = log.last_seq().saturating_sub(1);
            promise.failed += usize::from(log.release(log.epoch(), through).is_err());
        }
    }
}

fn check(dir: &Path, epoch: u64, promise: &Promise, context: &str) {
    let (mut log, segments) = try_open(dir, epoch, LogSettings::default(), Arc::new(QuickFiles))
        .unwrap_or_else(|error| panic!("{context}: {error}"));
    let times = replayed_times(&segments).unwrap_or_else(|error| panic!("{context}: {error}"));
    let mut unique = times.clone();
    unique.dedup();
    assert_eq!(unique, times, "{context}: doubled");
    for time in &promise.acknowledged {
        assert!(times.contains(time) || promise.released.contains(time), "{context}: lost {time}");
    }
    assert!(times.iter().all(|t| promise.attempted.contains(t)), "{context}: invented");
    append(&mut log, &[sample(0, 1_000, 1.0)]).unwrap();
    drop(log);
    let (_log, segments) = open(dir, epoch + 1, LogSettings::default());
    let again = replayed_times(&segments).unwrap();
    assert_eq!(again[..times.len()], times, "{context}: the second start differs");
}

fn steps_of_a_run() -> usize {
    let dir = tempfile::tempdir().unwrap();
    let files = FaultyFiles::new(0, false);
    let mut promise = Promise::default();
    run(dir.path(), 1, 0, Arc::new(QuickFiles), &mut promise);
    run(dir.path(), 2, 100, Arc::clone(&files) as Arc<dyn LogFiles>, &mut promise);
    assert_eq!((promise.failed, promise.acknowledged.len()), (0, 24));
    files.steps()
}

#[test]
fn a_power_cut_at_any_step_loses_no_acknowledged_sample() {
    for fail_at in 1..=steps_of_a_run() {
        for (keep_bytes, keep_names) in [(false, false), (false, true), (true, false), (true, true)] {
            let dir = tempfile::tempdir().unwrap();
            let files = FaultyFiles::new(fail_at, true);
            let mut promise = Promise::default();
            run(dir.path(), 1, 0, Arc::new(QuickFiles), &mut promise);
            run(dir.path(), 2, 100, Arc::clone(&files) as Arc<dyn LogFiles>, &mut promise);
            assert!(promise.failed > 0);
            files.cut_power(keep_bytes, keep_names);
            let context = format!("step {fail_at}, bytes kept {keep_bytes}, names kept {keep_names}");
            check(dir.path(), 3, &promise, &context);
        }
    }
}

#[test]
fn one_failed_step_fails_one_call_and_the_log_goes_on() {
    for fail_at in 1..=steps_of_a_run() {
        for power_cut in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let files = FaultyFiles::new(fail_at, false);
            let mut promise = Promise::default();
            run(dir.path(), 1, 0, Arc::new(QuickFiles), &mut promise);
            run(dir.path(), 2, 100, Arc::clone(&files) as Arc<dyn LogFiles>, &mut promise);
            assert_eq!(promise.failed, 1, "step {fail_at}");
            if power_cut {
                files.cut_power(false, false);
            }
            check(dir.path(), 3, &promise, &format!("step {fail_at}, power cut {power_cut}"));
        }
    }
}

#[test]
fn folders_that_could_not_be_made_durable_at_once_are_before_an_entry_in_them_is_acknowledged() {
    let steps = {
        let dir = tempfile::tempdir().unwrap();
        let files = FaultyFiles::new(0, false);
        append_until_taken(&dir.path().join("new/log"), &files);
        files.steps()
    };
    for fail_at in 0..=steps {
        let dir = tempfile::tempdir().unwrap();
        let (log, files) = (dir.path().join("new/log"), FaultyFiles::new(fail_at, false));
        append_until_taken(&log, &files);
        files.cut_power(false, false);
        let (_log, segments) = open(&log, 2, LogSettings::default());
        assert_eq!(replayed_times(&segments).unwrap(), [7], "step {fail_at}");
    }
}

/// Opens a log and appends the time 7, each again where it fails.
fn append_until_taken(dir: &Path, files: &Arc<FaultyFiles>) {
    let open = || try_open(dir, 1, LogSettings::default(), Arc::clone(files) as Arc<dyn LogFiles>);
    let (mut log, _) = open().or_else(|_| open()).unwrap();
    let sample = [sample(0, 7, 1.0)];
    append(&mut log, &sample).or_else(|_| append(&mut log, &sample)).unwrap();
}

#[test]
fn a_failed_fsync_ends_the_file_and_its_sequence_number_is_used_again() {
    let dir = tempfile::tempdir().unwrap();
    // Steps: folders, create, write, sync, rename, sync of the folder, write, sync; then write and the sync that fails.
    let probe = FaultyFiles::new(0, false);
    let (mut log, _) = try_open(
        &dir.path().join("probe"),
        1,
        LogSettings::default(),
        Arc::clone(&probe) as Arc<dyn LogFiles>,
    )
    .unwrap();
    append(&mut log, &[sample(0, 0, 1.0)]).unwrap();
    let dir = dir.path().join("log");
    let files = FaultyFiles::new(probe.steps() + 2, false);
    let (mut log, _) =
        try_open(&dir, 1, LogSettings::default(), Arc::clone(&files) as Arc<dyn LogFiles>).unwrap();
    assert_eq!(append(&mut log, &[sample(0, 0, 1.0)]).unwrap(), 1);
    assert!(append(&mut log, &[sample(0, 1, 1.0)]).is_err());
    assert_eq!(log.last_seq(), 1);
    let first = dir.join(log.epoch().to_string()).join(format!("{:020}.log", 1));
    assert_eq!(fs::metadata(first).unwrap().len(), log.bytes(), "the entry that failed is not left behind");
    assert_eq!(append(&mut log, &[sample(0, 2, 1.0)]).unwrap(), 2);
    drop(log);
    let (_log, segments) = open(&dir, 2, LogSettings::default());
    assert_eq!(segments.len(), 2);
    assert_eq!(replayed_times(&segments).unwrap(), [0, 2]);
}
