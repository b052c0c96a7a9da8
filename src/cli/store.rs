//! `perennial store`: the blocks in the bucket.

use std::net::SocketAddr;
use std::sync::Arc;

use clap::Args;

use super::compose::{Base, Process, ReadSide, bind, stop_signal};
use super::flags::{CatalogArgs, CommonArgs, ListenArgs, MemoryArgs, QueryArgs, TenantArgs};
use super::jobs::{JobsArgs, role_scheduler};
use super::{Failure, print_line};
use crate::catalog::CatalogSettings;
use crate::model::ErrorKind;
use crate::runtime::Memory;
use crate::select::Selector;
use crate::store::{Reads, StoreSettings};

/// Flags of `store`.
#[derive(Debug, Args)]
pub(super) struct StoreArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    listen: ListenArgs,
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

pub(super) async fn run(args: StoreArgs) -> Result<(), Failure> {
    args.common.start_logging();
    let jobs = args.jobs.read()?;
    let base = Base::start(&args.common, CatalogSettings::default(), false).await?;
    base.announce_bucket();
    let scheduler = role_scheduler(&base, &args.common, jobs).await?;
    let http = bind("http-address", args.listen.http_address).await?;
    let grpc = bind("grpc-address", args.listen.grpc_address).await?;
    let addresses = Addresses { http: http.address(), grpc: grpc.address(), write: None };
    let connections = base.connections(args.listen.connections_max, args.query.query_timeout);
    let mut read_side = ReadSide::start(&base, (http, grpc), &connections, None);
    let view = base.view(&args.catalog).await?;
    let memory = base.memory(&args.memory);
    let selector = base.selector(None, Some(view), (&args.common, &args.query, &memory))?;
    read_side.open(&base, &reads(&base, selector, (&args.tenants, &args.query, &memory), None));
    let mut jobs = tokio::spawn(scheduler.run(base.shutdown.clone()));
    addresses.print("store", ("bucket", base.bucket.location()));

    tokio::select! {
        signal = stop_signal() => signal?,
        ended = read_side.first_end() => return ended,
        _ = &mut jobs => {
            return Err(Failure::new(ErrorKind::Internal, "the job scheduler has ended; restart the process"));
        }
    }
    base.readiness.set(false);
    base.shutdown.start();
    jobs.await.map_err(|e| Failure::new(ErrorKind::Internal, e))?;
    read_side.ended().await?;
    print_line("stopped");
    Ok(())
}

/// Makes the read APIs of a role. `max_age_ms` is how far back its heads may hold samples, where it has heads.
pub(super) fn reads(
    process: &Process,
    selector: Selector,
    (tenants, query, memory): (&TenantArgs, &QueryArgs, &Memory),
    max_age_ms: Option<i64>,
) -> Reads {
    let settings = StoreSettings {
        tenant_label: tenants.tenant_label.clone(),
        tenant_header: tenants.tenant_header.clone(),
        default_tenant: tenants.default_tenant.clone(),
        replica_labels: query.replica_labels.clone(),
        query_timeout: query.query_timeout,
        query_concurrency: query.query_concurrency,
        limits: query.limits(),
        memory: memory.clone(),
        head_max_age_ms: max_age_ms,
    };
    let readiness = process.readiness.clone();
    let ready = Arc::new(move || readiness.is_ready());
    let clock = Arc::clone(&process.clock);
    Reads::new(selector, settings, clock, ready, process.shutdown.clone(), &process.metrics)
}

/// Where a process listens.
pub(super) struct Addresses {
    pub(super) http: SocketAddr,
    pub(super) grpc: SocketAddr,
    pub(super) write: Option<SocketAddr>,
}

impl Addresses {
    /// Prints the addresses and the lines to paste into `prometheus.yml`.
    pub(super) fn print(&self, role: &str, (what, place): (&str, &str)) {
        let Self { http, grpc, write } = self;
        print_line(format_args!("perennial {} {role}", env!("CARGO_PKG_VERSION")));
        if let Some(write) = write {
            print_line(format_args!("  remote write  http://{write}/api/v1/receive"));
        }
        print_line(format_args!("  HTTP          http://{http}"));
        print_line(format_args!("  StoreAPI      {grpc} (gRPC; thanos query --endpoint={grpc})"));
        print_line(format_args!("  {what:<13} {place}"));
        print_line("\nPaste into prometheus.yml:\n");
        if let Some(write) = write {
            // Without the last line a Prometheus drops what is refused with 429, which is beyond a bound on the disk.
            print_line(format_args!(
                "remote_write:\n  - url: http://{write}/api/v1/receive\n    queue_config:\n      retry_on_http_429: true"
            ));
        }
        print_line(format_args!("remote_read:\n  - url: http://{http}/api/v1/read\n    read_recent: true\n"));
    }
}
