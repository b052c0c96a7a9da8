//! Cuts of every kind of data.

use super::*;
use crate::model::BlockKind;

/// Returns the kinds of the tenant's live blocks and their samples, sorted.
async fn live(rig: &Rig) -> Vec<(BlockKind, u64)> {
    let blocks = rig.newest().await.blocks().await.unwrap();
    let mut kinds: Vec<_> = blocks.iter().map(|block| (block.kind.clone(), block.samples)).collect();
    kinds.sort();
    kinds
}

fn said(help: &str) -> Metadata {
    Metadata { kind: MetricType::Histogram, help: help.to_owned(), unit: "seconds".to_owned() }
}

fn every_kind() -> FullSeries {
    let trace = series(&[("trace_id", "t")]);
    FullSeries {
        samples: vec![Sample::new(rig::NOW_MS, 1.0)],
        histograms: vec![histogram(rig::NOW_MS + 1, 2), histogram(rig::NOW_MS + 2, 2)],
        exemplars: vec![Exemplar { labels: trace, value: 0.5, ts_ms: rig::NOW_MS }],
        metadata: Some(said("Latency.")),
        ..full("rpc_seconds")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_commits_a_block_of_each_kind_in_one_version() {
    let rig = Rig::new();
    let node = rig.start().await;
    node.write_full(Protocol::V2, &[every_kind()]).await;
    let held = node.held();
    let report = node.flush().await.unwrap();
    assert_eq!((report.blocks, report.samples), (4, 3), "exemplars and metadata are no samples");
    assert_eq!(rig.newest().await.version().version, 1);
    let kinds = [
        (BlockKind::Samples, 1),
        (BlockKind::Histograms, 2),
        (BlockKind::Exemplars, 1),
        (BlockKind::Metadata, 1),
    ];
    assert_eq!(live(&rig).await, kinds);
    assert_eq!(node.held(), Held::default());
    assert_eq!(node.readable().await, held);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kind_that_did_not_come_makes_no_block() {
    let every = every_kind();
    let alone = |part: fn(&mut FullSeries, &FullSeries)| {
        let mut one = full("rpc_seconds");
        part(&mut one, &every);
        one
    };
    let cases = [
        (alone(|one, all| one.histograms.clone_from(&all.histograms)), (BlockKind::Histograms, 2)),
        (alone(|one, all| one.exemplars.clone_from(&all.exemplars)), (BlockKind::Exemplars, 1)),
        (alone(|one, all| one.metadata.clone_from(&all.metadata)), (BlockKind::Metadata, 1)),
    ];
    for (one, block) in cases {
        let rig = Rig::new();
        let node = rig.start().await;
        let answer = node.write_full(Protocol::V1, &[one]).await;
        assert_eq!(answer.status, 204, "{}", answer.text);
        let held = node.held();
        node.flush().await.unwrap();
        assert_eq!(live(&rig).await, [block]);
        assert_eq!(node.readable().await, held);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_series_with_exemplars_only_has_its_labels_in_columns() {
    let rig = Rig::new();
    let node = rig.start().await;
    let mut one = every_kind();
    one.samples.clear();
    one.histograms.clear();
    node.write_full(Protocol::V2, &[one]).await;
    node.flush().await.unwrap();
    assert_eq!(rig.newest().await.version().label_columns, ["__name__", "job"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_is_written_again_only_where_a_cut_says_something_else() {
    let rig = Rig::new();
    let node = rig.start().await;
    let mut entries = Vec::new();
    for help in ["old", "old", "new", "new", "old"] {
        rig.advance_ms(1_000);
        let one = FullSeries { metadata: Some(said(help)), ..every_kind() };
        node.write_full(Protocol::V2, &[one]).await;
        node.flush().await.unwrap();
        entries.push(live(&rig).await.into_iter().filter(|(kind, _)| *kind == BlockKind::Metadata).count());
    }
    assert_eq!(entries, [1, 1, 2, 2, 3]);
    let history = node.metadata().await;
    let helps: Vec<&str> = history.iter().map(|entry| entry.metadata.help.as_str()).collect();
    assert_eq!(helps, ["old", "new", "old"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_that_changed_back_within_a_cut_is_right_again_after_the_next() {
    let rig = Rig::new();
    let node = rig.start().await;
    let write = async |help| {
        rig.advance_ms(1_000);
        let one = FullSeries { metadata: Some(said(help)), ..every_kind() };
        node.write_full(Protocol::V2, &[one]).await;
    };
    for help in ["old", "new", "old"] {
        write(help).await;
    }
    node.flush().await.unwrap();
    write("old").await;
    node.flush().await.unwrap();
    assert_eq!(node.metadata().await.last().unwrap().metadata.help, "old");
    // Two sources that contradict each other go on to say the same two things.
    let blocks =
        async || live(&rig).await.into_iter().filter(|(kind, _)| *kind == BlockKind::Metadata).count();
    let mut counts = Vec::new();
    for _ in 0..3 {
        write("one").await;
        write("other").await;
        node.flush().await.unwrap();
        counts.push(blocks().await);
    }
    assert_eq!(counts, [3, 3, 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_of_a_cut_that_was_not_committed_is_written_by_the_next() {
    let rig = Rig::new();
    let node = rig.start().await;
    rig.set_bucket_away(true);
    node.write_full(Protocol::V2, &[every_kind()]).await;
    node.flush().await.unwrap_err();
    let waiting = node.readable().await;
    assert_eq!(waiting.metadata.len(), 1, "files serve every kind while the bucket is away");
    assert_eq!(waiting.exemplars.len(), 1);
    assert_eq!(waiting.series[&every_kind().labels].histograms.len(), 2);
    node.crash().await;
    rig.set_bucket_away(false);
    let node = rig.start().await;
    node.flush().await.unwrap();
    assert_eq!(node.readable().await, waiting);
    assert_eq!(live(&rig).await.len(), 4);
}

#[derive(Debug, Clone)]
enum CutStep {
    Write(Protocol, Vec<FullSeries>),
    Flush,
    Crash,
}

fn any_cut_step() -> impl Strategy<Value = CutStep> {
    let protocol = prop_oneof![Just(Protocol::V1), Just(Protocol::V2)];
    let written = prop::collection::vec(any_full(), 1..6);
    prop_oneof![
        4 => (protocol, written).prop_map(|(protocol, written)| CutStep::Write(protocol, written)),
        2 => Just(CutStep::Flush),
        1 => Just(CutStep::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn every_kind_over_requests_cuts_and_crashes_is_read_back_as_it_came(
        steps in prop::collection::vec(any_cut_step(), 1..8),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let rig = Rig::new();
            let (mut node, mut held) = (rig.start().await, Held::default());
            for step in steps {
                match step {
                    CutStep::Write(protocol, written) => {
                        node.write_full(protocol, &written).await;
                        expect(&mut held, protocol, &written);
                    }
                    CutStep::Flush => drop(node.flush().await.unwrap()),
                    CutStep::Crash => {
                        node.crash().await;
                        node = rig.start().await;
                    }
                }
                assert_eq!(node.readable().await, held);
            }
        });
    }
}
