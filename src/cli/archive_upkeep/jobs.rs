//! Upkeep as jobs.

use std::future::Future;
use std::sync::Arc;
use std::thread::JoinHandle;

use serde_json::json;
use tokio::sync::oneshot;

use super::super::Failure;
use super::metrics::UpkeepMetrics;
use super::print;
use super::work::Upkeep;
use crate::archive::{RetentionPolicy, VerifyProgress, VerifySettings};
use crate::bucket::LockMode;
use crate::jobs::{JobError, JobFunction, JobKinds, JobReport, Parameters};
use crate::model::{ErrorKind, SourceName, parse_duration_ms};
use crate::restore::{DrillSettings, NoProgress};
use crate::runtime::Shutdown;

/// Adds the functions of all kinds of upkeep; that of lock extension where it is said how to lock.
pub(in crate::cli) fn provide(
    kinds: JobKinds,
    upkeep: &Upkeep,
    lock: Option<LockMode>,
    metrics: &UpkeepMetrics,
) -> JobKinds {
    let kinds = kinds
        .provide(
            "archive-roll-up",
            each(upkeep, |upkeep, _, source| async move {
                let report = upkeep.roll_up(&source).await?;
                Ok((
                    format!("{source}: {} pieces in place of {}", report.pieces, report.replaced_pieces),
                    json!(report),
                ))
            }),
        )
        .provide("archive-retention", each(upkeep, retention))
        .provide("archive-verify", {
            let metrics = metrics.clone();
            each(upkeep, move |upkeep, parameters, source| {
                verify(upkeep, parameters, source, metrics.clone())
            })
        })
        .provide("archive-drill", {
            let metrics = metrics.clone();
            each(upkeep, move |upkeep, parameters, source| drill(upkeep, parameters, source, metrics.clone()))
        })
        .watched("archive-verify", {
            let metrics = metrics.clone();
            Arc::new(move |parameters: &Parameters| metrics.show_verifications(parameters))
        })
        .watched("archive-drill", {
            let metrics = metrics.clone();
            Arc::new(move |parameters: &Parameters| metrics.show_drills(parameters.state()))
        });
    let Some(mode) = lock else { return kinds };
    kinds.provide(
        "archive-lock-extension",
        each(upkeep, move |upkeep, parameters, source| extend(upkeep, parameters, source, mode)),
    )
}

/// What the work on one source came to: one line, and the same for programs.
type Outcome = Result<(String, serde_json::Value), Failure>;

/// Makes a job's function that does its work for each source in turn; a failure does not keep it from the others.
fn each<F, W>(upkeep: &Upkeep, work: W) -> JobFunction
where
    F: Future<Output = Outcome> + Send + 'static,
    W: Fn(Upkeep, Parameters, SourceName) -> F + Send + Sync + 'static,
{
    let (upkeep, work) = (upkeep.clone(), Arc::new(work));
    Arc::new(move |parameters: Parameters, stop: Shutdown| {
        let (upkeep, work) = (upkeep.clone(), Arc::clone(&work));
        Box::pin(async move {
            let sources = upkeep.sources(parameters.text("source")?).await.map_err(job_error)?;
            let (mut lines, mut details, mut failure) = (Vec::new(), serde_json::Map::new(), None);
            for source in sources {
                let worked = tokio::select! {
                    worked = work(upkeep.clone(), parameters.clone(), source.clone()) => worked,
                    () = stop.wait() => return Err(JobError::Stopped),
                };
                match worked {
                    Ok((line, value)) => {
                        lines.push(line);
                        details.insert(source.to_string(), value);
                    }
                    Err(error) => {
                        tracing::error!(%source, error = error.message, "upkeep of an archive failed");
                        failure = Some(worse(failure, error));
                    }
                }
            }
            match failure {
                Some(failure) => Err(job_error(failure)),
                None => Ok(JobReport::new(lines.join("; ")).with_details(details.into())),
            }
        })
    })
}

/// Damage is told before what may pass.
fn worse(before: Option<Failure>, next: Failure) -> Failure {
    match before {
        Some(before) if before.kind == ErrorKind::Corrupt || next.kind != ErrorKind::Corrupt => before,
        _ => next,
    }
}

fn job_error(failure: Failure) -> JobError {
    JobError::failed(failure.kind, failure.message)
}

impl From<JobError> for Failure {
    fn from(error: JobError) -> Self {
        Self::of(error.kind(), &error)
    }
}

