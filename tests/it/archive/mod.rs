//! The archiver under everything that happens to it: kills, a server that dies, a store that fails, full disks.
//!
//! What is asked each time is the same: whatever the server had acknowledged and the archive has seen comes back, and
//! where something was lost the archive says so.

mod faults;
mod full_disk;
mod jobs;
mod kills;
mod local;
mod server;
