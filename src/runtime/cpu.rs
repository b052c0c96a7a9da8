//! The compute threads.

use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};

/// A pool of compute threads, apart from the I/O runtime. Clones share it; the last one ends it.
///
/// It is a second runtime without drivers: its threads park when there is nothing to do and do not spin, which a pool
/// made for data parallelism does between requests.
#[derive(Debug, Clone)]
pub struct Cpu(Arc<Threads>);

/// The runtime is taken out when dropped; without one, jobs run in place.
#[derive(Debug)]
struct Threads(Option<Runtime>);

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
    /// Starts so many threads, at least one.
    ///
    /// # Errors
    /// The operating system's refusal to start threads.
    pub fn start(threads: usize) -> Result<Self, CpuError> {
        let runtime = Builder::new_multi_thread().worker_threads(threads.max(1)).thread_name("cpu").build();
        let runtime = runtime.map_err(|e| CpuError::Start(e.to_string()))?;
        Ok(Self(Arc::new(Threads(Some(runtime)))))
    }

    /// Returns compute without threads: jobs run where they are asked for, after everybody else had a turn. A
    /// simulation is deterministic with it.
    #[cfg(any(test, feature = "failpoints"))]
    #[must_use]
    pub fn inline() -> Self {
        Self(Arc::new(Threads(None)))
    }

    /// Returns how many jobs can run at the same time.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.0.0.as_ref().map_or(1, |runtime| runtime.metrics().num_workers())
    }

    /// Runs a job on a compute thread and waits for it. Dropping the future takes back a job that has not begun; one
    /// that runs ends by itself.
    ///
    /// # Errors
    /// [`CpuError::Panicked`] where the job did.
    pub async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, CpuError> {
        let Some(runtime) = &self.0.0 else {
            tokio::task::yield_now().await;
            return Ok(job());
        };
        let mut task = AbortOnDrop(runtime.spawn(async move { job() }));
        (&mut task.0).await.map_err(|_| CpuError::Panicked)
    }
}

/// Nobody waits for the answer of a job whose caller has gone.
struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Waiting for jobs is not allowed where the last clone may be dropped, in async code.
            runtime.shutdown_background();
        }
    }
}
