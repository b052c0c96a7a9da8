mod files;
mod planning;
mod running;
mod schedules;

use std::sync::Arc;

use chrono::DateTime;
use futures::FutureExt;

use super::*;
use crate::jobs::job::parse_job;

const PARAMETERS: [Parameter; 3] = [
    Parameter { name: "source", form: ParameterForm::Text, default: Some("*"), about: "whose archive" },
    Parameter { name: "level", form: ParameterForm::OneOf(&["L1", "L2"]), default: None, about: "how deep" },
    Parameter { name: "share", form: ParameterForm::Count, default: Some("30"), about: "one part of" },
];

/// Reads a time such as `2024-03-31T02:00:00+01:00`.
fn ms(time: &str) -> i64 {
    DateTime::parse_from_rfc3339(time).unwrap().timestamp_millis()
}

fn kinds() -> JobKinds {
    JobKinds::new([
        JobKind::new("check", "checks", &PARAMETERS),
        JobKind::new("idle", "does nothing", &[]),
        JobKind::new(
            "nap",
            "sleeps",
            &[Parameter { name: "for", form: ParameterForm::Duration, default: None, about: "how long" }],
        ),
    ])
}

/// A job of kind `idle` with further lines of YAML.
fn job(schedule: &str, lines: &str) -> Job {
    named_job("test", schedule, lines)
}

fn named_job(name: &str, schedule: &str, lines: &str) -> Job {
    let text = format!("name: {name}\nkind: idle\nschedule: '{schedule}'\n{lines}");
    parse_job("test.yaml", &text, &kinds()).unwrap()
}

/// Makes a function out of a future's maker.
fn function<F, O>(make: F) -> JobFunction
where
    F: Fn(Parameters, crate::runtime::Shutdown) -> O + Send + Sync + 'static,
    O: Future<Output = Result<JobReport, JobError>> + Send + 'static,
{
    Arc::new(move |parameters, shutdown| make(parameters, shutdown).boxed())
}
