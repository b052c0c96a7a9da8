//! One job: what its file says, checked.

use std::collections::BTreeMap;
use std::str::FromStr;

use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::JobError;
use super::kind::{JobKind, JobKinds, Parameters};
use super::schedule::Schedule;
use super::schema;
use crate::model::{format_duration_ms, parse_duration_ms};

const DAY_MS: i64 = 86_400_000;
const HOUR_MS: i64 = 3_600_000;
const MINUTE_MS: i64 = 60_000;

/// What happens to slots that passed while nobody could run them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MissedRuns {
    /// The next slot is the next run.
    Skip,
    /// One run at once makes up for all of them.
    #[default]
    RunOnce,
}

/// What happens when a job is due and still running.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Concurrency {
    /// The new turn is left out.
    #[default]
    Forbid,
    /// Both run.
    Allow,
    /// The running one is stopped, then the new one starts.
    Replace,
}

/// What happens after a failure that may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnFailure {
    /// How many more attempts there are.
    pub retries: u32,
    /// How long the first of them waits; it doubles with each, up to an hour.
    pub backoff_ms: i64,
}

/// A job, as its file describes it.
#[derive(Debug, Clone)]
pub struct Job {
    /// The file it was read from.
    pub file: String,
    /// What it is called; a plain file name.
    pub name: String,
    /// What it does.
    pub kind: String,
    /// When it runs.
    pub schedule: Schedule,
    /// How far a run may be moved behind its slot, so that many do not start at once.
    pub jitter_ms: i64,
    /// What happens to slots that were missed.
    pub missed_runs: MissedRuns,
    /// What happens when it is due and still running.
    pub concurrency: Concurrency,
    /// How long one attempt may take.
    pub timeout_ms: i64,
    /// What happens after a failure.
    pub on_failure: OnFailure,
    /// What its kind is told.
    pub parameters: Parameters,
}

/// The file's keys. The schema has checked their types; the values are checked here.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct JobFile {
    name: String,
    kind: String,
    schedule: String,
    time_zone: Option<String>,
    jitter: Option<String>,
    #[serde(default)]
    missed_runs: MissedRuns,
    #[serde(default)]
    concurrency: Concurrency,
    timeout: Option<String>,
    #[serde(default)]
    on_failure: OnFailureFile,
    #[serde(default)]
    parameters: BTreeMap<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct OnFailureFile {
    #[serde(default)]
    retries: u32,
    backoff: Option<String>,
}

/// Reads one file's text; `file` stands in the errors.
pub(super) fn parse_job(file: &str, text: &str, kinds: &JobKinds) -> Result<Job, JobError> {
    let not_yaml = |reason: String| JobError::File { file: file.to_owned(), reason };
    let value: Value = serde_yaml_ng::from_str(text).map_err(|e| not_yaml(e.to_string()))?;
    let refuse =
        |key: &str, reason: String| JobError::Key { file: file.to_owned(), key: key.to_owned(), reason };
    schema::check(&value).map_err(|(key, reason)| refuse(&key, reason))?;
    let from: JobFile = serde_json::from_value(value).map_err(|e| not_yaml(e.to_string()))?;

    let kind = known_kind(&from.kind, kinds).map_err(|reason| refuse("kind", reason))?;
    let time_zone = time_zone(from.time_zone.as_deref()).map_err(|reason| refuse("time_zone", reason))?;
    let schedule = Schedule::parse(&from.schedule, time_zone)
        .map_err(|reason| refuse("schedule", format!("{:?} is not allowed; {reason}", from.schedule)))?;
    let duration = |key: &str, text: Option<&str>, default_ms: i64, (least_ms, most_ms): (i64, i64)| {
        let Some(text) = text else { return Ok(default_ms) };
        let ms = parse_duration_ms(text).map_err(|e| refuse(key, e.to_string()))?;
        if (least_ms..=most_ms).contains(&ms) {
            return Ok(ms);
        }
        let (least, most) = (format_duration_ms(least_ms), format_duration_ms(most_ms));
        Err(refuse(key, format!("{text:?} is not allowed; {least} to {most} are")))
    };
    let texts = from.parameters.into_iter().map(|(name, value)| (name, scalar_text(value)));
    let parameters = kind.check(texts.collect());
    Ok(Job {
        file: file.to_owned(),
        jitter_ms: duration("jitter", from.jitter.as_deref(), 0, (0, DAY_MS))?,
        missed_runs: from.missed_runs,
        concurrency: from.concurrency,
        timeout_ms: duration("timeout", from.timeout.as_deref(), 6 * HOUR_MS, (1, 30 * DAY_MS))?,
        on_failure: OnFailure {
            retries: from.on_failure.retries,
            backoff_ms: duration(
                "on_failure.backoff",
                from.on_failure.backoff.as_deref(),
                MINUTE_MS,
                (1, HOUR_MS),
            )?,
        },
        parameters: parameters.map_err(|(name, reason)| refuse(&format!("parameters.{name}"), reason))?,
        name: from.name,
        kind: from.kind,
        schedule,
    })
}

fn known_kind<'a>(name: &str, kinds: &'a JobKinds) -> Result<&'a JobKind, String> {
    kinds.get(name).ok_or_else(|| {
        let known = kinds.names().map(|(name, _)| name).collect::<Vec<_>>().join(", ");
        format!("{name:?} is not allowed; there are {known}")
    })
}

fn time_zone(name: Option<&str>) -> Result<Tz, String> {
    let Some(name) = name else { return Ok(Tz::UTC) };
    Tz::from_str(name).map_err(|_| {
        let alike = chrono_tz::TZ_VARIANTS.iter().find(|zone| zone.name().eq_ignore_ascii_case(name));
        let meant = alike.map(|zone| format!("; {:?} is", zone.name())).unwrap_or_default();
        format!("{name:?} is not allowed{meant}; an IANA name is, such as Europe/Berlin or UTC")
    })
}

/// The schema allows texts, numbers and switches only.
fn scalar_text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// Reads any bytes as a job's file and plans its turns; for fuzzing.
pub fn fuzz_job(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let kinds = JobKinds::new([JobKind::new("archive-verify", "", &[])]);
    let Ok(job) = parse_job("fuzzed.yaml", text, &kinds) else { return };
    for after_ms in [i64::MIN, 0, 1_700_000_000_123, i64::MAX] {
        if let Some(slot_ms) = job.schedule.next_after(after_ms) {
            assert!(slot_ms > after_ms, "a slot lies after what it follows");
        }
    }
}
