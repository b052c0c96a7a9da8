//! What can go wrong with jobs.

use std::io;
use std::path::{Path, PathBuf};

use crate::model::{ErrorKind, error_chain, format_duration_ms};
use crate::runtime::CpuError;

/// Why jobs were refused, or why a run failed.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// A file or directory does not work.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// The operating system's answer.
        #[source]
        source: io::Error,
    },
    /// The directory is not what it must be.
    #[error("{}: {reason}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What is wrong and what is allowed.
        reason: String,
    },
    /// The file is not YAML, or too large.
    #[error("{file}: {reason}")]
    File {
        /// The file.
        file: String,
        /// What is wrong and what is allowed.
        reason: String,
    },
    /// A key or its value is wrong.
    #[error("{file}: key {key:?}: {reason}")]
    Key {
        /// The file.
        file: String,
        /// The key, with those above it.
        key: String,
        /// The value and what is allowed.
        reason: String,
    },
    /// No job has this name.
    #[error("there is no job {name:?}; there are: {}", known.join(", "))]
    UnknownJob {
        /// The name.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// This process has no function for the kind.
    #[error("{file}: jobs of kind {kind:?} do not run here; those that do: {runnable}")]
    NotRunHere {
        /// The job's file.
        file: String,
        /// The job's kind.
        kind: String,
        /// The kinds that run here.
        runnable: String,
    },
    /// A function asked for a parameter that its kind does not declare so.
    #[error("parameter {name:?} is not declared as {form}; this is a defect, please report it")]
    Undeclared {
        /// The parameter.
        name: String,
        /// How it was asked for.
        form: &'static str,
    },
    /// The job runs already, here or in another process.
    #[error("job {name:?} is running already; wait for it, or let it run twice with `concurrency: allow`")]
    Running {
        /// The job.
        name: String,
    },
    /// The work failed.
    #[error("{message}")]
    Failed {
        /// What kind of failure it is.
        kind: ErrorKind,
        /// What happened, with its causes.
        message: String,
    },
    /// The work took longer than it may.
    #[error("stopped after its timeout of {}; give it more with `timeout`", format_duration_ms(*timeout_ms))]
    TimedOut {
        /// The timeout.
        timeout_ms: i64,
    },
    /// The run was told to end.
    #[error("stopped before it was done")]
    Stopped,
    /// The function panicked.
    #[error("the job panicked; this is a defect, please report it with the log")]
    Panicked,
    /// The compute threads failed.
    #[error(transparent)]
    Cpu(#[from] CpuError),
}

impl JobError {
    /// Makes the error of a job's work.
    #[must_use]
    pub fn failed(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self::Failed { kind, message: message.into() }
    }

    /// Makes the error of a job's work out of a module's error and all its causes.
    #[must_use]
    pub fn of(kind: ErrorKind, error: &dyn std::error::Error) -> Self {
        Self::Failed { kind, message: error_chain(error) }
    }

    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// Returns what the caller should do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { .. } => ErrorKind::Unavailable,
            Self::Directory { .. } | Self::File { .. } | Self::Key { .. } => ErrorKind::Invalid,
            Self::NotRunHere { .. } => ErrorKind::Unsupported,
            Self::UnknownJob { .. } => ErrorKind::NotFound,
            Self::Running { .. } => ErrorKind::Locked,
            Self::Failed { kind, .. } => *kind,
            Self::TimedOut { .. } | Self::Stopped => ErrorKind::Cancelled,
            Self::Undeclared { .. } | Self::Panicked | Self::Cpu(_) => ErrorKind::Internal,
        }
    }

    /// Returns whether trying again may mend it: what is held by somebody else or unavailable, not damage or defects.
    pub(super) fn may_pass(&self) -> bool {
        !matches!(self, Self::Stopped)
            && matches!(
                self.kind(),
                ErrorKind::Conflict
                    | ErrorKind::Locked
                    | ErrorKind::Overloaded
                    | ErrorKind::Unavailable
                    | ErrorKind::Cancelled
            )
    }
}
