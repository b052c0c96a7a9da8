//! Time, randomness, threads, shutdown, metrics and the memory budget: everything that a test must be able to replace.
//!
//! No module above reads a clock, draws a random number or starts a compute thread by itself; it is handed these.
//! Compute over about half a millisecond runs on [`Cpu`], never on the I/O runtime.

mod clock;
mod cpu;
mod fault;
mod memory;
mod metrics;
mod random;
mod shutdown;

#[cfg(test)]
mod tests;

pub use clock::{Clock, ManualClock, SystemClock};
pub use cpu::{Cpu, CpuError};
pub use fault::{crash_point, fails_here};
pub use memory::{HoldsMemory, Memory, MemoryFull, MemoryReservation, MemoryUse, default_memory_limit};
pub use metrics::Metrics;
pub use random::{Random, random_from_seed};
pub use shutdown::Shutdown;
