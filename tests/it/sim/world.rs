//! One run: its seed, its virtual time, what happened in it, and what was wrong.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use perennial::runtime::{Clock, Random, random_from_seed};

/// The wall clock at the start of every run.
const START_MS: i64 = 1_700_000_000_000;

/// So many lines of the trace are shown with a violation.
const LINES_SHOWN: usize = 120;

/// What all actors of one run share.
#[derive(Debug)]
pub(super) struct World {
    seed: u64,
    random: Random,
    /// Numbers drawn: what makes two runs differ first.
    drawn: AtomicU64,
    origin: Instant,
    trace: Mutex<Trace>,
}

#[derive(Debug, Default)]
struct Trace {
    hash: u64,
    lines: u64,
    last: VecDeque<String>,
    violation: Option<String>,
}

/// The sum of everything that happened: equal for equal seeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint {
    pub(super) hash: u64,
    pub(super) lines: u64,
}

impl World {
    /// Starts the time of a run; called inside its runtime, whose clock is paused.
    pub(super) fn new(seed: u64) -> Arc<Self> {
        let random = random_from_seed(seed);
        Arc::new(Self {
            seed,
            random,
            drawn: AtomicU64::new(0),
            origin: Instant::now(),
            trace: Mutex::default(),
        })
    }

    pub(super) fn next_u64(&self) -> u64 {
        self.drawn.fetch_add(1, Ordering::SeqCst);
        self.random.next_u64()
    }

    /// Returns a source of its own for one process, which a restart does not rewind.
    pub(super) fn fork_random(&self) -> Random {
        random_from_seed(self.next_u64())
    }

    /// Returns a number below `end`.
    pub(super) fn below(&self, end: u64) -> u64 {
        self.next_u64() % end.max(1)
    }

    pub(super) fn chance(&self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(super) fn millis(&self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to.saturating_sub(from)))
    }

    /// Returns the virtual time since the start.
    pub(super) fn elapsed_ms(&self) -> i64 {
        i64::try_from(self.origin.elapsed().as_millis()).unwrap()
    }

    /// Returns what a right wall clock shows.
    pub(super) fn true_ms(&self) -> i64 {
        START_MS + self.elapsed_ms()
    }

    /// Records that something happened.
    pub(super) fn note(&self, who: &str, what: std::fmt::Arguments<'_>) {
        let (at_ms, drawn) = (self.elapsed_ms(), self.drawn.load(Ordering::SeqCst));
        let line = format!("{at_ms:>10} {drawn:>7} {who:<10} {what}");
        if std::env::var_os("PERENNIAL_SIM_TRACE").is_some() {
            eprintln!("{line}");
        }
        let mut trace = self.trace();
        trace.lines += 1;
        // FNV-1a: the same on every machine.
        let start = trace.hash ^ 0xcbf2_9ce4_8422_2325;
        trace.hash = line.bytes().fold(start, |h, byte| (h ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
        if trace.last.len() == LINES_SHOWN {
            trace.last.pop_front();
        }
        trace.last.push_back(line);
    }

    /// Records that an invariant does not hold. The first one counts.
    pub(super) fn violate(&self, what: std::fmt::Arguments<'_>) {
        self.note("VIOLATION", what);
        self.trace().violation.get_or_insert_with(|| what.to_string());
    }

    pub(super) fn violated(&self) -> bool {
        self.trace().violation.is_some()
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        let trace = self.trace();
        Fingerprint { hash: trace.hash, lines: trace.lines }
    }

    /// Returns the violation, how to see it again, and what went before.
    pub(super) fn report(&self) -> Option<String> {
        let trace = self.trace();
        let mut text = trace.violation.clone()?;
        let seed = self.seed;
        write!(text, "\nreplay: PERENNIAL_SIM_SEED={seed} cargo test --features failpoints --test it sim::")
            .ok()?;
        write!(text, "\n(PERENNIAL_SIM_TRACE=1 prints everything; these are the last lines)").ok()?;
        trace.last.iter().for_each(|line| {
            let _ = write!(text, "\n{line}");
        });
        Some(text)
    }

    fn trace(&self) -> MutexGuard<'_, Trace> {
        self.trace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The clocks of one process: the wall clock jumps, the other one does not.
#[derive(Debug)]
pub(super) struct SimClock {
    world: Arc<World>,
    started_ms: i64,
    off_by_ms: Arc<Mutex<i64>>,
}

impl SimClock {
    /// Returns the clocks of a process that starts now on a machine whose wall clock is off by so much.
    pub(super) fn new(world: &Arc<World>, off_by_ms: &Arc<Mutex<i64>>) -> Arc<Self> {
        let started_ms = world.elapsed_ms();
        Arc::new(Self { world: Arc::clone(world), started_ms, off_by_ms: Arc::clone(off_by_ms) })
    }
}

impl Clock for SimClock {
    fn now_ms(&self) -> i64 {
        self.world.true_ms() + *self.off_by_ms.lock().unwrap()
    }

    fn monotonic_ms(&self) -> i64 {
        self.world.elapsed_ms() - self.started_ms
    }
}
