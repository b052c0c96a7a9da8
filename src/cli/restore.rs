//! `perennial restore`: bring a Prometheus back to any second.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::encryption::EncryptionArgs;
use super::flags::{CommonArgs, LogFormat, Output, bytes, start_logging};
use super::restore_progress::Bars;
use super::restore_tables::{
    check_table, find_table, merge_table, plan_table, report_table, sources_table, status_table,
};
use super::{Failure, print_line};
use crate::archive::{Archive, ArchiveView, Target, sources};
use crate::bucket::Bucket;
use crate::model::{ErrorKind, SourceName, parse_instant_ms};
use crate::restore::{
    EventFilter, HeadMode, MergeRequest, NoProgress, Progress, Replica, RestoreContext, RestoreRequest,
    Selector, ServerVersion, check_dir, complete_interrupted, find_events, merge_replicas, plan, run, status,
};
use crate::runtime::{Clock, Cpu, Metrics, SystemClock};
use crate::store::parse_selector;

/// Subcommands of `restore`.
#[derive(Debug, Subcommand)]
#[command(
    after_help = "In an incident:\n  perennial restore find prod-a --deletes --objstore.config-file bucket.yml\n  \
perennial restore plan prod-a --as-of 2026-11-22T14:02:59Z --to /var/lib/prometheus.new \\\n    \
--objstore.config-file bucket.yml\n  \
perennial restore run prod-a --as-of 2026-11-22T14:02:59Z --to /var/lib/prometheus.new \\\n    \
--objstore.config-file bucket.yml\n\n\
docs/operations/restore.md is the page for it."
)]
pub(super) enum RestoreCommand {
    /// Shows what can be restored: window, timelines, gaps, size.
    Status(StatusArgs),
    /// Lists deletes, restarts, repairs and lost blocks, each with the `--as-of` that undoes it.
    Find(FindArgs),
    /// Shows what a restore would do: position, bytes, time, room, warnings. Changes nothing.
    Plan(PlanArgs),
    /// Restores a moment into a data directory.
    Run(RunArgs),
    /// Verifies a data directory: every checksum of blocks, WAL, WBL and checkpoints. Changes nothing.
    Check(CheckArgs),
    /// Serves a restored moment read-only, for a look before the decision.
    Serve(super::restore_serve::ServeArgs),
}

/// Flags of what reads an archive.
#[derive(Debug, Args)]
pub(super) struct ArchiveArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    encryption: EncryptionArgs,
    /// How to print.
    #[arg(long, default_value = "table", value_enum)]
    output: Output,
}

/// Flags of `restore status`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  perennial restore status --objstore.config-file bucket.yml\n  \
perennial restore status prod-a --objstore.config-file bucket.yml --output json")]
pub(super) struct StatusArgs {
    #[command(flatten)]
    archive: ArchiveArgs,
    /// The source; all of them where none is given.
    #[arg(value_name = "SOURCE")]
    source: Option<SourceName>,
}

/// Flags of `restore find`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  perennial restore find prod-a --deletes --since -24h --objstore.config-file bucket.yml"
)]
pub(super) struct FindArgs {
    #[command(flatten)]
    archive: ArchiveArgs,
    /// The source.
    #[arg(value_name = "SOURCE")]
    source: SourceName,
    /// Series that were deleted.
    #[arg(long)]
    deletes: bool,
    /// Starts of the server.
    #[arg(long)]
    restarts: bool,
    /// Repairs of the log, rewritten segments and gaps.
    #[arg(long)]
    repairs: bool,
    /// Blocks that went away, were replaced or could not be read.
    #[arg(long)]
    blocks: bool,
    /// Only what happened since then: RFC 3339, Unix, or relative such as -24h.
    #[arg(long, value_name = "T", allow_hyphen_values = true)]
    since: Option<String>,
}

