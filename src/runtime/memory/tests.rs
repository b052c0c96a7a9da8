use super::*;

fn memory(limit_bytes: u64) -> Memory {
    Memory::new(limit_bytes, &Metrics::new())
}

#[test]
fn reservations_and_heads_share_one_budget_and_give_it_back() {
    let memory = memory(1_000);
    let first = memory.reserve(MemoryUse::Requests, 500).unwrap();
    memory.set_heads(200);
    let error = memory.reserve(MemoryUse::Queries, 200).unwrap_err();
    assert!(error.to_string().contains("--memory-limit"), "{error}");
    let second = memory.reserve(MemoryUse::Queries, 100).unwrap();
    drop(first);
    drop(memory.reserve(MemoryUse::Queries, 500).unwrap());
    drop(second);
    memory.set_heads(0);
    assert!(memory.reserve(MemoryUse::Requests, 950).is_ok());
}

#[test]
fn a_reservation_grows_within_the_budget_and_shrinks() {
    let memory = memory(1_000);
    let mut held = memory.reserve(MemoryUse::Requests, 100).unwrap();
    held.resize(900).unwrap();
    held.resize(960).unwrap_err();
    assert!(
        memory.reserve(MemoryUse::Queries, 60).is_err(),
        "what was refused took nothing and gave nothing back"
    );
    held.resize(300).unwrap();
    drop(memory.reserve(MemoryUse::Queries, 650).unwrap());
    drop(held);
    assert!(memory.reserve(MemoryUse::Queries, 950).is_ok());
}

#[test]
fn heads_are_cut_at_half_the_budget_or_when_all_is_nearly_used() {
    let memory = memory(1_000);
    memory.set_heads(500);
    assert!(!memory.wants_a_cut());
    memory.set_heads(501);
    assert!(memory.wants_a_cut());
    memory.set_heads(120);
    let rest = memory.reserve(MemoryUse::Queries, 740).unwrap();
    assert!(memory.wants_a_cut());
    memory.set_heads(90);
    assert!(!memory.wants_a_cut(), "a cut would free too little");
    drop(rest);
}

#[test]
fn heads_leave_room_for_the_blocks_that_they_become() {
    let memory = memory(1_000);
    memory.set_heads(500);
    assert!(memory.reserve(MemoryUse::Requests, 210).is_err());
    assert!(memory.reserve(MemoryUse::Requests, 190).is_ok());
    memory.0.resident.store(650, Ordering::Relaxed);
    memory.set_heads(420);
    assert!(memory.wants_a_cut(), "before nothing is taken any more");
    assert!(memory.reserve(MemoryUse::Requests, 50).is_ok());
}

#[test]
fn what_is_resident_counts_only_while_much_of_it_is_accounted_for() {
    let memory = memory(1_000);
    memory.0.resident.store(960, Ordering::Relaxed);
    memory.set_heads(200);
    assert!(memory.reserve(MemoryUse::Requests, 10).is_ok(), "the allocator reuses what was freed");
    memory.set_heads(300);
    assert!(memory.reserve(MemoryUse::Requests, 10).is_err());
}

#[test]
fn requests_that_are_not_resident_yet_leave_that_much_less_for_others() {
    let memory = memory(1_000);
    memory.set_heads(300);
    memory.0.resident.store(700, Ordering::Relaxed);
    let held = [(); 2].map(|()| memory.reserve(MemoryUse::Requests, 50).unwrap());
    assert!(memory.reserve(MemoryUse::Requests, 50).is_err());
    drop(held);
    assert!(memory.reserve(MemoryUse::Requests, 50).is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_is_resident_is_read_again_where_little_is_left_and_the_last_look_is_old() {
    let memory = memory(1_000);
    let shutdown = Shutdown::new();
    let watching = tokio::spawn(memory.clone().watch(shutdown.clone()));
    tokio::time::sleep(LOOK_INTERVAL / 2).await;
    // This process has more than the budget: any look says so.
    memory.set_heads(300);
    memory.0.resident.store(601, Ordering::Relaxed);
    assert!(memory.reserve(MemoryUse::Requests, 10).is_err());
    assert!(memory.0.resident.load(Ordering::Relaxed) > 1_000);
    shutdown.start();
    watching.await.unwrap();
}

#[test]
fn without_a_limit_nothing_is_refused_and_nothing_is_cut() {
    let memory = Memory::unlimited();
    memory.set_heads(u64::MAX / 2);
    assert!(memory.reserve(MemoryUse::Requests, u64::MAX / 4).is_ok());
    assert!(!memory.wants_a_cut());
    assert_eq!(memory.at_most(7, 10), 7);
}

#[test]
fn the_limit_of_a_cgroup_is_the_least_on_the_way_to_its_root() {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("fs/a/b/memory.max", "max\n");
    write("fs/a/memory.max", "4096\n");
    write("fs/memory.max", "8192\n");
    write("fs/memory/x/memory.limit_in_bytes", "9223372036854771712\n");
    write("own", "0::/a/b\n5:cpu,memory:/x\n");
    let mut limits = cgroup_limits(&folder.path().join("fs"), &folder.path().join("own"));
    limits.sort_unstable();
    assert_eq!(limits, [4096, 8192]);
    assert!(cgroup_limits(folder.path(), &folder.path().join("missing")).is_empty());
}

#[test]
fn this_machine_has_memory() {
    assert!(default_memory_limit() > 0);
    assert!(resident_bytes().unwrap() > 0);
}
