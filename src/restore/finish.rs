//! The last steps of a restore, and what tells afterwards that they were taken.
//!
//! `report.json` in the work directory is durable before the directory moves to its place. It names the inode that is to
//! stand there: whoever finds that one in the place knows that the restore was complete, and what came of it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::RestoreError;
use super::journal::Subject;
use super::run::RestoreReport;
use super::workplace::{
    Workplace, check_place, free_name, parent_of, remove_all, remove_file_if_there, sync_dir, write_file,
};
use crate::runtime::{crash_point, fails_here};

/// The form of the small files in work directories. A higher number is refused.
pub(super) const FORMAT: u32 = 1;

const REPORT: &str = "report.json";

/// What was made, of what, and how to know it again.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Finished<S, R> {
    #[serde(default = "first_format")]
    format: u32,
    /// Of the directory that was made.
    inode: u64,
    pub(super) subject: S,
    pub(super) report: R,
}

pub(super) const fn first_format() -> u32 {
    1
}

impl<S: Serialize + DeserializeOwned, R: Serialize + DeserializeOwned> Finished<S, R> {
    /// Notes that the directory `made` is about to move to its place.
    pub(super) fn note(work: &Path, made: &Path, subject: S, report: R) -> Result<Self, RestoreError> {
        let finished = Self { format: FORMAT, inode: inode(made)?, subject, report };
        // Plain data: what cannot be written would be a defect, and the restore is then made again.
        write_file(&work.join(REPORT), &serde_json::to_vec(&finished).unwrap_or_default())?;
        sync_dir(work)?;
        Ok(finished)
    }

    /// Returns what was noted.
    ///
    /// # Errors
    /// A note of a newer version.
    pub(super) fn read(work: &Path) -> Result<Option<Self>, RestoreError> {
        let path = work.join(REPORT);
        let Ok(bytes) = fs::read(&path) else { return Ok(None) };
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
        check_format(&path, &value)?;
        Ok(serde_json::from_value(value).ok())
    }

    /// Returns whether a directory is the one that was made.
    pub(super) fn is(&self, folder: &Path) -> bool {
        inode(folder).is_ok_and(|inode| inode == self.inode)
    }
}

/// Refuses a file of a work directory that a newer version has written.
pub(super) fn check_format(path: &Path, value: &serde_json::Value) -> Result<(), RestoreError> {
    match value.get("format").and_then(serde_json::Value::as_u64) {
        Some(format) if format > u64::from(FORMAT) => Err(RestoreError::Unsupported(format!(
            "{} has format {format} and this version knows {FORMAT}: go on with the newer perennial, or remove that \
             directory",
            path.display()
        ))),
        _ => Ok(()),
    }
}

fn inode(folder: &Path) -> Result<u64, RestoreError> {
    fs::symlink_metadata(folder).map(|found| found.ino()).map_err(RestoreError::file(folder))
}

/// Puts the data directory in its place. What stood there moves to `<to>.replaced`, if it may.
pub(super) fn finish(
    place: &Workplace,
    subject: Subject,
    mut report: RestoreReport,
    (delta, confirmed): (bool, bool),
) -> Result<RestoreReport, RestoreError> {
    let (to, data) = (place.to(), place.data());
    // The plan looked at it too, perhaps hours ago.
    let occupied = check_place(to, delta)?;
    if occupied && !confirmed {
        let what = format!("{} was empty and is not any more; it would be replaced", to.display());
        return Err(RestoreError::Unconfirmed(what));
    }
    report.replaced = if occupied { Some(free_name(to)?) } else { None };
    let finished = Finished::note(place.work(), &data, subject, report)?;
    match &finished.report.replaced {
        Some(replaced) => exchange(&data, to, replaced)?,
        None => fs::rename(&data, to).map_err(RestoreError::file(to))?,
    }
    sync_dir(parent_of(to))?;
    crash_point("restore.after-rename");
    remove_finished(place.work())?;
    sync_dir(parent_of(to))?;
    Ok(finished.report)
}

/// Lets two directories change places, so that there is one at any time; the old one gets a name of its own then.
fn exchange(data: &Path, to: &Path, replaced: &Path) -> Result<(), RestoreError> {
    let (cwd, both) = (rustix::fs::CWD, rustix::fs::RenameFlags::EXCHANGE);
    if !fails_here("restore.exchange") && rustix::fs::renameat_with(cwd, data, cwd, to, both).is_ok() {
        crash_point("restore.after-exchange");
        return fs::rename(data, replaced).map_err(RestoreError::file(replaced));
    }
    // Not every file system can.
    fs::rename(to, replaced).map_err(RestoreError::file(to))?;
    crash_point("restore.between-renames");
    fs::rename(data, to).map_err(RestoreError::file(to))
}

/// Ends what a restore that was killed after its rename has left to do; returns what it was. The work directory must be
/// locked.
pub(super) fn settle(
    work: &Path,
    to: &Path,
) -> Result<Option<Finished<Subject, RestoreReport>>, RestoreError> {
    let Some(mut finished) = Finished::<Subject, RestoreReport>::read(work)? else { return Ok(None) };
    let data = work.join("data");
    // Killed after the exchange: this is what stood in the place.
    if fs::symlink_metadata(&data).is_ok() && !finished.is(&data) {
        let replaced: PathBuf = free_name(to)?;
        fs::rename(&data, &replaced).map_err(RestoreError::file(&replaced))?;
        sync_dir(parent_of(to))?;
        finished.report.replaced = Some(replaced);
    }
    Ok(Some(finished).filter(|finished| finished.is(to)))
}

/// Removes a work directory, the note of what was made last: until then whoever comes knows that it was.
pub(super) fn remove_finished(work: &Path) -> Result<(), RestoreError> {
    for entry in fs::read_dir(work).map_err(RestoreError::file(work))? {
        let entry = entry.map_err(RestoreError::file(work))?;
        let path = entry.path();
        if entry.file_type().map_err(RestoreError::file(&path))?.is_dir() {
            remove_all(&path)?;
        } else if entry.file_name() != REPORT {
            remove_file_if_there(&path)?;
        }
        crash_point("restore.while-cleaning");
    }
    forget(work)?;
    fs::remove_dir(work).map_err(RestoreError::file(work))
}

/// Removes the note.
pub(super) fn forget(work: &Path) -> Result<(), RestoreError> {
    remove_file_if_there(&work.join(REPORT))
}
