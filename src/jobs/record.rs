//! Records: what the last run of each job came to, kept as `<data-dir>/jobs/<name>.json`.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::error::JobError;
use super::job::Concurrency;
use super::kind::JobReport;

const FORMAT: u32 = 1;
const RECORD_BYTES_MAX: u64 = 1 << 20;

/// What a run came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunResult {
    /// It did its work.
    Ok,
    /// It failed.
    Failed,
    /// It took longer than it may.
    TimedOut,
    /// It was told to end: the process ended, or a later run replaced it.
    Stopped,
    /// The process ended without a word while it ran.
    Interrupted,
}

impl RunResult {
    /// Returns what an outcome counts as.
    #[must_use]
    pub const fn of(outcome: &Result<JobReport, JobError>) -> Self {
        match outcome {
            Ok(_) => Self::Ok,
            Err(JobError::TimedOut { .. }) => Self::TimedOut,
            Err(JobError::Stopped) => Self::Stopped,
            Err(_) => Self::Failed,
        }
    }

    /// Returns the word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::TimedOut => "timed-out",
            Self::Stopped => "stopped",
            Self::Interrupted => "interrupted",
        }
    }
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// The slot it was for; none where a person started it.
    pub slot_ms: Option<i64>,
    /// When it began.
    pub started_ms: i64,
    /// When it ended; none while it runs.
    pub ended_ms: Option<i64>,
    /// How often the work was tried.
    #[serde(default)]
    pub attempts: u32,
    /// What it came to; none while it runs.
    pub result: Option<RunResult>,
    /// The summary of the work, or why it failed.
    #[serde(default)]
    pub message: String,
    /// What the work reported for programs.
    #[serde(default)]
    pub details: serde_json::Value,
}

/// What is kept of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    /// The form of the file.
    pub format: u32,
    /// Up to here, slots were run, left out, or came before the job was known.
    pub settled_ms: i64,
    /// What decides the jitter of this job here.
    pub jitter_seed: u64,
    /// The last run that began.
    #[serde(default)]
    pub last_run: Option<RunRecord>,
    /// When a run last did its work.
    #[serde(default)]
    pub last_success_ms: Option<i64>,
    /// What the job remembers from run to run.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub state: BTreeMap<String, u64>,
}

impl JobRecord {
    /// Makes the record of a job that is seen for the first time: it has missed nothing.
    #[must_use]
    pub const fn first(now_ms: i64, jitter_seed: u64) -> Self {
        Self {
            format: FORMAT,
            settled_ms: now_ms,
            jitter_seed,
            last_run: None,
            last_success_ms: None,
            state: BTreeMap::new(),
        }
    }
}

/// The directory of the records.
#[derive(Debug)]
pub struct Records {
    dir: PathBuf,
    /// Reading and writing back is one step within this process.
    writing: Mutex<()>,
}

/// The right to run a job, given back when it is dropped or the process ends.
#[derive(Debug)]
pub(super) struct RunLock {
    _file: File,
}

impl Records {
    /// Names the directory; it is made with the first record.
    #[must_use]
    pub fn new(data_dir: &Path) -> Self {
        Self { dir: data_dir.join("jobs"), writing: Mutex::new(()) }
    }

    fn create_dir(&self) -> Result<(), JobError> {
        fs::create_dir_all(&self.dir).map_err(JobError::io("create the directory", &self.dir))
    }

    /// Reads a job's record. One that does not read counts as none: the job begins anew.
    #[must_use]
    pub fn read(&self, name: &str) -> Option<JobRecord> {
        let path = self.path(name);
        let damaged = |reason: String| {
            tracing::warn!(path = %path.display(), %reason, "a job's record does not read, it begins anew");
            None
        };
        let text = match read_limited(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => return damaged(error.to_string()),
        };
        match serde_json::from_slice::<JobRecord>(&text) {
            Ok(record) if record.format == FORMAT => Some(record),
            Ok(record) => damaged(format!("its format is {}, this program reads {FORMAT}", record.format)),
            Err(error) => damaged(error.to_string()),
        }
    }

    /// Changes a job's record, or the one it would begin with, and returns it.
    pub(super) fn update(
        &self,
        name: &str,
        first: impl FnOnce() -> JobRecord,
        change: impl FnOnce(&mut JobRecord),
    ) -> Result<JobRecord, JobError> {
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.create_dir()?;
        let mut record = self.read(name).unwrap_or_else(first);
        change(&mut record);
        self.write(name, &record)?;
        Ok(record)
    }

    fn write(&self, name: &str, record: &JobRecord) -> Result<(), JobError> {
        let path = self.path(name);
        let failed = |source: io::Error| JobError::Io { action: "write", path: path.clone(), source };
        let mut text = serde_json::to_vec_pretty(record).map_err(|e| failed(e.into()))?;
        text.push(b'\n');
        let mut file = tempfile::NamedTempFile::new_in(&self.dir).map_err(failed)?;
        file.write_all(&text).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
        file.persist(&path).map_err(|e| failed(e.error))?;
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(failed)
    }

    /// Takes the right to run a job: alone, or beside others where the job allows it.
    pub(super) fn lock(&self, name: &str, concurrency: Concurrency) -> Result<RunLock, JobError> {
        self.create_dir()?;
        let path = self.lock_path(name);
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(&path).map_err(JobError::io("open the lock file", &path))?;
        let locked = match concurrency {
            Concurrency::Allow => file.try_lock_shared(),
            Concurrency::Forbid | Concurrency::Replace => file.try_lock(),
        };
        match locked {
            Ok(()) => Ok(RunLock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(JobError::Running { name: name.to_owned() }),
            Err(TryLockError::Error(source)) => Err(JobError::Io { action: "lock", path, source }),
        }
    }

    /// Returns whether some process runs the job now.
    #[must_use]
    pub fn is_running(&self, name: &str) -> bool {
        let opened = File::open(self.lock_path(name));
        opened.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.json"))
    }

    fn lock_path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.lock"))
    }
}

fn read_limited(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(RECORD_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > RECORD_BYTES_MAX {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    Ok(bytes)
}
