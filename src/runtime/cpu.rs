//! The compute threads.

use std::sync::Arc;

use tokio::sync::oneshot;

/// A pool of compute threads, apart from the I/O runtime.
#[derive(Debug, Clone)]
pub struct Cpu {
    pool: Arc<rayon::ThreadPool>,
}

/// A compute job that did not finish.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CpuError {
    /// The threads could not be started.
    #[error("cannot start compute threads: {0}")]
    Start(String),
    /// The job panicked; the panic message is in the log.
    #[error("a compute job panicked; this is a defect, please report it with the log")]
    Panicked,
}

impl Cpu {
    /// Starts `threads` threads; 0 means one a core.
    ///
    /// # Errors
    /// The operating system's refusal to start threads.
    pub fn start(threads: usize) -> Result<Self, CpuError> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("cpu-{i}"))
            .panic_handler(|_| tracing::error!("a compute job panicked"))
            .build()
            .map_err(|e| CpuError::Start(e.to_string()))?;
        Ok(Self { pool: Arc::new(pool) })
    }

    /// Runs a job on a compute thread and waits for it. Dropping the future lets a job that runs end by itself.
    ///
    /// # Errors
    /// [`CpuError::Panicked`] where the job did.
    pub async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, CpuError> {
        let (sender, receiver) = oneshot::channel();
        self.pool.spawn(move || {
            // A caller that went away has dropped its end; it neither wants the work nor the answer.
            if !sender.is_closed() {
                let _ = sender.send(job());
            }
        });
        receiver.await.map_err(|_| CpuError::Panicked)
    }
}
