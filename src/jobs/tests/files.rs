use std::fs;
use std::path::Path;

use super::kinds;
use crate::jobs::job::parse_job;
use crate::jobs::{Concurrency, JobError, MissedRuns, fuzz_job, read_jobs};
use crate::model::ErrorKind;

const WHOLE: &str = "name: nightly\nkind: check\nschedule: '30 2 * * *'\ntime_zone: Europe/Berlin\njitter: 10m\n\
missed_runs: skip\nconcurrency: replace\ntimeout: 2h\non_failure: {retries: 3, backoff: 30s}\n\
parameters: {source: prod-a, level: L2, share: 7}\n";
const LEAST: &str = "name: least\nkind: idle\nschedule: '@daily'\n";

/// Returns what is wrong with a job in which the line of a key reads otherwise.
fn refusal(key: &str, line: &str) -> String {
    let prefix = format!("{key}:");
    assert!(WHOLE.lines().any(|l| l.starts_with(&prefix)), "{key} stands in the example");
    let lines = WHOLE.lines().map(|l| if l.starts_with(&prefix) { line } else { l });
    refusal_of(&lines.collect::<Vec<_>>().join("\n"))
}

fn refusal_of(text: &str) -> String {
    let error = parse_job("jobs/nightly.yaml", text, &kinds()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    error.to_string()
}

fn write(dir: &Path, name: &str, text: &str) {
    fs::write(dir.join(name), text).unwrap();
}

#[test]
fn a_file_says_everything_about_a_job() {
    let job = parse_job("a.yaml", WHOLE, &kinds()).unwrap();
    assert_eq!((job.name.as_str(), job.kind.as_str()), ("nightly", "check"));
    assert_eq!(job.schedule.expression(), "30 2 * * *");
    assert_eq!(job.schedule.time_zone().name(), "Europe/Berlin");
    assert_eq!((job.jitter_ms, job.timeout_ms), (600_000, 7_200_000));
    assert_eq!((job.missed_runs, job.concurrency), (MissedRuns::Skip, Concurrency::Replace));
    assert_eq!((job.on_failure.retries, job.on_failure.backoff_ms), (3, 30_000));
    assert_eq!(job.parameters.text("source").unwrap(), "prod-a");
    assert_eq!(job.parameters.count("share").unwrap(), 7);
    assert_eq!(job.parameters.count("source").unwrap_err().kind(), ErrorKind::Internal);
    assert_eq!(job.parameters.duration_ms("none").unwrap_err().kind(), ErrorKind::Internal);
}

#[test]
fn what_a_file_does_not_say_has_a_default() {
    let job = parse_job("a.yaml", LEAST, &kinds()).unwrap();
    assert_eq!(job.schedule.time_zone().name(), "UTC");
    assert_eq!((job.jitter_ms, job.timeout_ms), (0, 6 * 3_600_000));
    assert_eq!((job.missed_runs, job.concurrency), (MissedRuns::RunOnce, Concurrency::Forbid));
    assert_eq!(job.on_failure.retries, 0);
    let nap = "name: n\nkind: nap\nschedule: '@daily'\nparameters: {for: 1m}";
    assert_eq!(parse_job("n.yaml", nap, &kinds()).unwrap().parameters.duration_ms("for").unwrap(), 60_000);
}

#[test]
fn a_wrong_value_is_refused_with_file_key_value_and_what_is_allowed() {
    for (key, line, value, allowed) in [
        ("name", "name: ../x", "\"../x\"", "a-z, 0-9 and -"),
        ("name", "name: 7", "7", "a-z, 0-9 and -"),
        ("name", "name: -a", "\"-a\"", "none of them - at an end"),
        ("kind", "kind: chekc", "\"chekc\"", "check, idle, nap"),
        ("kind", "kind: [check]", "check", "name of a kind"),
        ("schedule", "schedule: daily", "\"daily\"", "five are allowed"),
        ("schedule", "schedule: '0 25 * * *'", "\"25\"", "0-23"),
        ("schedule", "schedule: 5", "5", "cron expression"),
        ("time_zone", "time_zone: Europe/Berln", "Berln", "IANA"),
        ("time_zone", "time_zone: europe/berlin", "europe", "\"Europe/Berlin\" is"),
        ("jitter", "jitter: soon", "\"soon\"", "such as 10m"),
        ("jitter", "jitter: 2d", "\"2d\"", "0s to 1d"),
        ("jitter", "jitter: 10", "10", "such as 10m"),
        ("jitter", "jitter: 5s10m", "5s10m", "largest first"),
        ("missed_runs", "missed_runs: all", "\"all\"", "skip and run-once"),
        ("concurrency", "concurrency: 3", "3", "forbid, allow and replace"),
        ("timeout", "timeout: 0s", "\"0s\"", "1ms to 30d"),
        ("timeout", "timeout: 99999999999999999999y", "99999999999999999999y", "y, w, d"),
        ("on_failure", "on_failure: retry", "\"retry\"", "retries and backoff"),
        ("parameters", "parameters: [a]", "a", "mapping"),
    ] {
        let message = refusal(key, line);
        let named = format!("jobs/nightly.yaml: key {key:?}: ");
        assert!(message.starts_with(&named) && message.contains(value), "{line}: {message}");
        assert!(message.contains(allowed), "{line}: {message}");
    }
}

#[test]
fn a_wrong_value_further_in_is_refused_with_its_whole_key() {
    for (key, line, inner, allowed) in [
        ("on_failure", "on_failure: {retries: 11}", "on_failure.retries", "0 to 10"),
        ("on_failure", "on_failure: {retries: -1}", "on_failure.retries", "0 to 10"),
        ("on_failure", "on_failure: {backoff: 2h}", "on_failure.backoff", "1ms to 1h"),
        ("on_failure", "on_failure: {tries: 1}", "on_failure.tries", "backoff, retries"),
        ("parameters", "parameters: {source: a}", "parameters.level", "is missing"),
        ("parameters", "parameters: {level: L9}", "parameters.level", "L1, L2"),
        ("parameters", "parameters: {level: L1, share: 0}", "parameters.share", "above 0"),
        ("parameters", "parameters: {level: L1, share: 1.5}", "parameters.share", "whole number"),
        ("parameters", "parameters: {level: L1, source: ''}", "parameters.source", "not empty"),
        ("parameters", "parameters: {level: [L1]}", "parameters.level", "a text, a number"),
        ("parameters", "parameters: {lvl: L1}", "parameters.lvl", "source, level, share"),
    ] {
        let message = refusal(key, line);
        assert!(message.contains(&format!("key {inner:?}: ")), "{line}: {message}");
        assert!(message.contains(allowed), "{line}: {message}");
    }
    let none = refusal_of(&format!("{LEAST}parameters: {{a: 1}}"));
    assert!(none.contains("it has: none"), "{none}");
}

#[test]
fn unknown_and_missing_keys_are_refused() {
    let unknown = refusal_of(&format!("{LEAST}retries: 3\n"));
    assert!(unknown.contains("key \"retries\": is not a key; allowed are concurrency, jitter"), "{unknown}");
    let missing = refusal_of("name: a\nkind: idle\n");
    assert!(missing.contains("key \"schedule\": is missing: a cron expression"), "{missing}");
    for text in ["", "- a", "name: [", "name: a\nname: b\n", "a: 1\n---\nb: 2\n", "? [1]\n: 2"] {
        assert!(refusal_of(text).starts_with("jobs/nightly.yaml: "), "{text:?}");
    }
}

#[test]
fn a_directory_is_read_whole_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let read = || read_jobs(dir.path(), &kinds());
    assert!(read().unwrap_err().to_string().contains("holds no jobs"));
    write(dir.path(), "b.yaml", WHOLE);
    write(dir.path(), "a.yml", LEAST);
    write(dir.path(), "README.md", "not a job");
    write(dir.path(), ".hidden.yaml", "not: a job");
    fs::create_dir(dir.path().join("folder.yaml")).unwrap();
    let names: Vec<_> = read().unwrap().into_iter().map(|job| job.name).collect();
    assert_eq!(names, ["least", "nightly"]);

    write(dir.path(), "c.yaml", LEAST);
    let twice = read().unwrap_err().to_string();
    assert!(twice.contains("c.yaml") && twice.contains("taken by") && twice.contains("a.yml"), "{twice}");
    write(dir.path(), "c.yaml", &"#".repeat(70_000));
    assert!(read().unwrap_err().to_string().contains("larger than 64 KiB"));
    write(dir.path(), "c.yaml", "name: x");
    assert!(read().unwrap_err().to_string().contains("c.yaml"), "one wrong file refuses the directory");
    let nowhere = read_jobs(&dir.path().join("none"), &kinds()).unwrap_err();
    assert!(matches!(nowhere, JobError::Directory { .. }) && nowhere.to_string().contains("no directory"));
}

#[test]
fn any_bytes_are_refused_without_harm() {
    for text in [WHOLE, LEAST, "\u{0}", "a: &a [*a]", "{}", "schedule: *x", "name: \u{10ffff}"] {
        for end in 0..=text.len() {
            fuzz_job(&text.as_bytes()[..end]);
        }
    }
    fuzz_job(b"name: a\nkind: archive-verify\nschedule: '59 59 23 31 12 7'\ntime_zone: Pacific/Apia\n");
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned()
        + &(0..9).map(|i| format!("b{i}: &b{i} [*a,*a,*a,*a,*a,*a,*a,*a,*a]\n")).collect::<String>();
    fuzz_job(bomb.as_bytes());
}
