use std::path::Path;

use super::*;
use crate::jobs::RunRecord;

fn shipped() -> Vec<Job> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("jobs");
    read_jobs(&dir, &job_kinds::declared()).unwrap()
}

#[test]
fn the_shipped_jobs_are_valid_and_there_is_one_of_each_kind() {
    let jobs = shipped();
    for job in &jobs {
        assert!(job.file.ends_with(&format!("/{}.yaml", job.name)), "{} is named after its job", job.file);
    }
    for (kind, about) in job_kinds::declared().names() {
        assert!(jobs.iter().any(|job| job.kind == kind), "{kind} ({about}) has an example");
    }
    let levels: Vec<_> = jobs.iter().filter_map(|job| job.parameters.text("level").ok()).collect();
    assert_eq!(levels, ["L1", "L2", "L3"]);
}

#[test]
fn the_list_shows_what_a_job_came_to_and_when_it_is_next() {
    let job = shipped().into_iter().find(|job| job.name == "archive-drill").unwrap();
    let run = RunRecord {
        slot_ms: None,
        started_ms: 1_700_000_000_000,
        ended_ms: Some(1_700_000_061_000),
        attempts: 1,
        result: Some(crate::jobs::RunResult::Failed),
        message: "series differ".to_owned(),
        details: serde_json::Value::Null,
    };
    let record = JobRecord { last_run: Some(run), ..JobRecord::first(0, 0) };
    let listed = Listed { job, record: Some(record), running: false, next_run_ms: Some(1_700_100_000_000) };
    let json = as_json(&listed);
    assert_eq!(json["last_run"]["result"], "failed");
    assert_eq!(json["next_run_ms"], 1_700_100_000_000i64);
    assert_eq!(json["parameters"]["to"], "/var/lib/perennial/drill");
    let text = table(&[listed]);
    for part in ["archive-drill", "0 4 * * mon-fri", "UTC", "failed", "1m1s", "2023-11-16", "series differ"] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[test]
fn what_a_run_came_to_is_printed_for_people_and_programs() {
    let job = shipped().remove(0);
    let failed = Err(JobError::failed(ErrorKind::Corrupt, "an object is damaged"));
    let json: serde_json::Value =
        serde_json::from_str(&outcome_text(&job, &failed, 1_500, Output::Json)).unwrap();
    assert_eq!((json["result"].as_str(), json["exit_code"].as_u64()), (Some("failed"), Some(5)));
    assert_eq!(json["message"], "an object is damaged");
    let text = outcome_text(&job, &Ok(JobReport::new("12 objects")), 1_500, Output::Table);
    assert_eq!(text, format!("{}: ok after 1s500ms: 12 objects", job.name));
}
