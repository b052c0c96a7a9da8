//! A directory of job files.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::error::JobError;
use super::job::{Job, parse_job};
use super::kind::JobKinds;

const FILE_BYTES_MAX: u64 = 64 << 10;
const FILES_MAX: usize = 1_000;

/// Reads the jobs of a directory, sorted by name: every file `*.yaml` or `*.yml` that does not begin with a dot.
///
/// # Errors
/// The first thing that is wrong: with the directory, a file, a key, or two jobs of one name.
pub fn read_jobs(dir: &Path, kinds: &JobKinds) -> Result<Vec<Job>, JobError> {
    let files = files(dir)?;
    let mut jobs = BTreeMap::<String, Job>::new();
    for path in files {
        let file = path.display().to_string();
        let job = parse_job(&file, &text(&path, &file)?, kinds)?;
        if let Some(first) = jobs.get(&job.name) {
            let reason = format!("{:?} is taken by {}; each job has a name of its own", job.name, first.file);
            return Err(JobError::Key { file, key: "name".to_owned(), reason });
        }
        jobs.insert(job.name.clone(), job);
    }
    Ok(jobs.into_values().collect())
}

fn files(dir: &Path) -> Result<Vec<PathBuf>, JobError> {
    let refuse = |reason: &str| JobError::Directory { path: dir.to_owned(), reason: reason.to_owned() };
    if !dir.is_dir() {
        return Err(refuse("is no directory; name the one that holds the job files"));
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(JobError::io("list", dir))? {
        let path = entry.map_err(JobError::io("list", dir))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_job = !name.starts_with('.') && (name.ends_with(".yaml") || name.ends_with(".yml"));
        // A mounted ConfigMap holds links to files.
        if is_job && path.is_file() {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(refuse("holds no jobs; they are files named *.yaml or *.yml"));
    }
    if files.len() > FILES_MAX {
        return Err(refuse("holds more than 1000 jobs"));
    }
    files.sort();
    Ok(files)
}

fn text(path: &Path, file: &str) -> Result<String, JobError> {
    let mut bytes = Vec::new();
    let opened = File::open(path).map_err(JobError::io("read", path))?;
    opened.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(JobError::io("read", path))?;
    let refuse = |reason: &str| JobError::File { file: file.to_owned(), reason: reason.to_owned() };
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(refuse("is larger than 64 KiB, which no job is"));
    }
    String::from_utf8(bytes).map_err(|_| refuse("is not UTF-8 text"))
}
