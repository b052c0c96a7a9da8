use super::{job, ms, named_job};
use crate::jobs::{Turn, plan_turn};
use crate::runtime::random_from_seed;

const HOUR_MS: i64 = 3_600_000;
const SEED: u64 = 7;

fn plan(job: &crate::jobs::Job, settled_ms: i64, now_ms: i64) -> Turn {
    plan_turn(job, settled_ms, SEED, now_ms).unwrap()
}

#[test]
fn the_next_slot_after_what_is_settled_is_due() {
    let hourly = job("0 * * * *", "");
    let turn = plan(&hourly, ms("2024-01-01T10:00:00Z"), ms("2024-01-01T10:20:00Z"));
    assert_eq!((turn.slot_ms, turn.due_ms), (ms("2024-01-01T11:00:00Z"), ms("2024-01-01T11:00:00Z")));
    assert_eq!(turn.settles_ms, turn.slot_ms);
    let a_bit_late = plan(&hourly, ms("2024-01-01T10:00:00Z"), ms("2024-01-01T11:00:30Z"));
    assert_eq!(a_bit_late, turn, "a minute of delay is not a missed run");
}

#[test]
fn jitter_moves_a_slot_by_less_than_it_says_and_always_by_the_same() {
    let seed = random_from_seed(1).next_u64();
    let (a, b) = (named_job("a", "0 * * * *", "jitter: 10m"), named_job("b", "0 * * * *", "jitter: 10m"));
    let mut moved = std::collections::BTreeSet::new();
    for hour in 0..24 {
        let settled_ms = hour * HOUR_MS;
        let turn = plan_turn(&a, settled_ms, seed, settled_ms).unwrap();
        let by_ms = turn.due_ms - turn.slot_ms;
        assert!((0..600_000).contains(&by_ms) && by_ms % 1_000 == 0, "{by_ms}");
        assert_eq!(plan_turn(&a, settled_ms, seed, turn.slot_ms + 1), Some(turn), "planned again: the same");
        assert_ne!(plan_turn(&b, settled_ms, seed, settled_ms).unwrap().due_ms, turn.due_ms);
        moved.insert(by_ms);
    }
    assert!(moved.len() > 20, "each slot is moved by another amount: {moved:?}");
}

#[test]
fn missed_slots_are_left_out_or_made_up_for_with_one_run() {
    let (settled_ms, now_ms) = (ms("2024-01-01T10:00:00Z"), ms("2024-01-03T15:20:00Z"));
    let skip = plan(&job("0 * * * *", "missed_runs: skip"), settled_ms, now_ms);
    assert_eq!(skip.slot_ms, ms("2024-01-03T16:00:00Z"));
    assert!(skip.leaves_out);
    let once = job("0 * * * *", "missed_runs: run-once");
    let turn = plan(&once, settled_ms, now_ms);
    assert_eq!((turn.slot_ms, turn.due_ms), (ms("2024-01-01T11:00:00Z"), now_ms));
    let after = plan(&once, turn.settles_ms, now_ms);
    assert_eq!(after.slot_ms, ms("2024-01-03T16:00:00Z"), "one run settles all of them");
}

#[test]
fn a_skipping_job_still_runs_a_slot_that_jitter_has_moved_to_now() {
    let skip = job("0 * * * *", "missed_runs: skip\njitter: 50m");
    let settled_ms = ms("2024-01-01T10:00:00Z");
    let slot_ms = ms("2024-01-02T10:00:00Z");
    let turn = plan(&skip, slot_ms - 1, slot_ms);
    let downtime_ends_ms = turn.due_ms - 1;
    let planned = plan(&skip, settled_ms, downtime_ends_ms);
    assert_eq!((planned.slot_ms, planned.due_ms), (slot_ms, turn.due_ms));
}

#[test]
fn a_clock_set_back_by_an_hour_runs_no_slot_twice() {
    let hourly = job("0 * * * *", "");
    let slot_ms = ms("2024-01-01T11:00:00Z");
    for back_ms in [1, 50, 60_000, HOUR_MS, 2 * HOUR_MS] {
        let turn = plan(&hourly, slot_ms, slot_ms + 10 - back_ms);
        assert_eq!(turn.slot_ms, slot_ms + HOUR_MS, "set back by {back_ms} ms");
    }
}

#[test]
fn a_clock_that_was_far_ahead_does_not_silence_a_job() {
    let hourly = job("0 * * * *", "");
    let turn = plan(&hourly, ms("2094-01-01T00:00:00Z"), ms("2024-01-01T10:20:00Z"));
    assert_eq!(turn.slot_ms, ms("2024-01-01T11:00:00Z"));
}

#[test]
fn a_clock_set_forward_by_an_hour_is_like_an_hour_of_downtime() {
    let (settled_ms, now_ms) = (ms("2024-01-01T10:00:00Z"), ms("2024-01-01T11:30:00Z"));
    let daily = "30 10 * * *";
    assert_eq!(plan(&job(daily, ""), settled_ms, now_ms).due_ms, now_ms);
    let skipped = plan(&job(daily, "missed_runs: skip"), settled_ms, now_ms);
    assert_eq!(skipped.slot_ms, ms("2024-01-02T10:30:00Z"));
}

#[test]
fn times_at_the_ends_do_not_overflow() {
    for lines in ["missed_runs: skip\njitter: 1d", "missed_runs: run-once"] {
        let job = job("0 0 * * *", lines);
        for settled_ms in [i64::MIN, 0, i64::MAX] {
            for now_ms in [i64::MIN, 0, i64::MAX] {
                let _ = plan_turn(&job, settled_ms, SEED, now_ms);
            }
        }
    }
}
