//! `perennial standalone` and `perennial receive`: the roles that take remote write.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::task::JoinHandle;

use super::compose::{Base, ReadSide, WriteParts, WriteSide, bind, flush_call, stop_signal};
use super::flags::{CatalogArgs, CommonArgs, IngestArgs, ListenArgs, MemoryArgs, QueryArgs, TenantArgs};
use super::jobs::{JobsArgs, role_scheduler};
use super::store::{Addresses, reads};
use super::{Failure, print_line};
use crate::head::Heads;
use crate::model::{ErrorKind, Labels};
use crate::receive::{CutterRequests, OnCommit};
use crate::runtime::Shutdown;
use crate::select::{CatalogView, LocalBlocks};
use crate::store::Reads;

/// Flags of `standalone` and `receive`.
#[derive(Debug, Args)]
pub(super) struct WriteRoleArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    listen: ListenArgs,
    #[command(flatten)]
    ingest: IngestArgs,
    #[command(flatten)]
    tenants: TenantArgs,
    #[command(flatten)]
    query: QueryArgs,
    #[command(flatten)]
    catalog: CatalogArgs,
    #[command(flatten)]
    memory: MemoryArgs,
    #[command(flatten)]
    jobs: JobsArgs,
}

/// What the process serves beside taking writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WriteRole {
    /// Its heads and all blocks.
    Standalone,
    /// Its heads; stores serve the blocks.
    Receive,
}

impl WriteRole {
    const fn name(self) -> &'static str {
        match self {
            Self::Standalone => "standalone",
            Self::Receive => "receive",
        }
    }
}

pub(super) async fn run(role: WriteRole, mut args: WriteRoleArgs) -> Result<(), Failure> {
    args.common.start_logging();
    args.ingest.check()?;
    let external_labels = args.ingest.external_labels(&args.tenants.tenant_label)?;
    args.query.hide_too(&args.ingest.replica_labels);
    let jobs = args.jobs.read()?;
    let settings = args.ingest.history.settings()?;
    let (base, bucket_away) = Base::start_writer(&args.common, settings, args.ingest.log_kind).await?;
    base.announce_bucket();
    let scheduler = role_scheduler(&base, &args.common, jobs).await?;
    let mut running = Running::start(role, &args, (base, bucket_away), external_labels).await?;
    let mut jobs = tokio::spawn(scheduler.run(running.base.shutdown.clone()));
    tokio::select! {
        ended = running.until_signal(&args.catalog) => ended?,
        _ = &mut jobs => {
            return Err(Failure::new(ErrorKind::Internal, "the job scheduler has ended; restart the process"));
        }
    }
    running.stop(role, args.catalog.refresh * 2, jobs).await
}

/// A role at work.
struct Running {
    base: Base,
    read_side: ReadSide,
    writing: JoinHandle<Result<(), Failure>>,
    stop_writes: Shutdown,
    /// Catalogs that could not be read yet, and what serves them once they are.
    late: Option<(Arc<CatalogView>, Reads)>,
}

fn defect(error: tokio::task::JoinError) -> Failure {
    Failure::new(ErrorKind::Internal, error)
}

