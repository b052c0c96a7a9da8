//! The deterministic simulation: the real code over a simulated store, disk, network and clock.
//!
//! A run is one thread with virtual time. *Nodes* are machines with a process (a receiver, a standalone or a store);
//! *writers* send to them; *chaos* kills, pauses, cuts power, breaks disks and connections and moves clocks. All
//! chance comes from one seed, so a seed gives the same run again, down to the last line of its trace.
//!
//! After each step: every reader finds each acknowledged float and histogram exactly once with its bits ([`model`],
//! [`cluster`]);
//! what was seen once does not go again, so nothing is visible before it is durable; every kept version of a
//! catalog names only what is there, no version changes or comes again ([`audit`]). At the end all is calm: everything
//! must be readable from everywhere, then from blocks alone, and no garbage may be left beyond its delay.
//!
//! What it does not do: several threads, real sockets, real files of blocks that break.

mod audit;
mod chaos;
mod cluster;
mod disk;
mod gate;
mod histogram;
mod model;
mod node;
mod store;
mod world;
mod writer;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use self::chaos::{Options, Outcome, run_seed};
use self::store::StoreDefect;

/// So many seeds must be enough to catch what is planted.
const SEEDS_TO_CATCH: u64 = 20;

/// Returns a number that the environment sets.
fn number_from_env(name: &str) -> Option<u64> {
    Some(std::env::var(name).ok()?.parse().expect("a number"))
}

/// Runs the seeds that the environment names, or so many, and returns what went wrong with the first that fails.
fn first_failure(options: &Options, seeds: std::ops::Range<u64>) -> Option<String> {
    let (next, failure) = (AtomicU64::new(seeds.start), Mutex::new(None::<(u64, String)>));
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= seeds.end || failure.lock().unwrap().is_some() {
                        return;
                    }
                    if let Err(report) = run_seed(seed, options) {
                        let mut failure = failure.lock().unwrap();
                        if failure.as_ref().is_none_or(|(known, _)| seed < *known) {
                            *failure = Some((seed, report));
                        }
                    }
                }
            });
        }
    });
    failure.into_inner().unwrap().map(|(seed, report)| format!("seed {seed}: {report}"))
}

#[test]
fn acknowledged_samples_are_readable_exactly_once_whatever_fails() {
    let seeds = match number_from_env("PERENNIAL_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number_from_env("PERENNIAL_SIM_SEEDS").unwrap_or(50),
    };
    let failure = first_failure(&Options::default(), seeds);
    assert!(failure.is_none(), "{}", failure.unwrap_or_default());
}

#[test]
fn a_seed_gives_the_same_run_again() {
    let runs: Vec<Outcome> = (0..2).map(|_| run_seed(7, &Options::default()).unwrap()).collect();
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], run_seed(8, &Options::default()).unwrap());
}

/// Runs seeds with something planted until one of them shows it as it must show.
fn assert_caught(options: &Options, shows: impl Fn(&str) -> bool) {
    let mut told = Vec::new();
    for seed in 0..SEEDS_TO_CATCH {
        let Some(failure) = first_failure(options, seed..seed + 1) else { continue };
        let first = failure.lines().next().unwrap_or_default().to_owned();
        if shows(&first) {
            println!("caught by {first}");
            return;
        }
        told.push(first);
    }
    panic!("no seed has caught it: {told:#?}");
}

/// What a reader says of samples that were acknowledged or seen and are not there.
fn is_loss(violation: &str) -> bool {
    violation.contains("are gone") || violation.contains("in place of the acknowledged")
}

#[test]
fn an_fsync_that_does_nothing_is_caught() {
    let options = Options { disks_lie: true, ..Options::default() };
    assert_caught(&options, |violation| is_loss(violation) || violation.contains("does not open"));
}

#[test]
fn a_store_that_ignores_conditions_is_caught() {
    let options = Options { store: StoreDefect::IgnoresConditions, ..Options::default() };
    // What only conditions guard: objects that never change, commits that build on each other, seals that end epochs.
    let guarded = ["has changed", "is uncovered again", "follows the seal"];
    assert_caught(&options, |violation| {
        is_loss(violation) || guarded.iter().any(|text| violation.contains(text))
    });
}

#[test]
fn an_epoch_that_is_not_sealed_is_caught() {
    let options = Options { store: StoreDefect::SkipsSeals, zombies: true, ..Options::default() };
    assert_caught(&options, is_loss);
}
