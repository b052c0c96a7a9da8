//! `perennial restore serve`: a look at restored data before anything is decided.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use clap::Args;

use super::compose::{Process, ReadSide, bind, stop_signal};
use super::encryption::EncryptionArgs;
use super::flags::{CommonArgs, ListenArgs, QueryArgs, TenantArgs, label};
use super::restore_progress::Bars;
use super::store::{Addresses, reads};
use super::{Failure, print_line};
use crate::archive::{Archive, Target};
use crate::bucket::Bucket;
use crate::model::{ErrorKind, Labels, Matcher, SourceName, format_time_ms, parse_instant_ms};
use crate::restore::{
    HeadMode, RestoreContext, RestoreRequest, Scratch, Selector as SeriesSelector, plan, run as restore,
};
use crate::runtime::Memory;
use crate::select::{Selector, TsdbBlocks};
use crate::store::parse_selector;

/// Flags of `restore serve`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  perennial restore serve prod-a --as-of 2026-11-22T14:02:59Z --objstore.config-file bucket.yml\n  \
perennial restore serve --dir /var/lib/prometheus.restored --label 'cluster=\"eu-1\"'\n\n\
Restores into a temporary directory and serves it over StoreAPI, remote read and the label APIs until it is stopped; \
the directory is removed then. With --dir an existing directory is served, and nothing in it is changed."
)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    encryption: EncryptionArgs,
    #[command(flatten)]
    listen: ListenArgs,
    #[command(flatten)]
    tenants: TenantArgs,
    #[command(flatten)]
    query: QueryArgs,
    /// The source.
    #[arg(value_name = "SOURCE", required_unless_present = "dir", conflicts_with = "dir")]
    source: Option<SourceName>,
    /// What the server knew at T: RFC 3339, Unix, relative such as -15m, or `latest`. Later deletes are undone.
    #[arg(long = "as-of", value_name = "T", allow_hyphen_values = true, conflicts_with_all = ["until", "dir"])]
    as_of: Option<String>,
    /// The newest state without samples after T.
    #[arg(long, value_name = "T", allow_hyphen_values = true, conflicts_with = "dir")]
    until: Option<String>,
    /// Only this timeline; `restore status` lists them.
    #[arg(long, value_name = "N", conflicts_with = "dir")]
    timeline: Option<u32>,
    /// Only series that this selector takes. May be repeated: a series needs one of them.
    #[arg(long = "match", value_name = "SELECTOR", value_parser = selector, conflicts_with = "dir")]
    selectors: Vec<SeriesSelector>,
    /// Where the temporary directory is made. Default: the system's directory for such.
    #[arg(long = "work-dir", value_name = "DIR", conflicts_with = "dir")]
    work_dir: Option<PathBuf>,
    /// Directory that was restored with its head as a block.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// External label, `name="value"`, of the series over StoreAPI; may be given several times. Default: those that
    /// the archived server had.
    #[arg(long = "label", value_name = "NAME=\"VALUE\"", value_parser = label)]
    labels: Vec<(String, String)>,
}

fn selector(text: &str) -> Result<SeriesSelector, String> {
    let matchers: Vec<Matcher> = parse_selector(text).map_err(|e| e.to_string())?;
    Ok(SeriesSelector::new(text, matchers))
}

pub(super) async fn run(args: ServeArgs) -> Result<(), Failure> {
    args.common.start_logging();
    let process = Process::start()?;
    let given = Labels::from_pairs(args.labels.iter().map(|(n, v)| (n, v)))
        .map_err(|e| Failure::new(ErrorKind::Invalid, format!("--label: {e}")))?;
    // One wait for all phases: a signal between two of them counts as well.
    let mut stop = std::pin::pin!(stop_signal());
    match (&args.source, &args.dir) {
        (_, Some(directory)) => serve(&args, process, (directory, given), stop).await,
        (Some(source), None) => {
            let parent = args.work_dir.clone().unwrap_or_else(std::env::temp_dir);
            let folder = Scratch::create(&parent, "perennial-serve-")?;
            let directory = folder.path().join("data");
            let archived = tokio::select! {
                archived = restore_for_looking(&args, &process, source, &directory) => archived?,
                signal = &mut stop => {
                    signal?;
                    print_line("stopped");
                    return Ok(());
                }
            };
            let labels = if given.is_empty() { archived } else { given };
            serve(&args, process, (&directory, labels), stop).await
        }
        (None, None) => Err(Failure::new(ErrorKind::Invalid, "give a SOURCE or --dir")),
    }
}

