use super::*;

fn memory(limit_bytes: u64) -> Memory {
    Memory::new(limit_bytes, &Metrics::new())
}

fn set_heads(memory: &Memory, bytes: u64) {
    memory.0.heads.store(bytes, Ordering::Relaxed);
}

#[test]
fn reservations_and_heads_share_one_budget_and_give_it_back() {
    let memory = memory(1_000);
    let first = memory.reserve(MemoryUse::Requests, 500).unwrap();
    set_heads(&memory, 200);
    let error = memory.reserve(MemoryUse::Queries, 200).unwrap_err();
    assert!(error.to_string().contains("--memory-limit"), "{error}");
    let second = memory.reserve(MemoryUse::Queries, 100).unwrap();
    drop(first);
    drop(memory.reserve(MemoryUse::Queries, 500).unwrap());
    drop(second);
    set_heads(&memory, 0);
    assert!(memory.reserve(MemoryUse::Queries, 950).is_ok());
}

#[test]
fn a_reservation_grows_within_the_budget_and_shrinks() {
    let memory = memory(1_000);
    let mut held = memory.reserve(MemoryUse::Queries, 100).unwrap();
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
fn writes_leave_some_of_the_budget_to_queries() {
    let memory = memory(1_000);
    assert!(memory.reserve(MemoryUse::Requests, 851).is_err());
    let written = memory.reserve(MemoryUse::Requests, 850).unwrap();
    assert!(memory.reserve(MemoryUse::Queries, 101).is_err());
    assert!(memory.reserve(MemoryUse::Queries, 100).is_ok());
    drop(written);
}

#[tokio::test(start_paused = true)]
async fn relief_is_waited_for_where_memory_is_short_but_not_for_long() {
    let memory = memory(1_000);
    let relief = async || {
        let started = Instant::now();
        (memory.relief().await, started.elapsed())
    };
    let held = memory.reserve(MemoryUse::Queries, 750).unwrap();
    assert_eq!(relief().await, (false, Duration::ZERO), "it is not short: to wait would not help");
    drop(held);
    let held = memory.reserve(MemoryUse::Queries, 751).unwrap();
    assert_eq!(relief().await, (false, RELIEF_WAIT_MAX));
    let give_back = async {
        tokio::time::sleep(LOOK_INTERVAL * 5).await;
        drop(held);
    };
    let ((came, waited), ()) = tokio::join!(relief(), give_back);
    assert!(came && (LOOK_INTERVAL * 5..LOOK_INTERVAL * 7).contains(&waited), "{waited:?}");
}

#[test]
fn heads_are_cut_at_half_the_budget_or_when_much_is_used() {
    let memory = memory(1_000);
    set_heads(&memory, 500);
    assert!(!memory.0.wants_a_cut());
    set_heads(&memory, 501);
    assert!(memory.0.wants_a_cut());
    set_heads(&memory, 120);
    let rest = memory.reserve(MemoryUse::Queries, 640).unwrap();
    assert!(memory.0.wants_a_cut());
    set_heads(&memory, 90);
    assert!(!memory.0.wants_a_cut(), "a cut would free too little");
    drop(rest);
}

#[test]
fn heads_leave_room_for_the_blocks_that_they_become() {
    let memory = memory(1_000);
    set_heads(&memory, 500);
    assert!(memory.reserve(MemoryUse::Requests, 110).is_err());
    assert!(memory.reserve(MemoryUse::Requests, 90).is_ok());
    memory.0.resident.store(550, Ordering::Relaxed);
    set_heads(&memory, 420);
    assert!(memory.0.wants_a_cut(), "before nothing is taken any more");
    assert!(memory.reserve(MemoryUse::Requests, 50).is_ok());
}

#[test]
fn what_is_resident_counts_only_while_much_of_it_is_accounted_for() {
    let memory = memory(1_000);
    memory.0.resident.store(960, Ordering::Relaxed);
    set_heads(&memory, 200);
    assert!(memory.reserve(MemoryUse::Requests, 10).is_ok(), "the allocator reuses what was freed");
    assert!(!memory.0.is_short());
    set_heads(&memory, 300);
    assert!(memory.reserve(MemoryUse::Requests, 10).is_err());
    assert!(memory.0.is_short());
}

#[test]
fn requests_that_are_not_resident_yet_leave_that_much_less_for_others() {
    let memory = memory(1_000);
    set_heads(&memory, 300);
    memory.0.resident.store(600, Ordering::Relaxed);
    let held = [(); 2].map(|()| memory.reserve(MemoryUse::Requests, 50).unwrap());
    assert!(memory.reserve(MemoryUse::Requests, 50).is_err());
    drop(held);
    assert!(memory.reserve(MemoryUse::Requests, 50).is_ok());
}

#[derive(Debug)]
struct Holder(AtomicU64);

impl HoldsMemory for Holder {
    fn held_bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_held_and_resident_is_looked_at_again_before_more_is_taken_by_an_old_look() {
    // So much that what is resident here is far from it.
    let (memory, shutdown) = (memory(1 << 40), Shutdown::new());
    let heads = Arc::new(Holder(AtomicU64::new(1 << 30)));
    memory.count_heads(Arc::<Holder>::clone(&heads));
    memory.0.look(&mut memory.0.looked());
    let take = || memory.reserve(MemoryUse::Requests, 10).is_ok();
    heads.0.store(1 << 40, Ordering::Relaxed);
    assert!(take(), "by a look that is not old");
    tokio::time::advance(LOOK_INTERVAL).await;
    assert!(!take());
    assert!(memory.0.resident.load(Ordering::Relaxed) > 0);
    heads.0.store(0, Ordering::Relaxed);
    assert!(!take(), "by a look that is not old");
    tokio::time::advance(NEAR_LOOK_AGE_MAX).await;
    assert!(take(), "near the limit looks are old sooner");
    let watching = tokio::spawn(memory.clone().watch(shutdown.clone()));
    heads.0.store(1 << 39, Ordering::Relaxed);
    tokio::time::sleep(LOOK_INTERVAL * 2).await;
    assert_eq!(memory.head_bytes(), 1 << 39);
    shutdown.start();
    watching.await.unwrap();
}

#[test]
fn without_a_limit_nothing_is_refused_and_nothing_is_cut() {
    let memory = Memory::unlimited();
    set_heads(&memory, u64::MAX / 2);
    assert!(memory.reserve(MemoryUse::Requests, u64::MAX / 4).is_ok());
    assert!(!memory.0.wants_a_cut());
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
