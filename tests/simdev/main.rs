//! Development.
#[path = "../it/sim/mod.rs"]
mod sim;
