//! Metrics of upkeep: when what was last proven.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::archive::{VerifyLevel, VerifyReport};
use crate::jobs::{JobState, Parameters};
use crate::model::SourceName;
use crate::restore::DrillReport;
use crate::runtime::Metrics;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LevelLabels {
    source: String,
    level: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabel {
    source: String,
}

/// When what was last proven; clones share the numbers.
#[derive(Debug, Clone, Default)]
pub(in crate::cli) struct UpkeepMetrics {
    verified: Family<LevelLabels, Gauge<f64, AtomicU64>>,
    findings: Family<LevelLabels, Gauge>,
    missing: Family<SourceLabel, Gauge>,
    drilled: Family<SourceLabel, Gauge<f64, AtomicU64>>,
    differences: Family<SourceLabel, Gauge>,
    /// When what is shown was found: jobs tell of their last runs in any order.
    shown: Arc<Mutex<BTreeMap<String, i64>>>,
}

impl UpkeepMetrics {
    /// Makes the metrics and shows them in the registry.
    pub(in crate::cli) fn registered(metrics: &Metrics) -> Self {
        let new = Self::default();
        metrics.register(
            "archive_verify_last_success_timestamp_seconds",
            "When a verification last found nothing wrong, by level",
            new.verified.clone(),
        );
        metrics.register(
            "archive_verify_findings",
            "What the last verification found, by level",
            new.findings.clone(),
        );
        metrics.register(
            "archive_objects_missing",
            "Objects that the archive catalog names and the last verification did not find",
            new.missing.clone(),
        );
        metrics.register(
            "archive_drill_last_success_timestamp_seconds",
            "When a drill last found everything as it was archived",
            new.drilled.clone(),
        );
        metrics.register(
            "archive_drill_differences",
            "Series that the last drill did not find as they were archived",
            new.differences.clone(),
        );
        new
    }

    /// Notes what a drill came to. One that had nothing to compare has proven nothing, and is no success.
    pub(super) fn drilled(&self, report: &DrillReport, now_ms: i64) -> Proof {
        let differences = report.differences.len() as u64 + report.omitted_differences;
        let proof = Proof {
            at_ms: now_ms,
            success_ms: report.is_sound().then_some(now_ms),
            found: differences,
            missing: 0,
        };
        self.show_drill(report.source.as_str(), &proof);
        proof
    }

    /// Notes what a verification came to.
    pub(super) fn verified(&self, report: &VerifyReport, now_ms: i64) -> Proof {
        let proof = Proof {
            at_ms: now_ms,
            success_ms: report.is_sound().then_some(now_ms),
            found: report.findings.len() as u64 + report.omitted_findings,
            missing: report.missing_objects,
        };
        self.show_verification(report.source.as_str(), report.level, &proof);
        proof
    }

    /// Shows what verifications of a job came to, in this process or another one.
    pub(super) fn show_verifications(&self, parameters: &Parameters) {
        let Some(level) = parameters.text("level").ok().and_then(|level| level.parse().ok()) else { return };
        for (source, proof) in Proof::kept(parameters.state()) {
            self.show_verification(&source, level, &proof);
        }
    }

    /// Shows what drills of a job came to.
    pub(super) fn show_drills(&self, state: &JobState) {
        for (source, proof) in Proof::kept(state) {
            self.show_drill(&source, &proof);
        }
    }

    fn show_drill(&self, source: &str, proof: &Proof) {
        let labels = SourceLabel { source: source.to_owned() };
        if let Some(success_ms) = proof.success_ms {
            show_newest(&self.drilled.get_or_create(&labels), success_ms);
        }
        if self.is_news(format!("drill/{source}"), proof.at_ms) {
            self.differences.get_or_create(&labels).set(gauge_of(proof.found));
        }
    }

    /// The higher levels hold the lower ones.
    fn show_verification(&self, source: &str, level: VerifyLevel, proof: &Proof) {
        let labels = |level: VerifyLevel| LevelLabels { source: source.to_owned(), level: level.name() };
        let levels = [VerifyLevel::L1, VerifyLevel::L2, VerifyLevel::L3];
        for lower in levels.into_iter().filter(|lower| *lower <= level) {
            if let Some(success_ms) = proof.success_ms {
                show_newest(&self.verified.get_or_create(&labels(lower)), success_ms);
            }
        }
        if self.is_news(format!("{level}/{source}"), proof.at_ms) {
            self.findings.get_or_create(&labels(level)).set(gauge_of(proof.found));
        }
        if self.is_news(format!("missing/{source}"), proof.at_ms) {
            let labels = SourceLabel { source: source.to_owned() };
            self.missing.get_or_create(&labels).set(gauge_of(proof.missing));
        }
    }

    /// Returns whether nothing newer was shown.
    fn is_news(&self, what: String, at_ms: i64) -> bool {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = shown.entry(what).or_insert(i64::MIN);
        let news = at_ms >= *newest;
        *newest = at_ms.max(*newest);
        news
    }
}

fn show_newest(gauge: &Gauge<f64, AtomicU64>, at_ms: i64) {
    gauge.set(gauge.get().max(at_ms as f64 / 1_000.0));
}

fn gauge_of(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// What a verification or drill of one source came to, as a job remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Proof {
    at_ms: i64,
    /// When one last found nothing wrong.
    success_ms: Option<i64>,
    found: u64,
    missing: u64,
}

impl Proof {
    /// Keeps it with the job.
    pub(super) fn keep(&self, state: &JobState, source: &SourceName) {
        let time = |ms: i64| u64::try_from(ms).unwrap_or(0);
        state.set(format!("at/{source}"), time(self.at_ms));
        if let Some(success_ms) = self.success_ms {
            state.set(format!("success/{source}"), time(success_ms));
        }
        state.set(format!("found/{source}"), self.found);
        state.set(format!("missing/{source}"), self.missing);
    }

    /// Returns what a job remembers, by source.
    fn kept(state: &JobState) -> Vec<(String, Self)> {
        let numbers = state.numbers();
        let number = |what: &str, source: &str| numbers.get(&format!("{what}/{source}")).copied();
        let time = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        let sources =
            numbers.iter().filter_map(|(name, at_ms)| Some((name.strip_prefix("at/")?, time(*at_ms))));
        let proofs = sources.map(|(source, at_ms)| {
            let proof = Self {
                at_ms,
                success_ms: number("success", source).map(time),
                found: number("found", source).unwrap_or(0),
                missing: number("missing", source).unwrap_or(0),
            };
            (source.to_owned(), proof)
        });
        proofs.collect()
    }
}