async fn retention(upkeep: Upkeep, parameters: Parameters, source: SourceName) -> Outcome {
    let number = |name: &str| -> Result<u32, Failure> {
        Ok(u32::try_from(parameters.count(name)?).unwrap_or(u32::MAX))
    };
    let policy = RetentionPolicy {
        window_ms: parameters.duration_ms("window")?,
        hourly: number("hourly")?,
        daily: number("daily")?,
        weekly: number("weekly")?,
        monthly: number("monthly")?,
        yearly: number("yearly")?,
    };
    let report = upkeep.retain(&source, &policy, parameters.duration_ms("delete_delay")?).await?;
    let line =
        format!("{source}: {} objects marked, {} deleted", report.marked_objects, report.deleted_objects);
    Ok((line, json!(report)))
}

async fn verify(
    upkeep: Upkeep,
    parameters: Parameters,
    source: SourceName,
    metrics: UpkeepMetrics,
) -> Outcome {
    let invalid = |message: String| Failure::new(ErrorKind::Invalid, message);
    let window_ms = match parameters.text("window")? {
        "none" => None,
        text => Some(parse_duration_ms(text).map_err(|e| invalid(format!("window: {e}; or none")))?),
    };
    let level = parameters.text("level")?.parse().map_err(|e| invalid(format!("level: {e}")))?;
    let turn_name = format!("turn/{source}");
    let turn = parameters.state().number(&turn_name).unwrap_or(0);
    let settings = VerifySettings { level, share: parameters.count("share")?, turn, window_ms };
    let report = upkeep.verify(&source, settings, &VerifyProgress::default()).await?;
    let proof = metrics.verified(&report, upkeep.now_ms());
    proof.keep(parameters.state(), &source);
    if report.is_sound() && report.part.is_some() {
        parameters.state().set(turn_name, turn.wrapping_add(1));
    }
    for finding in &report.findings {
        tracing::error!(%source, %level, key = finding.key, what = finding.what, "a finding in an archive");
    }
    super::sound(&report)?;
    Ok((print::verdict(&report), json!(report)))
}

async fn drill(
    upkeep: Upkeep,
    parameters: Parameters,
    source: SourceName,
    metrics: UpkeepMetrics,
) -> Outcome {
    let settings = DrillSettings {
        prometheus: parameters.text("prometheus")?.into(),
        to: parameters.text("to")?.into(),
        seed: upkeep.any_seed(),
        as_of_ms: None,
    };
    let (drilling, named) = (upkeep.clone(), source.clone());
    let work = move || async move { drilling.drill(&named, &settings, Arc::new(NoProgress)).await };
    let report = on_a_thread(work).await??;
    metrics.drilled(&report, upkeep.now_ms()).keep(parameters.state(), &source);
    for difference in &report.differences {
        tracing::error!(
            %source,
            seed = report.seed,
            series = difference.series,
            recorded = difference.recorded,
            restored = difference.restored,
            "a drill found a series that differs"
        );
    }
    super::passed(&report)?;
    Ok((print::drill_verdict(&report), json!(report)))
}

/// Work on a thread of its own.
struct Threaded<T> {
    outcome: oneshot::Receiver<T>,
    thread: Option<JoinHandle<()>>,
}

impl<T> Drop for Threaded<T> {
    /// The work is given up. Its end is waited for: nothing of it may outlive the job, nor the process.
    fn drop(&mut self) {
        self.outcome.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Runs what has to stay on one thread, on one of its own; it ends where nobody waits for it any more.
async fn on_a_thread<T: Send + 'static, F: Future<Output = T>>(
    work: impl FnOnce() -> F + Send + 'static,
) -> Result<T, Failure> {
    let (mut done, outcome) = oneshot::channel();
    let io = tokio::runtime::Handle::current();
    let run = move || {
        io.block_on(async move {
            let outcome = tokio::select! {
                outcome = work() => outcome,
                () = done.closed() => return,
            };
            drop(done.send(outcome));
        });
    };
    let thread = std::thread::Builder::new().name("drill".to_owned()).spawn(run);
    let thread =
        thread.map_err(|e| Failure::new(ErrorKind::Unavailable, format!("cannot start a thread: {e}")))?;
    let mut threaded = Threaded { outcome, thread: Some(thread) };
    (&mut threaded.outcome)
        .await
        .map_err(|_| Failure::new(ErrorKind::Internal, "the drill panicked; please report it with the log"))
}

async fn extend(upkeep: Upkeep, parameters: Parameters, source: SourceName, mode: LockMode) -> Outcome {
    let report = upkeep.extend_locks(&source, mode, parameters.duration_ms("retain")?).await?;
    Ok((format!("{source}: {}", print::locks(&report)), json!(report)))
}
