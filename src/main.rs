//! The `perennial` binary.

use std::process::ExitCode;

/// Request handling allocates and frees on different threads; mimalloc is made for that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    perennial::cli::run(std::env::args_os())
}
