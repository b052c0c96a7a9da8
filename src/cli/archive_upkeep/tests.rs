use super::super::job_kinds;
use super::*;
use crate::archive::VerifyFinding;
use crate::bucket::LockMode;
use crate::jobs::JobState;
use crate::runtime::{Cpu, Metrics, Shutdown, SystemClock, random_from_seed};

fn report(level: VerifyLevel, findings: Vec<VerifyFinding>) -> VerifyReport {
    VerifyReport {
        source: SourceName::new("prod-a").unwrap(),
        level,
        findings,
        omitted_findings: 0,
        unavailable: Vec::new(),
        objects: 3,
        bytes: 2_048,
        missing_objects: 1,
        unnamed_objects: 0,
        unnamed_bytes: 0,
        sealed_manifests: 0,
        continuous_since_ms: Some(1_700_000_000_000),
        newest_ms: Some(1_700_000_060_000),
        part: None,
        read_objects: 0,
        read_bytes: 0,
        records: 0,
        samples: 0,
        blocks: 0,
    }
}

fn finding() -> VerifyFinding {
    VerifyFinding { key: "archives/prod-a/digests/x".to_owned(), what: "it is missing".to_owned() }
}

#[test]
fn findings_are_named_and_end_with_the_exit_code_of_damage() {
    let damaged = report(VerifyLevel::L1, vec![finding()]);
    let failure = sound(&damaged).unwrap_err();
    assert_eq!(failure.kind.exit_code(), 5);
    assert!(failure.message.contains("archives/prod-a/digests/x"), "{}", failure.message);
    let text = print::verification(&damaged);
    assert!(text.contains("archives/prod-a/digests/x") && text.contains("2023-11-14T22:13:20Z"), "{text}");
    assert!(sound(&report(VerifyLevel::L1, Vec::new())).is_ok());
}

#[test]
fn what_the_store_did_not_give_is_no_damage() {
    let unavailable = VerifyReport { unavailable: vec![finding()], ..report(VerifyLevel::L2, Vec::new()) };
    assert_eq!(sound(&unavailable).unwrap_err().kind.exit_code(), 6);
}

#[test]
fn a_sound_verification_counts_for_the_lower_levels_too() {
    let registry = Metrics::new();
    let metrics = UpkeepMetrics::registered(&registry);
    metrics.verified(&report(VerifyLevel::L2, Vec::new()), 1_500);
    metrics.verified(&report(VerifyLevel::L3, vec![finding()]), 2_500);
    let text = registry.render();
    for line in [
        "perennial_archive_verify_last_success_timestamp_seconds{source=\"prod-a\",level=\"L1\"} 1.5",
        "perennial_archive_verify_last_success_timestamp_seconds{source=\"prod-a\",level=\"L2\"} 1.5",
        "perennial_archive_verify_findings{source=\"prod-a\",level=\"L3\"} 1",
        "perennial_archive_objects_missing{source=\"prod-a\"} 1",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("timestamp_seconds{source=\"prod-a\",level=\"L3\"}"), "{text}");
}

#[tokio::test]
async fn every_kind_of_upkeep_has_a_function_and_fails_where_there_is_no_archive() {
    let bucket =
        crate::bucket::Bucket::from_store(std::sync::Arc::new(object_store::memory::InMemory::new()));
    let upkeep = Upkeep::of_parts(
        bucket,
        crate::envelope::Envelope::none(),
        Cpu::start(1).unwrap(),
        SystemClock::new(),
        random_from_seed(1),
    );
    let metrics = UpkeepMetrics::default();
    let kinds = provide(job_kinds::declared(), &upkeep, Some(LockMode::Governance), &metrics);
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("jobs");
    for job in crate::jobs::read_jobs(&dir, &kinds).unwrap() {
        let function = kinds.function(&job).unwrap();
        let error = function(job.parameters.clone(), Shutdown::new()).await.unwrap_err();
        assert_eq!(error.kind().exit_code(), 3, "{}: a mistyped bucket is no success: {error}", job.name);
    }
}

#[test]
fn what_jobs_remember_is_shown_after_a_start_and_the_newest_wins() {
    let kept = JobState::default();
    let source = SourceName::new("prod-a").unwrap();
    let before = UpkeepMetrics::default();
    before.verified(&report(VerifyLevel::L1, Vec::new()), 1_500).keep(&kept, &source);
    before.verified(&report(VerifyLevel::L1, vec![finding()]), 2_500).keep(&kept, &source);
    let registry = Metrics::new();
    let metrics = UpkeepMetrics::registered(&registry);
    let sound = VerifyReport { missing_objects: 0, ..report(VerifyLevel::L3, Vec::new()) };
    metrics.verified(&sound, 3_500);
    let kinds = job_kinds::declared();
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("jobs");
    let jobs = crate::jobs::read_jobs(&dir, &kinds).unwrap();
    let job = jobs.iter().find(|job| job.name == "archive-verify-l1").unwrap();
    metrics.show_verifications(&job.parameters.with_state(kept));
    let text = registry.render();
    for line in [
        "perennial_archive_verify_last_success_timestamp_seconds{source=\"prod-a\",level=\"L1\"} 3.5",
        "perennial_archive_verify_findings{source=\"prod-a\",level=\"L1\"} 1",
        "perennial_archive_objects_missing{source=\"prod-a\"} 0",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}
