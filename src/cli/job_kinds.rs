//! The kinds of jobs: names and parameters in one place, the same for every role and command. A process provides the
//! functions of those that it can run.

use crate::jobs::{JobKind, JobKinds, Parameter, ParameterForm};

const SOURCE: Parameter = Parameter {
    name: "source",
    form: ParameterForm::Text,
    default: Some("*"),
    about: "the archived Prometheus, or * for each",
};

const VERIFY: [Parameter; 4] = [
    SOURCE,
    Parameter {
        name: "level",
        form: ParameterForm::OneOf(&["L1", "L2", "L3"]),
        default: None,
        about: "L1 inventory and chain, L2 re-read and re-hash a share, L3 decode everything",
    },
    Parameter {
        name: "share",
        form: ParameterForm::Count,
        default: Some("30"),
        about: "L2 reads one part out of this many, the next one after each run that found nothing wrong",
    },
    Parameter {
        name: "window",
        form: ParameterForm::Text,
        default: Some("none"),
        about: "a duration: not every second of it being restorable is a finding; or none",
    },
];

const fn number(name: &'static str, default: &'static str, about: &'static str) -> Parameter {
    Parameter { name, form: ParameterForm::Number, default: Some(default), about }
}

const RETENTION: [Parameter; 8] = [
    SOURCE,
    Parameter {
        name: "window",
        form: ParameterForm::Duration,
        default: Some("7d"),
        about: "every second of this long before the newest entry stays restorable",
    },
    number("hourly", "48", "the newest restore point of each of so many hours before the window"),
    number("daily", "35", "of so many days"),
    number("weekly", "12", "of so many weeks"),
    number("monthly", "24", "of so many months"),
    number("yearly", "0", "of so many years"),
    Parameter {
        name: "delete_delay",
        form: ParameterForm::Duration,
        default: Some("24h"),
        about: "from mark to deletion",
    },
];

const DRILL: [Parameter; 3] = [
    SOURCE,
    Parameter {
        name: "prometheus",
        form: ParameterForm::Text,
        default: Some("prometheus"),
        about: "the Prometheus program to start on what was restored",
    },
    Parameter {
        name: "to",
        form: ParameterForm::Text,
        default: None,
        about: "the directory to restore below; it needs room for the whole source",
    },
];

const LOCK_EXTENSION: [Parameter; 2] = [
    SOURCE,
    Parameter {
        name: "retain",
        form: ParameterForm::Duration,
        default: None,
        about: "from now on, objects that are still needed stay locked this long",
    },
];

/// Every kind that a job file may name, without functions.
pub(super) fn declared() -> JobKinds {
    JobKinds::new([
        JobKind::new("archive-verify", "reads an archive back and checks it", &VERIFY),
        JobKind::new(
            "archive-drill",
            "restores a random time, starts Prometheus on it and compares what it answers",
            &DRILL,
        ),
        JobKind::new("archive-retention", "deletes what the retention no longer keeps", &RETENTION),
        JobKind::new("archive-roll-up", "joins small pieces into large ones", &[SOURCE]),
        JobKind::new("archive-lock-extension", "extends the object locks of what is needed", &LOCK_EXTENSION),
    ])
}
