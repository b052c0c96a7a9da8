//! One budget for the memory of a process.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::Instant;

use super::{Metrics, Shutdown};

#[cfg(test)]
mod tests;

/// The share of the machine's or the cgroup's memory that is the budget where no flag says otherwise.
const DEFAULT_PERCENT: u64 = 75;

/// Above this share of the budget no more is written: senders try again.
const WRITES_FULL_PERCENT: u64 = 85;

/// Above this share of the budget nothing more is read: queries are not tried again, so writes leave them some.
const QUERIES_FULL_PERCENT: u64 = 95;

/// Heads above this share are cut.
const HEADS_PERCENT: u64 = 50;

/// Above this share of the budget, all counted, heads are cut where that can help.
const PRESSURE_PERCENT: u64 = 75;

/// Heads below this share free too little to be cut for it.
const HEADS_WORTH_PERCENT: u64 = 10;

/// A block takes about this share of its head while it is built; so much is kept free for it.
const BUILDING_PERCENT: u64 = 50;

/// What is resident counts as full only while this share is accounted for: the rest is the allocator's to reuse.
const ACCOUNTED_PERCENT: u64 = 25;

/// How often what is held and what is resident is looked at; no more is taken by an older look, which on a busy machine
/// may come late.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Above this share of the budget no more is taken by a look that is older than this.
const NEAR_PERCENT: u64 = 60;
const NEAR_LOOK_AGE_MAX: Duration = Duration::from_millis(10);

/// How long a query waits for others, and for a cut, to give memory back.
const RELIEF_WAIT_MAX: Duration = Duration::from_secs(30);

/// What memory is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryUse {
    /// Requests that are written.
    Requests,
    /// Queries and their answers.
    Queries,
}

/// What holds memory without reserving it.
pub trait HoldsMemory: std::fmt::Debug + Send + Sync {
    /// Returns about how many bytes it holds.
    fn held_bytes(&self) -> u64;
}

/// No memory is left within the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the memory budget of {limit_bytes} bytes (--memory-limit) is used up: it is made room now, try again later"
)]
pub struct MemoryFull {
    /// The budget.
    pub limit_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UseLabel {
    r#use: &'static str,
}

#[derive(Debug, Default)]
struct Account {
    /// 0 for no limit.
    limit_bytes: u64,
    holder: OnceLock<Arc<dyn HoldsMemory>>,
    /// What the heads held at the last look.
    heads: AtomicU64,
    requests: AtomicU64,
    queries: AtomicU64,
    /// What was resident at the last look.
    resident: AtomicU64,
    /// When the last look was; held from the look at what is left until it is taken.
    looked: Mutex<Option<Instant>>,
    used: Family<UseLabel, Gauge>,
    refused: Family<UseLabel, Counter>,
}

/// Counts what heads, requests and queries hold against one budget; clones share it.
///
/// Heads are asked, requests and queries reserve. What nobody counts (code, caches of the allocator, a block that is
/// being built) is in the resident memory of the process, which [`Memory::watch`] reads.
#[derive(Debug, Clone)]
pub struct Memory(Arc<Account>);

impl Memory {
    /// Returns a budget of so many bytes; 0 for none.
    #[must_use]
    pub fn new(limit_bytes: u64, metrics: &Metrics) -> Self {
        let limit: Gauge =
            metrics.register("memory_limit_bytes", "The memory budget; 0 for none", Gauge::default());
        limit.set(i64::try_from(limit_bytes).unwrap_or(i64::MAX));
        let used = metrics.register(
            "memory_used_bytes",
            "Memory that counts against the budget, and what is resident",
            Family::default(),
        );
        let refused = metrics.register(
            "memory_refused",
            "Requests and queries refused because the budget was used up",
            Family::default(),
        );
        Self(Arc::new(Account { limit_bytes, used, refused, ..Account::default() }))
    }

    /// Returns a budget without a limit.
    #[must_use]
    pub fn unlimited() -> Self {
        Self(Arc::default())
    }

    /// Returns the budget; 0 for none.
    #[must_use]
    pub fn limit_bytes(&self) -> u64 {
        self.0.limit_bytes
    }