/// Restores blocks only, into a temporary directory; returns the external labels of that time.
async fn restore_for_looking(
    args: &ServeArgs,
    process: &Process,
    source: &SourceName,
    directory: &Path,
) -> Result<Labels, Failure> {
    args.common.check_local_bucket()?;
    let bucket = Bucket::open(&args.common.bucket_config()?, &process.metrics)?;
    let archive = Archive::new(bucket, args.encryption.opening()?, source.clone());
    let view = archive.load().await?;
    let now_ms = process.clock.now_ms();
    let instant = |flag: &str, text: &str| {
        parse_instant_ms(text, now_ms).map_err(|e| Failure::new(ErrorKind::Invalid, format!("{flag}: {e}")))
    };
    let target = match (&args.as_of, &args.until) {
        (Some(latest), _) if latest == "latest" => Target::AsOf(view.last_made.wall_ms),
        (Some(as_of), _) => Target::AsOf(instant("--as-of", as_of)?),
        (None, Some(until)) => Target::Until(instant("--until", until)?),
        (None, None) => return Err(Failure::new(ErrorKind::Invalid, "give --as-of or --until")),
    };
    let request = RestoreRequest {
        timeline: args.timeline,
        head: HeadMode::BlocksOnly,
        selectors: args.selectors.clone(),
        // It is for looking: what is missing is told, and nothing is lost by going on.
        confirmed: true,
        ..RestoreRequest::new(target, directory)
    };
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let mut context = RestoreContext::new(archive, process.cpu.clone(), threads, Arc::clone(&process.clock));
    context.progress = Arc::new(Bars::new());
    let plan = plan(&context, &view, &request).await?;
    let report = restore(&context, &view, plan).await?;
    print_line(format_args!(
        "restored {}, last record of {}",
        report.target_text,
        format_time_ms(report.written_ms)
    ));
    report.missing.iter().for_each(|missing| print_line(format_args!("missing: {missing}")));
    let labels = view.server_at(report.written_ms).map(|server| server.external_labels.clone());
    Ok(Labels::from_pairs(labels.unwrap_or_default()).unwrap_or_else(|_| Labels::empty()))
}

/// Serves a restored directory until the process is told to stop.
async fn serve(
    args: &ServeArgs,
    process: Process,
    (directory, external_labels): (&Path, Labels),
    stop: Pin<&mut impl Future<Output = Result<(), Failure>>>,
) -> Result<(), Failure> {
    let http = bind("http-address", args.listen.http_address).await?;
    let grpc = bind("grpc-address", args.listen.grpc_address).await?;
    let addresses = Addresses { http: http.address(), grpc: grpc.address(), write: None };
    let connections = process.connections(args.listen.connections_max, args.query.query_timeout);
    let mut read_side = ReadSide::start(&process, (http, grpc), &connections, None);
    let path = directory.to_owned();
    let blocks = Arc::new(process.cpu.run(move || TsdbBlocks::open(&path)).await??);
    warn_of_log(directory);
    let (count, range) = (blocks.count(), blocks.range());
    let shown_as = (args.tenants.default_tenant.clone(), external_labels);
    let limits = args.query.limits();
    let selector = Selector::over_directory(blocks, shown_as, process.cpu.clone(), limits);
    read_side
        .open(&process, &reads(&process, selector, (&args.tenants, &args.query, &Memory::unlimited()), None));
    addresses.print("restore serve", ("directory", &directory.display().to_string()));
    print_line(format_args!(
        "{count} blocks from {} until {}; stop with Ctrl-C",
        format_time_ms(range.start_ms),
        format_time_ms(range.end_ms)
    ));

    tokio::select! {
        signal = stop => signal?,
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
