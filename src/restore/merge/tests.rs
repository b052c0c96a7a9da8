use super::*;
use rig::{Rig, floats, series};

use crate::archive::ServerFacts;
use crate::bucket::LogKind;
use crate::model::{HistogramSample, NativeHistogram, Sample, SeriesData};
use crate::restore::merge::holes::{fill, times_of};
use crate::restore::tests::rig;

fn samples(times: impl IntoIterator<Item = i64>) -> SeriesData {
    SeriesData::floats(times.into_iter().map(|ts_ms| Sample::new(ts_ms, ts_ms as f64)).collect())
}

/// Every third one is a histogram.
fn mixed(times: impl IntoIterator<Item = i64>) -> SeriesData {
    let (mut floats, mut histograms) = (Vec::new(), Vec::new());
    for (place, ts_ms) in times.into_iter().enumerate() {
        if place % 3 == 0 {
            let histogram = NativeHistogram::Int(Box::default());
            histograms.push(HistogramSample { ts_ms, start_ms: 0, histogram });
        } else {
            floats.push(Sample::new(ts_ms, 1.0));
        }
    }
    SeriesData { samples: floats, histograms }
}

#[test]
fn holes_between_before_and_after_are_filled() {
    let own: Vec<i64> = (100..110).chain(120..130).map(|i| i * 1_000).collect();
    // 300 ms after the last own sample is too near, 700 ms before the next one is not.
    let other = samples((90..140).map(|i| i * 1_000 + 300));
    let filled = times_of(&fill(&own, other));
    let expected: Vec<i64> = (90..100).chain(110..120).chain(130..140).map(|i| i * 1_000 + 300).collect();
    assert_eq!(filled, expected);
    assert!(filled.iter().all(|t| !own.contains(t)), "no time is doubled");
}

#[test]
fn histograms_count_as_samples_and_fill_like_them() {
    let all: Vec<i64> = (0..60).map(|i| i * 1_000).collect();
    let own = mixed(all.iter().copied().filter(|t| !(20_000..30_000).contains(t)));
    let filled = fill(&times_of(&own), mixed(all.iter().copied()));
    assert_eq!(times_of(&filled), all[20..30]);
    assert_eq!(filled.histograms.len(), 3);
}

#[test]
fn a_missed_scrape_is_no_hole_and_a_complete_series_gets_nothing() {
    let own: Vec<i64> = (0..50).filter(|i| i % 10 != 3).map(|i| i * 1_000).collect();
    let other = samples((0..50).map(|i| i * 1_000 + 500));
    assert!(fill(&own, other).is_empty());
}

#[test]
fn a_series_that_one_replica_never_saw_comes_whole() {
    let other = samples([5, 10, 15]);
    assert_eq!(times_of(&fill(&[], other)), [5, 10, 15]);
    assert!(fill(&[10, 20, 30, 40, 50], samples([])).is_empty());
}

#[test]
fn a_series_with_few_samples_takes_the_interval_of_the_other() {
    let other = samples((0..20).map(|i| i * 1_000));
    assert_eq!(
        times_of(&fill(&[10_000], other)),
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 18, 19].map(|i| i * 1_000)
    );
    assert!(fill(&[10_000], samples([1])).is_empty(), "without any interval nothing is known");
}

#[test]
fn the_union_of_disjoint_outages_is_whole() {
    let all: Vec<i64> = (0..1_000).map(|i| i * 15_000).collect();
    let own: Vec<i64> = all.iter().copied().filter(|t| !(3_000_000..6_000_000).contains(t)).collect();
    let other = samples(all.iter().map(|t| t + 7_000).filter(|t| !(9_000_000..12_000_000).contains(t)));
    let mut union = own.clone();
    union.extend(times_of(&fill(&own, other)));
    union.sort_unstable();
    let steps: Vec<i64> = union.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(steps.iter().all(|step| (7_500..=30_000).contains(step)), "{steps:?}");
}

fn view(source: &str, labels: &[(&str, &str)]) -> ArchiveView {
    let source = SourceName::new(source).unwrap();
    let mut view = ArchiveView::fold(source, Vec::new()).unwrap();
    let external_labels = labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    view.servers.push((0, ServerFacts { external_labels, ..ServerFacts::default() }));
    view
}

#[test]
fn only_replicas_of_one_server_are_merged() {
    let a = view("a", &[("cluster", "x"), ("replica", "0")]);
    let b = view("b", &[("cluster", "x"), ("replica", "1")]);
    assert!(check_tied(&a, &b, "replica", 5).is_ok());
    let refused = |other: &ArchiveView, label: &str| check_tied(&a, other, label, 5).unwrap_err().to_string();
    assert!(refused(&view("b", &[("cluster", "y"), ("replica", "1")]), "replica").contains("\"y\""));
    assert!(refused(&view("b", &[("cluster", "x"), ("replica", "0")]), "replica").contains("both have"));
    assert!(refused(&view("b", &[("cluster", "x")]), "replica").contains("--replica-label"));
    assert!(refused(&b, "prometheus_replica").contains("prometheus_replica"));
}

fn subject(target: &str, at_ms: i64) -> Subject {
    let name = |name| SourceName::new(name).unwrap();
    let target = format!("{target} {at_ms}");
    let (timeline, options) = (None, Vec::new());
    Subject { format: FORMAT, first: name("a"), other: name("b"), target, at_ms, timeline, options }
}