/// Flags that say what is restored and how.
#[derive(Debug, Args)]
pub(super) struct TargetArgs {
    /// The source.
    #[arg(value_name = "SOURCE")]
    source: SourceName,
    /// What the server knew at T: RFC 3339, Unix, relative such as -15m, or `latest`. Later deletes are undone.
    #[arg(
        long = "as-of",
        value_name = "T",
        allow_hyphen_values = true,
        conflicts_with = "until",
        required_unless_present = "until"
    )]
    as_of: Option<String>,
    /// The newest state without samples after T, in the forms of --as-of but `latest`. Later deletes stay done.
    #[arg(long, value_name = "T", allow_hyphen_values = true)]
    until: Option<String>,
    /// Only this timeline; `restore status` lists them. Default: the newest that had begun by T, with --until the newest.
    #[arg(long, value_name = "N")]
    timeline: Option<u32>,
    /// Brings an existing directory to the target's state: files that are right already are kept.
    #[arg(long)]
    delta: bool,
    /// Only series that this selector takes. May be repeated: a series needs one of them. Default: all.
    #[arg(long = "match", value_name = "SELECTOR")]
    matches: Vec<String>,
    /// Fetches at most so many bytes a second, such as 50MiB. Default: no limit.
    #[arg(long, value_name = "RATE", value_parser = bytes)]
    limit: Option<usize>,
    /// What becomes of the samples that the server had in memory: the log that it replays, or blocks; auto takes blocks
    /// from half a million samples on.
    #[arg(long, value_name = "MODE", default_value = "auto", value_parser = ["auto", "wal", "blocks"])]
    head: String,
    /// The version of Prometheus that has to read the directory, such as 2.42. Default: the one that wrote it.
    #[arg(long = "for-version", value_name = "VERSION")]
    for_version: Option<ServerVersion>,
    /// Throws away what an unfinished restore of something else has fetched.
    #[arg(long)]
    restart: bool,
}

/// Flags of `restore plan`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  perennial restore plan prod-a --as-of 2026-11-22T14:02:59Z --to /var/lib/prometheus.new \\\n    \
--objstore.config-file bucket.yml"
)]
pub(super) struct PlanArgs {
    #[command(flatten)]
    archive: ArchiveArgs,
    #[command(flatten)]
    target: TargetArgs,
    /// The directory to make: its disk is looked at, and what of it is there already.
    #[arg(long, value_name = "DIR", default_value = "./restored")]
    to: PathBuf,
}

/// Flags of `restore run`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  perennial restore run prod-a --as-of 2026-11-22T14:02:59Z --to /var/lib/prometheus.new \\\n    \
--objstore.config-file bucket.yml\n  perennial restore run prod-a --until -15m --to /tmp/look --match '{job=\"api\"}' \\\n    \
--objstore.config-file bucket.yml\n  perennial restore run prod-a --as-of latest --to /var/lib/prometheus.new \\\n    --merge-replicas prod-b \
--objstore.config-file bucket.yml\n\nStart it with:\n  prometheus --storage.tsdb.path /var/lib/prometheus.new ..."
)]
pub(super) struct RunArgs {
    #[command(flatten)]
    archive: ArchiveArgs,
    #[command(flatten)]
    target: TargetArgs,
    /// The directory to make. It appears when it is complete.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Confirms what the plan asks for: an existing directory that is replaced, records that are missing.
    #[arg(long)]
    yes: bool,
    /// Fills holes (silences of more than two scrape intervals) from the archive of the other replica of an HA pair.
    #[arg(long = "merge-replicas", value_name = "OTHER_SOURCE", conflicts_with = "delta")]
    merge_replicas: Option<SourceName>,
    /// The external label in which the two replicas differ.
    #[arg(
        long = "replica-label",
        value_name = "LABEL",
        default_value = "replica",
        requires = "merge_replicas"
    )]
    replica_label: String,
}

/// Flags of `restore check`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  perennial restore check /var/lib/prometheus.new")]
pub(super) struct CheckArgs {
    /// A data directory that no Prometheus is using.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// What is logged: error, warn, info, debug or trace.
    #[arg(long = "log.level", default_value = "info", value_name = "LEVEL")]
    log_level: String,
    /// How to print.
    #[arg(long, default_value = "table", value_enum)]
    output: Output,
}

pub(super) async fn run_command(command: RestoreCommand) -> Result<(), Failure> {
    match command {
        RestoreCommand::Status(args) => show_status(args).await,
        RestoreCommand::Find(args) => find(args).await,
        RestoreCommand::Plan(args) => show_plan(args).await,
        RestoreCommand::Run(args) => run_restore(args).await,
        RestoreCommand::Check(args) => check(args).await,
        RestoreCommand::Serve(args) => super::restore_serve::run(args).await,
    }
}

