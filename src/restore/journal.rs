//! The journal of a restore: what is restored, and which parts of files are there.
//!
//! JSON lines. The first names the restore and is durable before anything is fetched. Lines about parts are hints
//! that save fetching again: a file counts only once its hash as a whole was found right.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::finish::{check_format, first_format};
use super::plan::target_text;
use super::workplace::{new_file, open_file};
use super::{RestoreError, workplace};
use crate::archive::{Position, Target};

/// The most that is read of a journal: some million parts.
const JOURNAL_BYTES_MAX: u64 = 256 << 20;

/// What is restored. An unfinished restore goes on only where this is the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Subject {
    #[serde(default = "first_format")]
    pub(super) format: u32,
    pub(super) source: String,
    pub(super) target: String,
    /// The time in that.
    #[serde(default)]
    pub(super) at_ms: i64,
    pub(super) timeline: Option<u32>,
    pub(super) output: Vec<String>,
    pub(super) position: Position,
    pub(super) written_ms: i64,
    /// Which base was chosen: when it was seen, and how far the logs were written then.
    pub(super) base: (i64, Position),
}

impl Subject {
    /// Returns the target that it was begun for, if that is of the same kind as another one.
    pub(super) fn target_like(&self, other: Target) -> Option<Target> {
        let target = match other {
            Target::AsOf(_) => Target::AsOf(self.at_ms),
            Target::Until(_) => Target::Until(self.at_ms),
        };
        Some(target).filter(|target| target_text(*target) == self.target)
    }

    /// Returns what differs in what was asked for; the position and base are the restore's own choice.
    pub(super) fn difference(&self, asked: &Self) -> Option<String> {
        let pairs = [
            (self.source.clone(), asked.source.clone()),
            (self.target.clone(), asked.target.clone()),
            (format!("timeline {:?}", self.timeline), format!("timeline {:?}", asked.timeline)),
            (format!("options {:?}", self.output), format!("options {:?}", asked.output)),
        ];
        let (begun, now) = pairs.into_iter().find(|(begun, now)| begun != now)?;
        Some(format!("it was begun with {begun}, and asked for is {now}"))
    }
}

#[derive(Debug, Serialize, Deserialize)]
enum Line {
    Subject(Box<Subject>),
    Part {
        file: String,
        part: u32,
    },
    /// Nothing of this file counts any more.
    Again {
        file: String,
    },
}

/// An open journal.
#[derive(Debug)]
pub(super) struct Journal {
    file: Mutex<File>,
    parts: Mutex<BTreeSet<(String, u32)>>,
}

impl Journal {
    /// Reads what an unfinished restore was about.
    ///
    /// # Errors
    /// A journal of a newer version.
    pub(super) fn read_subject(path: &Path) -> Result<Option<Subject>, RestoreError> {
        match read_lines(path)?.into_iter().next() {
            Some(Line::Subject(subject)) => Ok(Some(*subject)),
            _ => Ok(None),
        }
    }

    /// Opens the journal of this restore, with what is in it, or begins one.
    ///
    /// # Errors
    /// The journal of a restore of something else, or of a newer version.
    pub(super) fn open(path: &Path, subject: &Subject) -> Result<Self, RestoreError> {
        let lines = read_lines(path)?;
        let mut parts = BTreeSet::new();
        if let Some(Line::Subject(begun)) = lines.first() {
            if let Some(difference) = begun.difference(subject) {
                let path = workplace::parent_of(path).to_owned();
                return Err(RestoreError::OtherRestore { path, difference });
            }
            for line in &lines {
                match line {
                    Line::Part { file, part } => drop(parts.insert((file.clone(), *part))),
                    Line::Again { file } => parts.retain(|(of, _)| of != file),
                    Line::Subject(_) => {}
                }
            }
        }
        // Begun anew with what counts, so that a torn last line never stands before another.
        let staged = path.with_extension("new");
        let mut file = new_file(&staged)?;
        let mut text = line_of(&Line::Subject(Box::new(subject.clone())));
        for (file, part) in &parts {
            text.push_str(&line_of(&Line::Part { file: file.clone(), part: *part }));
        }
        file.write_all(text.as_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| std::fs::rename(&staged, path))
            .map_err(RestoreError::file(path))?;
        workplace::sync_dir(workplace::parent_of(path))?;
        Ok(Self { file: Mutex::new(file), parts: Mutex::new(parts) })
    }

    /// Returns whether a part was written.
    pub(super) fn has_part(&self, file: &str, part: u32) -> bool {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.contains(&(file.to_owned(), part))
    }

    /// Notes that a part was written.
    pub(super) fn add_part(&self, file: &str, part: u32) {
        self.append(&Line::Part { file: file.to_owned(), part });
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.insert((file.to_owned(), part));
    }

    /// Forgets a file that was found wrong.
    pub(super) fn forget(&self, file: &str) {
        self.append(&Line::Again { file: file.to_owned() });
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.retain(|(of, _)| of != file);
    }

    fn append(&self, line: &Line) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // A hint that is lost is a part that is fetched once more.
        let _ = file.write_all(line_of(line).as_bytes());
    }
}

fn line_of(line: &Line) -> String {
    let mut text = serde_json::to_string(line).expect("texts and numbers always have a JSON form");
    text.push('\n');
    text
}

/// Returns the lines up to the first that is torn.
fn read_lines(path: &Path) -> Result<Vec<Line>, RestoreError> {
    if std::fs::symlink_metadata(path).is_err() {
        return Ok(Vec::new());
    }
    let mut bytes = Vec::new();
    open_file(path)?.take(JOURNAL_BYTES_MAX).read_to_end(&mut bytes).map_err(RestoreError::file(path))?;
    let text = String::from_utf8_lossy(&bytes);
    let first = text.lines().next().and_then(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    if let Some(subject) = first.as_ref().and_then(|line| line.get("Subject")) {
        check_format(path, subject)?;
    }
    Ok(text.lines().map_while(|line| serde_json::from_str(line).ok()).collect())
}