impl Running {
    async fn start(
        role: WriteRole,
        args: &WriteRoleArgs,
        (base, bucket_away): (Base, bool),
        external_labels: Labels,
    ) -> Result<Self, Failure> {
        let http = bind("http-address", args.listen.http_address).await?;
        let grpc = bind("grpc-address", args.listen.grpc_address).await?;
        let write = bind("remote-write.address", args.ingest.remote_write_address).await?;
        let addresses =
            Addresses { http: http.address(), grpc: grpc.address(), write: Some(write.address()) };
        let (requests, queue) = CutterRequests::channel();
        let connections = base.connections(args.listen.connections_max, args.query.query_timeout);
        let flush = flush_call(requests.clone(), base.readiness.clone());
        let mut read_side = ReadSide::start(&base, (http, grpc), &connections, Some(flush));
        let view = (role == WriteRole::Standalone).then(|| base.unread_view());
        if let Some(view) = view.as_ref().filter(|_| !bucket_away) {
            base.read_view(view, &args.catalog).await?;
        }
        let (hand_over, on_commit) = hand_over(view.clone(), args);
        let (heads, local, memory) = (Heads::new(), LocalBlocks::new(), base.memory(&args.memory));
        memory.count_heads(Arc::<Heads>::clone(&heads));
        let parts = WriteParts {
            common: &args.common,
            ingest: &args.ingest,
            tenants: &args.tenants,
            external_labels: external_labels.clone(),
            heads: Arc::clone(&heads),
            local: Arc::clone(&local),
            memory: memory.clone(),
            bucket_away,
            hand_over,
            on_commit,
        };
        let write_side = WriteSide::start(&base, parts, (requests, queue)).await?;
        base.collect_garbage();
        let late_view = view.clone().filter(|_| bucket_away);
        let selector =
            base.selector(Some((heads, external_labels)), view, (&args.common, &args.query, &memory))?;
        let selector = selector.with_local_blocks(&local);
        let max_age = Some(args.ingest.settings().max_age_ms);
        let reads = reads(&base, selector, (&args.tenants, &args.query, &memory), max_age);
        let stop_writes = Shutdown::new();
        let writing = tokio::spawn(write_side.serve(write, connections, stop_writes.clone()));
        // Queries must not miss blocks of catalogs that nobody has read; writes need not wait for that.
        match &late_view {
            None => read_side.open(&base, &reads),
            Some(_) => base.readiness.set(true),
        }
        addresses.print(role.name(), ("bucket", base.bucket.location()));
        let late = late_view.map(|view| (view, reads));
        Ok(Self { base, read_side, writing, stop_writes, late })
    }

    /// Serves until a signal. The end of a part that should have gone on is a failure.
    async fn until_signal(&mut self, catalog: &CatalogArgs) -> Result<(), Failure> {
        let late = self.late.take();
        let mut signal = std::pin::pin!(stop_signal());
        let mut catalogs_read = std::pin::pin!(async {
            match &late {
                Some((view, _)) => self.base.read_view_later(view, catalog).await,
                None => std::future::pending().await,
            }
        });
        let mut reading = late.is_none();
        loop {
            tokio::select! {
                signal = &mut signal => return signal,
                () = &mut catalogs_read, if !reading => {
                    if let Some((_, reads)) = &late {
                        self.read_side.open(&self.base, reads);
                    }
                    reading = true;
                }
                ended = &mut self.writing => return ended.map_err(defect)?,
                ended = self.read_side.first_end() => return ended,
            }
        }
    }

    /// Takes no more writes, commits what is left and ends.
    async fn stop(
        mut self,
        role: WriteRole,
        stores_see_within: Duration,
        jobs: JoinHandle<()>,
    ) -> Result<(), Failure> {
        self.stop_writes.start();
        let written = self.writing.await.map_err(defect)?;
        if role == WriteRole::Receive && written.is_ok() {
            hand_over_to_stores(&mut self.read_side, stores_see_within).await;
        }
        self.base.readiness.set(false);
        self.base.shutdown.start();
        jobs.await.map_err(defect)?;
        self.read_side.ended().await?;
        print_line("stopped");
        written
    }
}

/// Returns how long readers may need what is committed, and what is told of each commit.
fn hand_over(view: Option<Arc<CatalogView>>, args: &WriteRoleArgs) -> (Duration, OnCommit) {
    match view {
        // Our own reads have the version before the head goes.
        Some(view) => (Duration::ZERO, Arc::new(move |snapshot| view.install(snapshot))),
        // Stores see the version within two refreshes; a query that began before may still read the head.
        None => (args.catalog.refresh * 2 + args.query.query_timeout, Arc::new(|_| {})),
    }
}

/// Goes on answering queries until stores must have seen the last commit: samples that were acknowledged would be
/// missing between the two. A second signal ends it at once.
async fn hand_over_to_stores(read_side: &mut ReadSide, wait: Duration) {
    tracing::info!(seconds = wait.as_secs_f64(), "serving reads until stores have seen the last commit");
    tokio::select! {
        () = tokio::time::sleep(wait) => {}
        _ = stop_signal() => {}
        _ = read_side.first_end() => {}
    }
}
