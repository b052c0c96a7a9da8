//! What goes wrong around a receiver: its disk, its bucket, its clients, its memory. Real processes throughout.

mod book;
mod clients;
mod disk;
mod hang;
mod memory;
mod outage;