#[test]
fn a_replica_whose_archive_ended_earlier_still_fills() {
    let mut other = view("b", &[]);
    other.last_made.wall_ms = 100_000;
    let to = std::path::Path::new("x");
    let request = |target| RestoreRequest { timeline: Some(3), ..RestoreRequest::new(target, to) };
    let asked = other_request(&request(Target::AsOf(200_000)), &other);
    assert_eq!((asked.target, asked.timeline), (Target::AsOf(100_000), None));
    assert_eq!(other_request(&request(Target::AsOf(90_000)), &other).target, Target::AsOf(90_000));
    assert_eq!(other_request(&request(Target::Until(200_000)), &other).target, Target::Until(200_000));
    let first = view("a", &[]);
    assert!(warnings(&first, &other, 200_000).concat().contains("archive of b ends"));
    assert!(warnings(&first, &other, 110_000).is_empty(), "a quiet server says something every ten seconds");
}

#[test]
fn a_work_directory_of_something_else_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().join("x.merge");
    let (one, two) = (subject("as of", 1), subject("as of", 2));
    let open = |asked: &Subject, restart, moves| open_work(&work, asked.clone(), (restart, moves));
    open(&one, false, false).unwrap();
    open(&one, false, false).unwrap();
    assert!(matches!(open(&two, false, false), Err(RestoreError::OtherRestore { .. })));
    assert_eq!(open(&two, false, true).unwrap(), one, "a relative time goes on with what was begun");
    let until = subject("until", 1);
    assert!(matches!(open(&until, false, true), Err(RestoreError::OtherRestore { .. })));
    open(&two, true, false).unwrap();
    std::fs::write(work.join("subject.json"), r#"{"format":2}"#).unwrap();
    assert!(matches!(open(&two, false, false), Err(RestoreError::Unsupported(_))));
}

/// Two archives with labels of replicas, the second of which has a sample more.
async fn pair() -> (Rig, Rig) {
    let (mut first, mut other) = (Rig::new(), Rig::of("prom-b"));
    for (rig, replica) in [(&mut first, "0"), (&mut other, "1")] {
        let external_labels = [("replica".to_owned(), replica.to_owned())].into();
        rig.server = Some(ServerFacts { external_labels, ..ServerFacts::default() });
        rig.base().await;
        rig.log(LogKind::Wal, &[series(&[(1, "a")]), floats(&[(1, 1_000_100, 1.0)])]).await;
    }
    other.log(LogKind::Wal, &[series(&[(2, "b")]), floats(&[(2, 1_000_200, 1.0)])]).await;
    first.log(LogKind::Wal, &[floats(&[(1, 1_001_100, 1.0)])]).await;
    (first, other)
}

async fn merge(first: &Rig, other: &Rig, request: &RestoreRequest) -> Result<MergeReport, RestoreError> {
    let (ours, theirs) = ((first.context(), first.view().await), (other.context(), other.view().await));
    let merge = MergeRequest { request: request.clone(), replica_label: "replica".to_owned() };
    let first = Replica { context: &ours.0, view: &ours.1 };
    merge_replicas(first, Replica { context: &theirs.0, view: &theirs.1 }, merge).await
}

#[tokio::test]
async fn a_merge_that_goes_on_or_was_complete_knows_what_is_missing() {
    let (first, other) = pair().await;
    // The other archive has no such timeline: its numbers are its own.
    let request =
        RestoreRequest { timeline: Some(1), ..RestoreRequest::new(Target::AsOf(first.now_ms), first.to()) };
    let whole = merge(&first, &other, &request).await.unwrap();
    assert_eq!((whole.filled_samples, whole.missing.len()), (1, 0));
    assert_eq!(rig::all_samples(&first.to(), i64::MIN).len(), 3);
    std::fs::remove_dir_all(first.to()).unwrap();

    // Killed after the first half, which lacks something.
    let work = first.dir.path().join("restored.merge");
    std::fs::create_dir(&work).unwrap();
    let half = RestoreRequest { to: work.join("first"), head: HeadMode::Blocks, ..request.clone() };
    let mut report = first.run(&half).await.unwrap();
    report.missing.push("something".to_owned());
    keep_report(&work.join("first.json"), report).unwrap();
    let merged = merge(&first, &other, &request).await.unwrap();
    assert_eq!(merged.missing, ["something"]);

    // Killed after the rename.
    std::fs::create_dir(&work).unwrap();
    let (ours, theirs) = ((first.context(), first.view().await), (other.context(), other.view().await));
    let ends = [(&ours.0, &ours.1), (&theirs.0, &theirs.1)].map(|(context, view)| Replica { context, view });
    let subject = Subject::of(&ends[0], &ends[1], &request, first.now_ms);
    Finished::note(&work, &first.to(), subject, merged).unwrap();
    let again = merge(&first, &other, &request).await.unwrap();
    assert!(again.was_complete && !work.exists());
    assert_eq!(again.missing, ["something"]);
    let error = merge(&first, &other, &request).await.unwrap_err();
    assert!(matches!(error, RestoreError::Target { .. }), "{error}");
}
