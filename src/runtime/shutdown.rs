//! One signal that ends every loop.

use tokio_util::sync::CancellationToken;

/// Tells every part of the process to end; clones share the signal.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// Returns a signal that has not been given.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives the signal.
    pub fn start(&self) {
        self.0.cancel();
    }

    /// Returns whether the signal was given.
    #[must_use]
    pub fn started(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits for the signal.
    pub async fn wait(&self) {
        self.0.cancelled().await;
    }
}
