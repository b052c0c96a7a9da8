//! The integration tests: one binary, so that heavy dependencies are linked once.

mod generated;
mod xor;
