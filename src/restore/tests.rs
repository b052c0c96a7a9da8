//! Restores out of made-up archives.

mod hostile;
mod interrupted;
mod real;
pub(crate) mod rig;
mod targets;
mod words;