/// What every subcommand on an archive has.
struct Opened {
    bucket: Bucket,
    encryption: EncryptionArgs,
    clock: Arc<SystemClock>,
    output: Output,
}

impl Opened {
    fn new(args: ArchiveArgs) -> Result<Self, Failure> {
        args.common.start_logging();
        args.common.check_local_bucket()?;
        let bucket = Bucket::open(&args.common.bucket_config()?, &Metrics::new())?;
        Ok(Self { bucket, encryption: args.encryption, clock: SystemClock::new(), output: args.output })
    }

    fn archive(&self, source: &SourceName) -> Result<Archive, Failure> {
        Ok(Archive::new(self.bucket.clone(), self.encryption.opening()?, source.clone()))
    }

    async fn load(&self, source: &SourceName) -> Result<(Archive, ArchiveView), Failure> {
        let archive = self.archive(source)?;
        let view = archive.load().await?;
        Ok((archive, view))
    }

    fn context(&self, archive: Archive) -> Result<RestoreContext, Failure> {
        let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let clock: Arc<dyn Clock> = Arc::<SystemClock>::clone(&self.clock);
        Ok(RestoreContext::new(archive, Cpu::start(threads)?, threads, clock))
    }

    fn print(&self, value: &impl Serialize, table: impl FnOnce() -> String) {
        print_output(self.output, value, table);
    }
}

fn print_output(output: Output, value: &impl Serialize, table: impl FnOnce() -> String) {
    match output {
        // Plain data: what cannot be written as JSON would be a defect, seen as null.
        Output::Json => print_line(format!("{:#}", serde_json::to_value(value).unwrap_or_default())),
        Output::Table => print_line(table()),
    }
}

async fn show_status(args: StatusArgs) -> Result<(), Failure> {
    let (opened, source) = (Opened::new(args.archive)?, args.source);
    let Some(source) = source else {
        let mut all = Vec::new();
        for source in sources(&opened.bucket).await? {
            let (_, view) = opened.load(&source).await?;
            all.push(status(&view, opened.clock.now_ms()));
        }
        opened.print(&all, || sources_table(&all));
        return Ok(());
    };
    let (_, view) = opened.load(&source).await?;
    let status = status(&view, opened.clock.now_ms());
    opened.print(&status, || status_table(&status));
    Ok(())
}

async fn find(args: FindArgs) -> Result<(), Failure> {
    let opened = Opened::new(args.archive)?;
    let since_ms = match &args.since {
        Some(since) => instant("--since", since, opened.clock.now_ms())?,
        None => i64::MIN,
    };
    let (_, view) = opened.load(&args.source).await?;
    let chosen = [
        (args.deletes, EventFilter::Deletes),
        (args.restarts, EventFilter::Restarts),
        (args.repairs, EventFilter::Repairs),
        (args.blocks, EventFilter::Blocks),
    ];
    let filters: Vec<EventFilter> =
        chosen.into_iter().filter(|(on, _)| *on).map(|(_, filter)| filter).collect();
    let events = find_events(&view, &filters, since_ms);
    opened.print(&events, || find_table(&events));
    Ok(())
}

async fn show_plan(args: PlanArgs) -> Result<(), Failure> {
    let opened = Opened::new(args.archive)?;
    let (context, view, request) = prepare(&opened, &args.target, args.to, false).await?;
    let plan = plan(&context, &view, &request).await?;
    opened.print(&plan, || plan_table(&plan));
    Ok(())
}

type Prepared = (RestoreContext, ArchiveView, RestoreRequest);

async fn prepare(
    opened: &Opened,
    target: &TargetArgs,
    to: PathBuf,
    confirmed: bool,
) -> Result<Prepared, Failure> {
    let (archive, view) = opened.load(&target.source).await?;
    let context = opened.context(archive)?;
    let request = request(target, to, confirmed, &view, opened.clock.now_ms())?;
    Ok((context, view, request))
}

async fn run_restore(args: RunArgs) -> Result<(), Failure> {
    let opened = Opened::new(args.archive)?;
    if let Some(other) = &args.merge_replicas {
        let merged = (other, args.replica_label);
        return run_merge(&opened, &args.target, args.to, args.yes, merged).await;
    }
    let (mut context, view, request) = prepare(&opened, &args.target, args.to, args.yes).await?;
    let report = match complete_interrupted(&context, &request)? {
        Some(report) => report,
        None => {
            let plan = plan(&context, &view, &request).await?;
            if !args.yes && !plan.to_confirm.is_empty() {
                opened.print(&plan, || plan_table(&plan));
            }
            context.progress = progress(opened.output);
            run(&context, &view, plan).await?
        }
    };
    opened.print(&report, || report_table(&report));
    match report.shortcoming() {
        None => Ok(()),
        Some(kind) => {
            let message = format!("restored, but incomplete: {}", report.missing.join("; "));
            Err(Failure::new(kind, message))
        }
    }
}

