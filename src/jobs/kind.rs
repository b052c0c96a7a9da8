//! Kinds of jobs: their names, their parameters and the functions that do the work.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;

use super::error::JobError;
use super::job::Job;
use super::state::JobState;
use crate::model::parse_duration_ms;
use crate::runtime::Shutdown;

/// What a job does. It ends soon after the shutdown is started: at a timeout, when it is replaced or when the process
/// ends. One that does not is dropped at its next await.
pub type JobFunction =
    Arc<dyn Fn(Parameters, Shutdown) -> BoxFuture<'static, Result<JobReport, JobError>> + Send + Sync>;

/// Is told what a job of the kind remembers, at the start and after runs, also those of other processes.
pub type JobWatch = Arc<dyn Fn(&Parameters) + Send + Sync>;

/// What a run that succeeded has to say.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct JobReport {
    /// One line for a person.
    pub summary: String,
    /// The same for programs; null for none.
    #[serde(default)]
    pub details: serde_json::Value,
}

impl JobReport {
    /// Makes a report of one line.
    #[must_use]
    pub fn new(summary: impl Into<String>) -> Self {
        Self { summary: summary.into(), details: serde_json::Value::Null }
    }

    /// Adds what programs read.
    #[must_use]
    pub fn with_details(self, details: serde_json::Value) -> Self {
        Self { details, ..self }
    }
}

/// What a parameter's value may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterForm {
    /// Any text that is not empty.
    Text,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A whole number above 0.
    Count,
    /// A whole number, 0 too.
    Number,
    /// A duration above 0.
    Duration,
}

impl ParameterForm {
    fn check(self, value: &str) -> Result<(), String> {
        match self {
            Self::Text if value.is_empty() => Err("a text that is not empty is allowed".to_owned()),
            Self::OneOf(words) if !words.contains(&value) => Err(format!("allowed are {}", words.join(", "))),
            Self::Count if !value.parse().is_ok_and(|count: u64| count > 0) => {
                Err("a whole number above 0 is allowed".to_owned())
            }
            Self::Number if value.parse::<u32>().is_err() => {
                Err("a whole number from 0 on is allowed".to_owned())
            }
            Self::Duration if !parse_duration_ms(value).is_ok_and(|ms| ms > 0) => {
                Err("a duration above 0 is allowed, such as 30m or 8d".to_owned())
            }
            _ => Ok(()),
        }
    }
}

/// One parameter of a kind.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// Its key in the file.
    pub name: &'static str,
    /// What its value may be.
    pub form: ParameterForm,
    /// The value where the file has none; without one the parameter must be given.
    pub default: Option<&'static str>,
    /// What it means, in one line.
    pub about: &'static str,
}

/// The parameters of a job, checked against those of its kind and with the defaults filled in, and what it remembers.
#[derive(Debug, Clone, Default)]
pub struct Parameters {
    values: BTreeMap<String, String>,
    state: JobState,
}

impl Parameters {
    /// Returns a text.
    ///
    /// # Errors
    /// The kind does not declare it.
    pub fn text(&self, name: &str) -> Result<&str, JobError> {
        let undeclared = || JobError::Undeclared { name: name.to_owned(), form: "a text" };
        self.values.get(name).map(String::as_str).ok_or_else(undeclared)
    }

    /// Returns a number.
    ///
    /// # Errors
    /// The kind does not declare it as a count or number.
    pub fn count(&self, name: &str) -> Result<u64, JobError> {
        let undeclared = || JobError::Undeclared { name: name.to_owned(), form: "a count" };
        self.values.get(name).and_then(|text| text.parse().ok()).ok_or_else(undeclared)
    }

    /// Returns a duration in milliseconds.
    ///
    /// # Errors
    /// The kind does not declare it as a duration.
    pub fn duration_ms(&self, name: &str) -> Result<i64, JobError> {
        let undeclared = || JobError::Undeclared { name: name.to_owned(), form: "a duration" };
        self.values.get(name).and_then(|text| parse_duration_ms(text).ok()).ok_or_else(undeclared)
    }

    /// Returns all of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Returns what the job remembers from run to run.
    #[must_use]
    pub const fn state(&self) -> &JobState {
        &self.state
    }

    /// Returns the same parameters beside what was kept.
    #[must_use]
    pub fn with_state(&self, state: JobState) -> Self {
        Self { values: self.values.clone(), state }
    }
}

