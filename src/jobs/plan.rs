//! What is next for a job: a pure function of the job, its record and the wall clock.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::job::{Job, MissedRuns};

/// A turn that comes later than this has been missed: the process was down, or the clock was set forward.
pub(super) const LATE_MS: i64 = 60_000;

/// A clock set back by less than this waits until it has caught up, so that no slot runs twice. Beyond it the clock was
/// wrong before, and what is settled in the future no longer counts.
const SET_BACK_MS: i64 = 3 * 3_600_000;

/// A run to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// The time that the schedule names; of several missed ones the first.
    pub slot_ms: i64,
    /// When it runs: the slot moved by jitter, or at once.
    pub due_ms: i64,
    /// Up to where slots are settled once it is taken.
    pub settles_ms: i64,
    /// Whether slots before it were missed and are left out.
    pub leaves_out: bool,
}

/// Returns what is next for a job whose slots are settled up to `settled_ms`, or `None` where its schedule has ended.
/// `seed` decides the jitter: the same slot of the same job is always moved by the same.
#[must_use]
pub fn plan_turn(job: &Job, settled_ms: i64, seed: u64, now_ms: i64) -> Option<Turn> {
    let set_back = settled_ms > now_ms.saturating_add(SET_BACK_MS);
    let turn = slot_after(job, if set_back { now_ms } else { settled_ms }, seed)?;
    let missed = |turn: &Turn| turn.due_ms.saturating_add(LATE_MS) < now_ms;
    if !missed(&turn) {
        return Some(turn);
    }
    match job.missed_runs {
        MissedRuns::RunOnce => Some(Turn { due_ms: now_ms, settles_ms: now_ms, ..turn }),
        MissedRuns::Skip => {
            // Nothing that is due after now minus the grace has its slot before this.
            let mut after_ms = turn.slot_ms.max(now_ms - LATE_MS - job.jitter_ms - 1);
            loop {
                let next = slot_after(job, after_ms, seed)?;
                if !missed(&next) {
                    return Some(Turn { leaves_out: true, ..next });
                }
                after_ms = next.slot_ms;
            }
        }
    }
}

fn slot_after(job: &Job, after_ms: i64, seed: u64) -> Option<Turn> {
    let slot_ms = job.schedule.next_after(after_ms)?;
    let due_ms = slot_ms.saturating_add(jitter_ms(job, slot_ms, seed));
    Some(Turn { slot_ms, due_ms, settles_ms: slot_ms, leaves_out: false })
}

/// Returns by how much a slot is moved: from 0 up to the job's jitter, without it; by whole seconds where there are any.
fn jitter_ms(job: &Job, slot_ms: i64, seed: u64) -> i64 {
    let Some(most_ms) = u64::try_from(job.jitter_ms).ok().filter(|ms| *ms > 0) else { return 0 };
    let mut text = job.name.clone().into_bytes();
    text.extend_from_slice(&slot_ms.to_le_bytes());
    let by_ms = xxh3_64_with_seed(&text, seed) % most_ms;
    let by_ms = if most_ms > 1_000 { by_ms - by_ms % 1_000 } else { by_ms };
    i64::try_from(by_ms).unwrap_or(0)
}
