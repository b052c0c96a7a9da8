//! Metrics of upkeep: when what was last proven.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::archive::{VerifyLevel, VerifyReport};
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
    pub(super) fn drilled(&self, report: &DrillReport, now_ms: i64) {
        let labels = SourceLabel { source: report.source.to_string() };
        if report.is_sound() {
            self.drilled.get_or_create(&labels).set(now_ms as f64 / 1_000.0);
        }
        let differences = report.differences.len() as u64 + report.omitted_differences;
        self.differences.get_or_create(&labels).set(i64::try_from(differences).unwrap_or(i64::MAX));
    }

    /// Notes what a verification came to. The higher levels hold the lower ones.
    pub(super) fn verified(&self, report: &VerifyReport, now_ms: i64) {
        let source = report.source.to_string();
        let levels = [VerifyLevel::L1, VerifyLevel::L2, VerifyLevel::L3];
        for level in levels.into_iter().filter(|level| *level <= report.level) {
            if report.is_sound() {
                self.success(&report.source, level, now_ms);
            }
        }
        let labels = LevelLabels { source: source.clone(), level: report.level.name() };
        let findings = report.findings.len() as u64 + report.omitted_findings;
        self.findings.get_or_create(&labels).set(i64::try_from(findings).unwrap_or(i64::MAX));
        let missing = i64::try_from(report.missing_objects).unwrap_or(i64::MAX);
        self.missing.get_or_create(&SourceLabel { source }).set(missing);
    }

    fn success(&self, source: &SourceName, level: VerifyLevel, now_ms: i64) {
        let labels = LevelLabels { source: source.to_string(), level: level.name() };
        self.verified.get_or_create(&labels).set(now_ms as f64 / 1_000.0);
    }
}
