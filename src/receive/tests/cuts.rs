//! What cuts, their retries and their commits owe each other.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_epoch_of_which_a_part_waits_for_the_next_cut_is_not_forgotten() {
    let mut rig = Rig::keeping_heads();
    let node = rig.start().await;
    rig.set_bucket_away(true);
    let many: Vec<_> = (0..200)
        .map(|i| (series(&[("__name__", &format!("m{i}"))]), vec![Sample::new(rig::NOW_MS, 1.0)]))
        .collect();
    assert_eq!(node.write(Protocol::V1, &many).await.status, 204);
    let bytes_of_many = node.head_bytes();
    assert!(node.flush().await.is_err());
    assert_eq!(node.write_one("last", rig::NOW_MS).await, 204);
    let bytes_of_one = node.head_bytes();
    node.crash().await;
    // The first segment is cut on its way back, the second stays in a head.
    rig.set_head_bytes_max(usize::midpoint(bytes_of_one, bytes_of_many));
    let node = rig.start().await;
    assert!(node.waiting().0 > 0 && node.head_bytes() > 0);
    rig.set_bucket_away(false);
    assert!(node.all_committed().await, "the first part is committed by a retry");
    let covered = async || rig.newest().await.version().covered.keys().copied().collect::<Vec<_>>();
    let epoch = covered().await;
    assert_eq!(node.flush().await.unwrap().samples, 1);
    assert_eq!(covered().await, epoch, "the second part is of the same epoch");
    assert_eq!(node.write_one("last", rig::NOW_MS + 1).await, 204);
    node.flush().await.unwrap();
    let now = covered().await;
    assert!(now.len() == 1 && now != epoch, "{epoch:?} is forgotten once all of it is released: {now:?}");
    assert_eq!(node.read_all().await.len(), 201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_without_blocks_whose_reply_was_lost_does_not_stop_the_next() {
    let rig = Rig::new();
    let node = rig.start().await;
    let metadata = Metadata { kind: MetricType::Counter, help: "Calls.".to_owned(), unit: String::new() };
    let said = [FullSeries { metadata: Some(metadata), ..full("calls_total") }];
    node.write_full(Protocol::V1, &said).await;
    assert_eq!(node.flush().await.unwrap().blocks, 1);
    node.write_full(Protocol::V1, &said).await;
    rig.lose_reply_of_next_commit();
    assert!(node.flush().await.is_err());
    rig.set_bucket_away(false);
    assert_eq!(rig.newest().await.version().version, 2, "it has landed");
    assert_eq!(node.flush().await.unwrap().blocks, 0);
    assert_eq!(node.write_one("up", rig::NOW_MS).await, 204);
    assert_eq!(node.flush().await.unwrap().samples, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_epoch_that_the_catalog_forgot_is_covered_anew() {
    let rig = Rig::new();
    let node = rig.start().await;
    assert_eq!(node.write_one("up", rig::NOW_MS).await, 204);
    node.flush().await.unwrap();
    let catalog = rig.catalog();
    let mut change = catalog.new_change();
    change.forget_epochs = rig.newest().await.version().covered.keys().copied().collect();
    catalog.commit(&change).await.unwrap();
    assert_eq!(node.write_one("up", rig::NOW_MS + 1).await, 204);
    assert_eq!(node.flush().await.unwrap().samples, 1);
    assert_eq!(node.read_all().await[0].1.len(), 2);
    assert_eq!(node.covered_epochs(), 1);
}