/// One kind of work.
#[derive(Clone)]
pub struct JobKind {
    name: &'static str,
    about: &'static str,
    parameters: &'static [Parameter],
    function: Option<JobFunction>,
    watch: Option<JobWatch>,
}

impl fmt::Debug for JobKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobKind").field("name", &self.name).field("runs", &self.function.is_some()).finish()
    }
}

impl JobKind {
    /// Declares a kind.
    #[must_use]
    pub const fn new(name: &'static str, about: &'static str, parameters: &'static [Parameter]) -> Self {
        Self { name, about, parameters, function: None, watch: None }
    }

    /// Checks the values of a file and fills in the defaults. The error names the parameter and says what is allowed.
    pub(super) fn check(&self, given: BTreeMap<String, String>) -> Result<Parameters, (String, String)> {
        let names = || self.parameters.iter().map(|p| p.name).collect::<Vec<_>>().join(", ");
        if let Some(name) = given.keys().find(|name| !self.parameters.iter().any(|p| p.name == **name)) {
            let allowed = if self.parameters.is_empty() { "none".to_owned() } else { names() };
            let reason = format!("kind {:?} has no such parameter; it has: {allowed}", self.name);
            return Err((name.clone(), reason));
        }
        let mut checked = BTreeMap::new();
        for parameter in self.parameters {
            let value = match (given.get(parameter.name), parameter.default) {
                (Some(value), _) => value.clone(),
                (None, Some(default)) => default.to_owned(),
                (None, None) => {
                    let reason = format!("is missing; kind {:?} needs it: {}", self.name, parameter.about);
                    return Err((parameter.name.to_owned(), reason));
                }
            };
            if let Err(allowed) = parameter.form.check(&value) {
                let reason = format!("{value:?} is not allowed; {allowed} ({})", parameter.about);
                return Err((parameter.name.to_owned(), reason));
            }
            checked.insert(parameter.name.to_owned(), value);
        }
        Ok(Parameters { values: checked, state: JobState::default() })
    }
}

/// The kinds that job files may name, and the functions of those that run in this process.
#[derive(Debug, Clone, Default)]
pub struct JobKinds(BTreeMap<&'static str, JobKind>);

impl JobKinds {
    /// Makes the set of these kinds; none has a function yet.
    #[must_use]
    pub fn new(kinds: impl IntoIterator<Item = JobKind>) -> Self {
        Self(kinds.into_iter().map(|kind| (kind.name, kind)).collect())
    }

    /// Says what does the work of a kind. A kind that was not declared is left out.
    #[must_use]
    pub fn provide(mut self, kind: &str, function: JobFunction) -> Self {
        debug_assert!(self.0.contains_key(kind), "kind {kind:?} is declared");
        if let Some(kind) = self.0.get_mut(kind) {
            kind.function = Some(function);
        }
        self
    }

    /// Says who is told what jobs of a kind remember. A kind that was not declared is left out.
    #[must_use]
    pub fn watched(mut self, kind: &str, watch: JobWatch) -> Self {
        debug_assert!(self.0.contains_key(kind), "kind {kind:?} is declared");
        if let Some(kind) = self.0.get_mut(kind) {
            kind.watch = Some(watch);
        }
        self
    }

    pub(super) fn watch(&self, kind: &str) -> Option<JobWatch> {
        self.0.get(kind).and_then(|kind| kind.watch.clone())
    }

    /// Returns the names of the kinds, each with what it does.
    pub fn names(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.0.values().map(|kind| (kind.name, kind.about))
    }

    pub(super) fn get(&self, kind: &str) -> Option<&JobKind> {
        self.0.get(kind)
    }

    /// Returns what does a job's work.
    ///
    /// # Errors
    /// [`JobError::NotRunHere`] where this process cannot do it.
    pub fn function(&self, job: &Job) -> Result<JobFunction, JobError> {
        let function = self.0.get(job.kind.as_str()).and_then(|kind| kind.function.as_ref());
        function.map(Arc::clone).ok_or_else(|| {
            let runnable = self.0.values().filter(|kind| kind.function.is_some());
            let names: Vec<_> = runnable.map(|kind| kind.name).collect();
            let runnable = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            JobError::NotRunHere { file: job.file.clone(), kind: job.kind.clone(), runnable }
        })
    }
}
