//! What to look out for after a restore.

use super::context::RestoreContext;
use super::inventory::Inventory;
use super::request::{RestoreRequest, ServerVersion};
use crate::archive::{ArchiveView, ServerFacts, Target};
use crate::model::{format_duration_ms, parse_duration_ms};

/// What a server keeps unless told otherwise.
const RETENTION_DEFAULT_MS: i64 = 15 * 86_400_000;

const DAY_MS: i64 = 86_400_000;

pub(super) fn warnings(
    context: &RestoreContext,
    view: &ArchiveView,
    request: &RestoreRequest,
    inventory: &Inventory,
) -> Vec<String> {
    let facts = view.server_at(inventory.resolved.written_ms);
    let mut warnings = Vec::new();
    warnings.extend(retention_warning(context.clock.now_ms(), facts, inventory));
    warnings.extend(version_warning(facts, request));
    warnings.extend(clock_warning(view, inventory));
    warnings
}

/// A time was twice where the clock was set back.
fn clock_warning(view: &ArchiveView, inventory: &Inventory) -> Option<String> {
    let Target::AsOf(as_of_ms) = inventory.resolved.target else { return None };
    let taken = inventory.resolved.position.timeline;
    let other = view.also_on(as_of_ms, taken)?;
    Some(format!(
        "the clock was set back, and this time was twice: this is the one on timeline {taken}; for the other give \
         --timeline {other}"
    ))
}

/// Blocks beyond the retention go as soon as a newer block exists.
fn retention_warning(now_ms: i64, facts: Option<&ServerFacts>, inventory: &Inventory) -> Option<String> {
    let flag = |name: &str| facts.and_then(|facts| facts.flags.get(name)).map(String::as_str);
    let set = ["storage.tsdb.retention.time", "storage.tsdb.retention"];
    let set = set.iter().filter_map(|name| parse_duration_ms(flag(name)?).ok()).find(|ms| *ms > 0);
    let by_size = flag("storage.tsdb.retention.size")
        .is_some_and(|size| size.starts_with(|c| ('1'..='9').contains(&c)));
    if set.is_none() && by_size {
        return None;
    }
    let retention_ms = set.unwrap_or(RETENTION_DEFAULT_MS);
    let horizon_ms = now_ms.saturating_sub(retention_ms);
    let doomed = inventory.blocks.iter().filter(|block| block.block.max_time_ms <= horizon_ms);
    let oldest_ms = doomed.clone().map(|block| block.block.min_time_ms).min()?;
    let needed_days = now_ms.saturating_sub(oldest_ms) / DAY_MS + 2;
    Some(format!(
        "retention.time={} would delete {} of the restored blocks after the first compaction: start Prometheus with \
         --storage.tsdb.retention.time={needed_days}d or more",
        format_duration_ms(retention_ms),
        doomed.count(),
    ))
}

fn version_warning(facts: Option<&ServerFacts>, request: &RestoreRequest) -> Option<String> {
    let written: ServerVersion = facts?.version.as_deref()?.parse().ok()?;
    match request.for_version {
        Some(wanted) if wanted < written => Some(format!(
            "version {written} wrote this and {wanted} is to read it: start timestamps are left out, and what has no older \
             form is refused"
        )),
        None => Some(format!(
            "version {written} wrote this: start that version or a later one, or give --for-version"
        ))
        .filter(|_| written >= ServerVersion::new(3, 2)),
        Some(_) => None,
    }
}
