//! `perennial restore serve`: a look at restored data before anything is decided.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::compose::{Process, ReadSide, bind, stop_signal};
use super::flags::{CommonArgs, ListenArgs, QueryArgs, TenantArgs, label};
use super::store::{Addresses, reads};
use super::{Failure, print_line};
use crate::model::{ErrorKind, Labels, format_time_ms};
use crate::select::{SelectLimits, Selector, TsdbBlocks};

/// Flags of `restore serve`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  perennial restore serve --dir /var/lib/prometheus.restored --label 'cluster=\"eu-1\"'\n\n\
Serves the blocks of the directory over StoreAPI, remote read and the label APIs, and changes nothing in it."
)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    listen: ListenArgs,
    #[command(flatten)]
    tenants: TenantArgs,
    #[command(flatten)]
    query: QueryArgs,
    /// Directory that was restored with its head as a block.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// External label, `name="value"`, of the series over StoreAPI; may be given several times.
    #[arg(long = "label", value_name = "NAME=\"VALUE\"", value_parser = label)]
    labels: Vec<(String, String)>,
}

pub(super) async fn run(args: ServeArgs) -> Result<(), Failure> {
    args.common.start_logging();
    let external_labels = Labels::from_pairs(args.labels.iter().map(|(n, v)| (n, v)))
        .map_err(|e| Failure::new(ErrorKind::Invalid, format!("--label: {e}")))?;
    serve(&args, &args.dir, external_labels).await
}

/// Serves a restored directory until the process is told to stop.
async fn serve(args: &ServeArgs, directory: &Path, external_labels: Labels) -> Result<(), Failure> {
    let process = Process::start()?;
    let http = bind("http-address", args.listen.http_address).await?;
    let grpc = bind("grpc-address", args.listen.grpc_address).await?;
    let addresses = Addresses { http: http.address(), grpc: grpc.address(), write: None };
    let mut read_side = ReadSide::start(&process, http, grpc, None);
    let path = directory.to_owned();
    let blocks = Arc::new(process.cpu.run(move || TsdbBlocks::open(&path)).await??);
    warn_of_log(directory);
    let (count, range) = (blocks.count(), blocks.range());
    let shown_as = (args.tenants.default_tenant.clone(), external_labels);
    let limits = SelectLimits { samples_max: 0, ..args.query.limits() };
    let selector = Selector::over_directory(blocks, shown_as, process.cpu.clone(), limits);
    read_side.open(&process, &reads(&process, selector, (&args.tenants, &args.query), None));
    addresses.print("restore serve", ("directory", &directory.display().to_string()));
    print_line(format_args!(
        "{count} blocks from {} until {}; stop with Ctrl-C",
        format_time_ms(range.start_ms),
        format_time_ms(range.end_ms)
    ));

    tokio::select! {
        signal = stop_signal() => signal?,
        ended = read_side.first_end() => return ended,
    }
    process.readiness.set(false);
    process.shutdown.start();
    read_side.ended().await?;
    print_line("stopped");
    Ok(())
}

/// A directory of another making may hold samples that are not in blocks.
fn warn_of_log(directory: &Path) {
    let segments = std::fs::read_dir(directory.join("wal")).into_iter().flatten().flatten();
    if segments.filter_map(|entry| entry.metadata().ok()).any(|found| found.is_file() && found.len() > 0) {
        tracing::warn!(
            directory = %directory.display(),
            "the directory has a write-ahead log, whose samples are not served"
        );
    }
}
