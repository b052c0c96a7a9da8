//! Random numbers that can be replayed.

use std::io::Write;

use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

/// Returns a generator with a fresh seed, or the one of `PERENNIAL_SEED`; the seed is printed.
pub(crate) fn seeded(test: &str) -> StdRng {
    let seed = std::env::var("PERENNIAL_SEED").map_or_else(
        |_| StdRng::from_os_rng().next_u64(),
        |text| text.parse().expect("PERENNIAL_SEED is a number"),
    );
    let _ = writeln!(std::io::stderr(), "{test}: replay with PERENNIAL_SEED={seed}");
    StdRng::seed_from_u64(seed)
}
