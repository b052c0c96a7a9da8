//! The chain, targets, roll-up and retention over made-up archives.

mod chain;
mod history;
pub(super) mod rig;
mod stored;
