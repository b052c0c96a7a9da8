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