async fn run_merge(
    opened: &Opened,
    target: &TargetArgs,
    to: PathBuf,
    confirmed: bool,
    (other, replica_label): (&SourceName, String),
) -> Result<(), Failure> {
    let (archive, view) = opened.load(&target.source).await?;
    let (other_archive, other_view) = opened.load(other).await?;
    let (mut context, mut other_context) = (opened.context(archive)?, opened.context(other_archive)?);
    context.progress = progress(opened.output);
    other_context.progress = Arc::clone(&context.progress);
    let request = request(target, to, confirmed, &view, opened.clock.now_ms())?;
    let first = Replica { context: &context, view: &view };
    let other = Replica { context: &other_context, view: &other_view };
    let report = merge_replicas(first, other, MergeRequest { request, replica_label }).await?;
    opened.print(&report, || merge_table(&report));
    if report.missing.is_empty() {
        return Ok(());
    }
    let message = format!("restored, but incomplete: {}", report.missing.join("; "));
    Err(Failure::new(ErrorKind::Incomplete, message))
}

fn progress(output: Output) -> Arc<dyn Progress> {
    match output {
        Output::Table => Arc::new(Bars::new()),
        Output::Json => Arc::new(NoProgress),
    }
}

async fn check(args: CheckArgs) -> Result<(), Failure> {
    start_logging(&args.log_level, LogFormat::Logfmt);
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let cpu = Cpu::start(threads)?;
    let report = check_dir(&args.dir, &cpu, threads, &progress(args.output)).await?;
    print_output(args.output, &report, || check_table(&report));
    match report.findings.len() {
        0 => Ok(()),
        count => {
            let message = format!("{} is damaged: {count} findings", args.dir.display());
            Err(Failure::new(ErrorKind::Corrupt, message))
        }
    }
}

fn request(
    args: &TargetArgs,
    to: PathBuf,
    confirmed: bool,
    view: &ArchiveView,
    now_ms: i64,
) -> Result<RestoreRequest, Failure> {
    let target = match (&args.as_of, &args.until) {
        (Some(latest), _) if latest == "latest" => Target::AsOf(view.last_made.wall_ms),
        (Some(as_of), _) => Target::AsOf(instant("--as-of", as_of, now_ms)?),
        (None, Some(until)) => Target::Until(instant("--until", until, now_ms)?),
        (None, None) => return Err(Failure::new(ErrorKind::Invalid, "give --as-of or --until")),
    };
    let mut selectors = Vec::new();
    for text in &args.matches {
        let matchers = parse_selector(text)
            .map_err(|e| Failure::new(ErrorKind::Invalid, format!("--match {text:?}: {e}")))?;
        selectors.push(Selector::new(text.clone(), matchers));
    }
    let text = args.as_of.as_ref().or(args.until.as_ref()).map_or("", String::as_str);
    Ok(RestoreRequest {
        target_moves: text == "latest" || moves(text, now_ms),
        timeline: args.timeline,
        head: match args.head.as_str() {
            "wal" => HeadMode::Wal,
            "blocks" => HeadMode::Blocks,
            _ => HeadMode::Auto,
        },
        selectors,
        for_version: args.for_version,
        delta: args.delta,
        restart: args.restart,
        confirmed,
        limit_bytes_per_second: args.limit.map(|limit| limit as u64),
        ..RestoreRequest::new(target, to)
    })
}

/// Returns whether a time depends on when it is read.
fn moves(text: &str, now_ms: i64) -> bool {
    parse_instant_ms(text, now_ms).ok() != parse_instant_ms(text, now_ms.saturating_add(1)).ok()
}

fn instant(flag: &str, text: &str, now_ms: i64) -> Result<i64, Failure> {
    parse_instant_ms(text, now_ms).map_err(|e| Failure::new(ErrorKind::Invalid, format!("{flag}: {e}")))
}