    /// Returns `bytes`, or this share of the budget where that is less.
    #[must_use]
    pub fn at_most(&self, bytes: u64, percent: u64) -> u64 {
        if self.0.limit_bytes == 0 { bytes } else { bytes.min(self.0.share(percent)) }
    }

    /// Counts what the heads hold from now on. Once.
    pub fn count_heads(&self, heads: Arc<dyn HoldsMemory>) {
        // A second holder would be a second set of heads, which a process does not have.
        let _ = self.0.holder.set(heads);
    }

    /// Returns what the heads held at the last look.
    #[must_use]
    pub fn head_bytes(&self) -> u64 {
        self.0.heads.load(Ordering::Relaxed)
    }

    /// Takes bytes until the reservation is dropped.
    ///
    /// # Errors
    /// [`MemoryFull`] where they are not left.
    pub fn reserve(&self, purpose: MemoryUse, bytes: u64) -> Result<MemoryReservation, MemoryFull> {
        let account = &self.0;
        account.take(purpose, bytes)?;
        Ok(MemoryReservation { account: Arc::clone(account), purpose, bytes })
    }

    /// Waits, where memory is short, until it is no longer: others give theirs back, a cut frees heads. Returns whether
    /// that came within 30 s; whoever was refused otherwise has asked for too much.
    pub async fn relief(&self) -> bool {
        let (was_short, give_up_at) = (self.0.is_short(), Instant::now() + RELIEF_WAIT_MAX);
        while self.0.is_short() && Instant::now() < give_up_at {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        was_short && !self.0.is_short()
    }

    /// Looks whether heads should be cut now.
    #[must_use]
    pub fn wants_a_cut(&self) -> bool {
        self.0.look(&mut self.0.looked());
        self.0.wants_a_cut()
    }

    /// Looks again and again until shutdown.
    pub async fn watch(self, shutdown: Shutdown) {
        loop {
            let account = &self.0;
            account.look(&mut account.looked());
            let counted = [
                ("heads", &account.heads),
                ("requests", &account.requests),
                ("queries", &account.queries),
                ("resident", &account.resident),
            ];
            for (name, bytes) in counted {
                let bytes = i64::try_from(bytes.load(Ordering::Relaxed)).unwrap_or(i64::MAX);
                account.used.get_or_create(&UseLabel { r#use: name }).set(bytes);
            }
            tokio::select! {
                () = shutdown.wait() => return,
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
            }
        }
    }
}

impl MemoryUse {
    const fn full_percent(self) -> u64 {
        match self {
            Self::Requests => WRITES_FULL_PERCENT,
            Self::Queries => QUERIES_FULL_PERCENT,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Queries => "queries",
        }
    }
}

impl Account {
    fn share(&self, percent: u64) -> u64 {
        self.limit_bytes / 100 * percent
    }

    fn looked(&self) -> MutexGuard<'_, Option<Instant>> {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, looked: &mut Option<Instant>) {
        if let Some(holder) = self.holder.get() {
            self.heads.store(holder.held_bytes(), Ordering::Relaxed);
        }
        self.resident.store(resident_bytes().unwrap_or(0), Ordering::Relaxed);
        *looked = Some(Instant::now());
    }

    /// Looks again, unless the last look is good enough to take memory by.
    fn look_if_old(&self, looked: &mut Option<Instant>) {
        let near = self.resident.load(Ordering::Relaxed).max(self.accounted()) > self.share(NEAR_PERCENT);
        let age_max = if near { NEAR_LOOK_AGE_MAX } else { LOOK_INTERVAL };
        if self.limit_bytes > 0 && looked.is_some_and(|at| at.elapsed() >= age_max) {
            self.look(looked);
        }
    }

    fn building(&self) -> u64 {
        self.heads.load(Ordering::Relaxed).saturating_mul(BUILDING_PERCENT) / 100
    }

    fn accounted(&self) -> u64 {
        let parts = [&self.heads, &self.requests, &self.queries];
        parts.iter().map(|part| part.load(Ordering::Relaxed)).fold(0, u64::saturating_add)
    }

    fn wants_a_cut(&self) -> bool {
        if self.limit_bytes == 0 {
            return false;
        }
        let heads = self.heads.load(Ordering::Relaxed);
        heads > self.share(HEADS_PERCENT) || (self.presses() && heads > self.share(HEADS_WORTH_PERCENT))
    }

    fn presses(&self) -> bool {
        let (accounted, resident) = (self.accounted(), self.resident.load(Ordering::Relaxed));
        let used = if self.counts_resident() { accounted.max(resident) } else { accounted };
        used.saturating_add(self.building()) > self.share(PRESSURE_PERCENT)
    }

    fn is_short(&self) -> bool {
        self.look_if_old(&mut self.looked());
        self.limit_bytes > 0 && self.presses()
    }

    fn counts_resident(&self) -> bool {
        self.accounted() > self.share(ACCOUNTED_PERCENT)
    }

    /// Returns whether so many bytes more are more than may be taken for this.
    fn is_full(&self, purpose: MemoryUse, more: u64) -> bool {
        if self.limit_bytes == 0 {
            return false;
        }
        let (accounted, full) = (self.accounted(), self.share(purpose.full_percent()));
        // What requests have taken may not be resident yet.
        let resident =
            self.resident.load(Ordering::Relaxed).saturating_add(self.requests.load(Ordering::Relaxed));
        let more = more.saturating_add(self.building());
        accounted.saturating_add(more) > full
            || (self.counts_resident() && resident.saturating_add(more) > full)
    }

    fn take(&self, purpose: MemoryUse, bytes: u64) -> Result<(), MemoryFull> {
        let mut looked = self.looked();
        self.look_if_old(&mut looked);
        if self.is_full(purpose, bytes) {
            self.refused.get_or_create(&UseLabel { r#use: purpose.name() }).inc();
            return Err(MemoryFull { limit_bytes: self.limit_bytes });
        }
        self.taken_for(purpose).fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    fn taken_for(&self, purpose: MemoryUse) -> &AtomicU64 {
        match purpose {
            MemoryUse::Requests => &self.requests,
            MemoryUse::Queries => &self.queries,
        }
    }
}

/// Bytes of the budget, given back when dropped.
#[derive(Debug)]
pub struct MemoryReservation {
    account: Arc<Account>,
    purpose: MemoryUse,
    bytes: u64,
}

impl MemoryReservation {
    /// Takes or gives back what is missing to so many bytes.
    ///
    /// # Errors
    /// [`MemoryFull`] where they are not left; what was taken stays taken.
    pub fn resize(&mut self, bytes: u64) -> Result<(), MemoryFull> {
        match bytes.checked_sub(self.bytes) {
            Some(0) => {}
            Some(more) => self.account.take(self.purpose, more)?,
            None => {
                self.account.taken_for(self.purpose).fetch_sub(self.bytes - bytes, Ordering::Relaxed);
            }
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for MemoryReservation {
    fn drop(&mut self) {
        self.account.taken_for(self.purpose).fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Returns three quarters of what the cgroup or else the machine has; 0 where neither tells.
#[must_use]
pub fn default_memory_limit() -> u64 {
    let machine =
        std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| kib_field(&text, "MemTotal:"));
    let cgroup = cgroup_limits(Path::new("/sys/fs/cgroup"), Path::new("/proc/self/cgroup")).into_iter().min();
    machine.into_iter().chain(cgroup).min().unwrap_or(0) / 100 * DEFAULT_PERCENT
}

/// Returns the memory limits of this process's cgroup and of those around it.
fn cgroup_limits(root: &Path, own: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(own).unwrap_or_default();
    let mut files = Vec::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (base, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            c if c.split(',').any(|c| c == "memory") => (root.join("memory"), "memory.limit_in_bytes"),
            _ => continue,
        };
        let path = PathBuf::from(path.trim_start_matches('/'));
        files.extend(path.ancestors().map(|folder| base.join(folder).join(file)));
    }
    let limits = files.iter().filter_map(|file| std::fs::read_to_string(file).ok());
    // "max", or in version 1 a number near the largest, is no limit.
    limits.filter_map(|text| text.trim().parse().ok()).filter(|limit| *limit < 1 << 60).collect()
}

fn resident_bytes() -> Option<u64> {
    kib_field(&std::fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")
}

fn kib_field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib.saturating_mul(1024))
}
