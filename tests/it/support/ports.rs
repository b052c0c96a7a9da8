//! Ports that parallel tests do not fight over.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

// Below the range from which the kernel picks ports for outgoing connections, so that only listeners compete.
const FIRST: u32 = 20_000;
const COUNT: u32 = 12_000;

/// Returns a port on the loopback address that nobody listens on and that this process never gave out before.
pub(crate) fn free_port() -> u16 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    // Test processes that run side by side begin at different places.
    let start = std::process::id().wrapping_mul(97) % COUNT;
    for _ in 0..COUNT {
        let nth = GIVEN.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(FIRST + (start + nth) % COUNT).expect("the range ends below 65,536");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT);
}
