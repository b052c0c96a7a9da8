//! `perennial standalone` and `perennial receive`: the roles that take remote write.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::compose::{Base, ReadSide, WriteParts, WriteSide, bind, flush_call, stop_signal};
use super::flags::{CatalogArgs, CommonArgs, IngestArgs, ListenArgs, QueryArgs, TenantArgs};
use super::jobs::{JobsArgs, role_scheduler};
use super::store::{Addresses, reads};
use super::{Failure, print_line};
use crate::head::Heads;
use crate::model::ErrorKind;
use crate::receive::{CutterRequests, OnCommit};
use crate::runtime::Shutdown;

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
    let base = Base::start(&args.common, args.ingest.history.settings()?, true).await?;
    let scheduler = role_scheduler(&base, &args.common, jobs).await?;
    let http = bind("http-address", args.listen.http_address).await?;
    let grpc = bind("grpc-address", args.listen.grpc_address).await?;
    let write = bind("remote-write.address", args.ingest.remote_write_address).await?;
    let addresses = Addresses { http: http.address(), grpc: grpc.address(), write: Some(write.address()) };

    let (requests, queue) = CutterRequests::channel();
    let mut read_side =
        ReadSide::start(&base, http, grpc, Some(flush_call(requests, base.readiness.clone())));
    let view = match role {
        WriteRole::Standalone => Some(base.view(&args.catalog).await?),
        WriteRole::Receive => None,
    };
    let (hand_over, on_commit): (Duration, OnCommit) = match view.clone() {
        // Our own reads have the version before the head goes.
        Some(view) => (Duration::ZERO, Box::new(move |snapshot| view.install(snapshot))),
        // Stores see the version within two refreshes; a query that began before may still read the head.
        None => (args.catalog.refresh * 2 + args.query.query_timeout, Box::new(|_| {})),
    };
    let heads = Heads::new();
    let parts = WriteParts {
        common: &args.common,
        ingest: &args.ingest,
        tenants: &args.tenants,
        external_labels: external_labels.clone(),
        heads: Arc::clone(&heads),
        hand_over,
        on_commit,
    };
    let write_side = WriteSide::start(&base, parts, queue).await?;
    base.collect_garbage();
    let selector = base.selector(Some((heads, external_labels)), view, &args.query);
    let max_age = Some(args.ingest.settings().max_age_ms);
    read_side.open(&base, &reads(&base, selector, (&args.tenants, &args.query), max_age));
    let stop_writes = Shutdown::new();
    let mut writing = tokio::spawn(write_side.serve(write, stop_writes.clone()));
    let mut jobs = tokio::spawn(scheduler.run(base.shutdown.clone()));
    addresses.print(role.name(), ("bucket", base.bucket.location()));

    let defect = |e: tokio::task::JoinError| Failure::new(ErrorKind::Internal, e);
    tokio::select! {
        signal = stop_signal() => signal?,
        ended = &mut writing => return ended.map_err(defect)?,
        ended = read_side.first_end() => return ended,
        _ = &mut jobs => {
            return Err(Failure::new(ErrorKind::Internal, "the job scheduler has ended; restart the process"));
        }
    }
    base.readiness.set(false);
    stop_writes.start();
    let written = writing.await.map_err(defect)?;
    base.shutdown.start();
    jobs.await.map_err(defect)?;
    read_side.ended().await?;
    print_line("stopped");
    written
}
