//! `perennial archive` beyond the archiver: roll-up, retention, holds, verification, locks. Each is also a kind of job.
//!
//! The commands and the jobs share the functions of `work`; this file has the flags, `print` what people read.

mod jobs;
mod metrics;
mod print;
mod work;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use super::compose::Base;
use super::encryption::EncryptionArgs;
use super::flags::{CommonArgs, Output, duration, positive_duration};
use super::lock::{LockArgs, ModeArgs};
use super::restore_progress::Bars;
use super::{Failure, print_line};
use crate::archive::{RetentionPolicy, VerifyLevel, VerifyProgress, VerifyReport, VerifySettings};
use crate::model::{ErrorKind, SourceName, Ulid, parse_instant_ms};
use crate::restore::{DrillReport, DrillSettings, NoProgress, Progress};

pub(super) use jobs::provide;
pub(super) use metrics::UpkeepMetrics;
pub(super) use work::Upkeep;

const DAY: Duration = Duration::from_secs(86_400);

/// What keeps an archive in order.
#[derive(Debug, Subcommand)]
pub(super) enum UpkeepCommand {
    /// Joins settled entries into chapters and small pieces into large ones: fewer objects, fewer bytes.
    #[command(after_help = "Example:\n  perennial archive roll-up prod-a --objstore.config-file bucket.yml")]
    RollUp(StoringArgs),
    /// Deletes what neither the window nor a restore point needs, in two phases: marked now, deleted after a delay.
    #[command(
        after_help = "Examples:\n  perennial archive retain prod-a --window 7d --dry-run --objstore.config-file bucket.yml\n  \
perennial archive retain prod-a --window 14d --daily 35 --weekly 12 --monthly 24 \\\n    --objstore.config-file bucket.yml"
    )]
    Retain(RetainArgs),
    /// Keeps every second of a range of time, whatever retention says, until it is released.
    #[command(after_help = "Example:\n  perennial archive hold prod-a --from 2026-11-22T14:00:00Z \
--to 2026-11-22T15:00:00Z \\\n    --reason 'incident 4711' --objstore.config-file bucket.yml")]
    Hold(HoldArgs),
    /// Ends a hold.
    #[command(after_help = "Example:\n  perennial archive release prod-a 01M81CS08PS78Y0A1MAFVX1ZS4 \
\\\n    --reason 'incident 4711 is closed' --objstore.config-file bucket.yml")]
    Release(ReleaseArgs),
    /// Lists the holds that were not released.
    #[command(after_help = "Example:\n  perennial archive holds prod-a --objstore.config-file bucket.yml")]
    Holds(PlainArgs),
    /// Checks that an archive is whole and can be read. Exit code 5 where it is not, each object named.
    #[command(
        after_help = "Examples:\n  perennial archive verify prod-a --level L1 --window 7d --objstore.config-file bucket.yml\n  \
perennial archive verify prod-a --level L3 --encryption.identity-file key.txt --output json \\\n    \
--objstore.config-file bucket.yml"
    )]
    Verify(VerifyArgs),
    /// Restores a random moment, starts the real Prometheus on it, and compares what it answers with what was recorded.
    #[command(
        after_help = "Examples:\n  perennial archive drill prod-a --prometheus /usr/bin/prometheus \\\n    --objstore.config-file bucket.yml\n  \
perennial archive drill prod-a --seed 4711 --to /var/lib/perennial/drill --output json \\\n    \
--objstore.config-file bucket.yml"
    )]
    Drill(DrillArgs),
    /// Locks what is needed for longer (S3 Object Lock), so that retention decides what goes and nobody else.
    #[command(
        after_help = "Example:\n  perennial archive extend-locks prod-a --retain 8d --objstore.config-file bucket.yml"
    )]
    ExtendLocks(ExtendArgs),
}

/// Flags of every command on one archive.
#[derive(Debug, Args)]
pub(super) struct PlainArgs {
    /// The archive's source.
    #[arg(value_name = "SOURCE")]
    source: SourceName,
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    encryption: EncryptionArgs,
    /// How to print.
    #[arg(long, default_value = "table", value_enum)]
    output: Output,
}

/// Flags of every command that stores something.
#[derive(Debug, Args)]
pub(super) struct StoringArgs {
    #[command(flatten)]
    plain: PlainArgs,
    #[command(flatten)]
    lock: LockArgs,
}

/// Flags of `archive retain`.
#[derive(Debug, Args)]
pub(super) struct RetainArgs {
    #[command(flatten)]
    storing: StoringArgs,
    /// Every second of so long before the newest entry stays restorable.
    #[arg(long, default_value = "7d", value_name = "DURATION", value_parser = positive_duration)]
    window: Duration,
    /// Beyond the window, the newest restore point of each of so many hours before it.
    #[arg(long, default_value_t = 48, value_name = "N")]
    hourly: u32,
    /// Of so many days.
    #[arg(long, default_value_t = 35, value_name = "N")]
    daily: u32,
    /// Of so many weeks, which begin on Monday (UTC).
    #[arg(long, default_value_t = 12, value_name = "N")]
    weekly: u32,
    /// Of so many months.
    #[arg(long, default_value_t = 24, value_name = "N")]
    monthly: u32,
    /// Of so many years.
    #[arg(long, default_value_t = 0, value_name = "N")]
    yearly: u32,
    /// From mark to deletion. Also the age below which nothing is marked, so at least as long as an upload takes.
    #[arg(long = "delete-delay", default_value = "24h", value_name = "DURATION", value_parser = duration)]
    delete_delay: Duration,
    /// Only say what would go.
    #[arg(long = "dry-run")]
    dry_run: bool,
}

/// Flags of `archive hold`.
#[derive(Debug, Args)]
pub(super) struct HoldArgs {
    #[command(flatten)]
    storing: StoringArgs,
    /// The first moment: RFC 3339, Unix, or relative such as -2h. Not before the oldest base.
    #[arg(long, value_name = "T", allow_hyphen_values = true)]
    from: String,
    /// The last moment, in the same forms. Not after the newest entry.
    #[arg(long, value_name = "T", allow_hyphen_values = true)]
    to: String,
    /// Why, for whoever reads it later.
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// Flags of `archive release`.
#[derive(Debug, Args)]
pub(super) struct ReleaseArgs {
    #[command(flatten)]
    storing: StoringArgs,
    /// The hold's id, as `archive holds` shows it.
    #[arg(value_name = "ID")]
    id: Ulid,
    /// Why, for whoever reads it later.
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// Flags of `archive verify`.
#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    plain: PlainArgs,
    /// L1 lists: chain, inventory, continuity. L2 also hashes a share of the objects. L3 reads and decodes everything.
    #[arg(long, value_name = "LEVEL")]
    level: VerifyLevel,
    /// L2 reads one part out of so many; 1 reads all.
    #[arg(long, default_value_t = 30, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    share: u64,
    /// The part that L2 reads, from 1 to --share: 1 to N one after the other read everything once. Default: a random
    /// one, which is printed. A job takes them in turn.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    turn: Option<u64>,
    /// Also a finding: not every second of so long before the newest entry can be restored. Default: not looked at.
    #[arg(long, value_name = "DURATION", value_parser = positive_duration)]
    window: Option<Duration>,
}

/// Flags of `archive drill`.
#[derive(Debug, Args)]
pub(super) struct DrillArgs {
    #[command(flatten)]
    plain: PlainArgs,
    /// The Prometheus program to start on what was restored.
    #[arg(long, value_name = "PATH", default_value = "prometheus")]
    prometheus: PathBuf,
    /// Directory to restore below; it needs room for the whole source. Default: the system's directory for such.
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// What decides the time: the same seed and archive give the same one. Default: a random one, which is printed.
    #[arg(long, value_name = "N", conflicts_with = "as_of")]
    seed: Option<u64>,
    /// This time in place of a random one: RFC 3339, Unix, or relative such as -2h.
    #[arg(long = "as-of", value_name = "T", allow_hyphen_values = true)]
    as_of: Option<String>,
}

/// Flags of `archive extend-locks`.
#[derive(Debug, Args)]
pub(super) struct ExtendArgs {
    #[command(flatten)]
    plain: PlainArgs,
    #[command(flatten)]
    mode: ModeArgs,
    /// From now on, what is needed stays locked for so long.
    #[arg(long, value_name = "DURATION", value_parser = positive_duration)]
    retain: Duration,
}

pub(super) async fn run(command: UpkeepCommand) -> Result<(), Failure> {
    match command {
        UpkeepCommand::RollUp(args) => roll_up(&args).await,
        UpkeepCommand::Retain(args) => retain(&args).await,
        UpkeepCommand::Hold(args) => hold(&args).await,
        UpkeepCommand::Release(args) => release(&args).await,
        UpkeepCommand::Holds(args) => holds(&args).await,
        UpkeepCommand::Verify(args) => verify(&args).await,
        UpkeepCommand::Drill(args) => drill(&args).await,
        UpkeepCommand::ExtendLocks(args) => extend_locks(&args).await,
    }
}

impl StoringArgs {
    async fn start(&self, seals: bool) -> Result<Upkeep, Failure> {
        self.plain.common.start_logging();
        let base = Base::inspect(&self.plain.common).await?;
        let encryption = &self.plain.encryption;
        let envelope = if seals { encryption.sealing(&base.random)? } else { encryption.reading()? };
        let bucket = self.lock.apply(base.bucket.clone(), &base.clock).await?;
        Ok(Upkeep::new(&base, bucket, envelope))
    }
}

impl PlainArgs {
    async fn start(&self) -> Result<Upkeep, Failure> {
        self.common.start_logging();
        let base = Base::inspect(&self.common).await?;
        Ok(Upkeep::new(&base, base.bucket.clone(), self.encryption.reading()?))
    }

    fn is_json(&self) -> bool {
        self.output == Output::Json
    }

    fn print<T: serde::Serialize>(&self, value: &T, text: impl FnOnce(&T) -> String) {
        if self.is_json() { print_line(json_text(value)) } else { print_line(text(value)) }
    }

    /// Shows that something goes on; only where somebody looks.
    fn spinner(&self, what: &'static str) -> ProgressBar {
        if self.is_json() {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new_spinner().with_message(what);
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }
}

fn json_text<T: serde::Serialize>(value: &T) -> String {
    // Reports are plain data; what cannot be written as JSON would be a defect, seen as null.
    let value = serde_json::to_value(value).unwrap_or_default();
    format!("{value:#}")
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

async fn roll_up(args: &StoringArgs) -> Result<(), Failure> {
    let upkeep = args.start(true).await?;
    let args = &args.plain;
    let spinner = args.spinner("rolling up");
    let report = upkeep.roll_up(&args.source).await;
    spinner.finish_and_clear();
    args.print(&report?, print::roll_up);
    Ok(())
}

impl RetainArgs {
    fn policy(&self) -> RetentionPolicy {
        let Self { hourly, daily, weekly, monthly, yearly, .. } = *self;
        RetentionPolicy { window_ms: milliseconds(self.window), hourly, daily, weekly, monthly, yearly }
    }
}

async fn retain(args: &RetainArgs) -> Result<(), Failure> {
    let (plain, policy) = (&args.storing.plain, args.policy());
    if args.delete_delay < DAY && !args.dry_run {
        tracing::warn!("--delete-delay is below 1d: who deletes by mistake has less time to notice");
    }
    let upkeep = args.storing.start(false).await?;
    let delay_ms = milliseconds(args.delete_delay);
    let spinner = plain.spinner("looking for what may go");
    if args.dry_run {
        let plan = upkeep.retention_plan(&plain.source, &policy, delay_ms).await;
        spinner.finish_and_clear();
        plain.print(&plan?, print::retention_plan);
    } else {
        let report = upkeep.retain(&plain.source, &policy, delay_ms).await;
        spinner.finish_and_clear();
        plain.print(&report?, print::retention);
    }
    Ok(())
}

async fn hold(args: &HoldArgs) -> Result<(), Failure> {
    let upkeep = args.storing.start(false).await?;
    let now_ms = upkeep.now_ms();
    let time = |flag: &str, text: &str| {
        parse_instant_ms(text, now_ms).map_err(|e| Failure::new(ErrorKind::Invalid, format!("{flag}: {e}")))
    };
    let range = (time("--from", &args.from)?, time("--to", &args.to)?);
    let hold = upkeep.hold(&args.storing.plain.source, range, &args.reason).await?;
    args.storing.plain.print(&hold, |hold| print::holds(std::slice::from_ref(hold)));
    Ok(())
}

async fn release(args: &ReleaseArgs) -> Result<(), Failure> {
    let upkeep = args.storing.start(false).await?;
    let release = upkeep.release(&args.storing.plain.source, args.id, &args.reason).await?;
    args.storing.plain.print(&release, |_| format!("released {}", args.id));
    Ok(())
}

async fn holds(args: &PlainArgs) -> Result<(), Failure> {
    let upkeep = args.start().await?;
    let holds = upkeep.holds(&args.source).await?;
    args.print(&holds, |holds| print::holds(holds));
    Ok(())
}

async fn verify(args: &VerifyArgs) -> Result<(), Failure> {
    let share = args.share;
    if let Some(turn) = args.turn.filter(|turn| *turn > share) {
        let message =
            format!("--turn {turn}: there are {share} parts; name one from 1 to {share}, or raise --share");
        return Err(Failure::new(ErrorKind::Invalid, message));
    }
    let upkeep = args.plain.start().await?;
    let turn = args.turn.map_or_else(|| upkeep.any_turn(share), |turn| turn - 1);
    let window_ms = args.window.map(milliseconds);
    let settings = VerifySettings { level: args.level, share, turn, window_ms };
    let progress = VerifyProgress::default();
    let bar = if args.plain.is_json() { ProgressBar::hidden() } else { verify_bar(&progress) };
    let report = upkeep.verify(&args.plain.source, settings, &progress).await;
    bar.finish_and_clear();
    let report = report?;
    args.plain.print(&report, print::verification);
    sound(&report)
}

/// Follows a verification until it ends.
fn verify_bar(progress: &VerifyProgress) -> ProgressBar {
    let bar = ProgressBar::new(0).with_message("verifying");
    let template = "{spinner} {msg} {bytes} of {total_bytes} {bytes_per_sec} {eta}";
    let bar = match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    };
    bar.enable_steady_tick(Duration::from_millis(200));
    let (shown, progress) = (bar.downgrade(), progress.clone());
    tokio::spawn(async move {
        while let Some(bar) = shown.upgrade().filter(|bar| !bar.is_finished()) {
            let (read, all) = progress.bytes();
            bar.set_length(all.max(read));
            bar.set_position(read);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    bar
}

/// Turns findings into the failure that the exit code tells.
fn sound(report: &VerifyReport) -> Result<(), Failure> {
    if report.is_sound() {
        return Ok(());
    }
    let kind = if report.findings.is_empty() { ErrorKind::Unavailable } else { ErrorKind::Corrupt };
    Err(Failure::new(kind, print::verdict(report)))
}

async fn drill(args: &DrillArgs) -> Result<(), Failure> {
    let upkeep = args.plain.start().await?;
    let as_of_ms = args.as_of.as_ref().map(|text| {
        parse_instant_ms(text, upkeep.now_ms())
            .map_err(|e| Failure::new(ErrorKind::Invalid, format!("--as-of: {e}")))
    });
    let settings = DrillSettings {
        prometheus: args.prometheus.clone(),
        to: args.to.clone().unwrap_or_else(std::env::temp_dir),
        seed: args.seed.unwrap_or_else(|| upkeep.any_seed()),
        as_of_ms: as_of_ms.transpose()?,
    };
    let progress: Arc<dyn Progress> =
        if args.plain.is_json() { Arc::new(NoProgress) } else { Arc::new(Bars::new()) };
    let report = upkeep.drill(&args.plain.source, &settings, progress).await?;
    args.plain.print(&report, print::drill);
    passed(&report)
}

/// Turns differences into the failure that the exit code tells. Nothing to compare may pass: ranges are yet to be
/// recorded.
fn passed(report: &DrillReport) -> Result<(), Failure> {
    if report.is_sound() {
        return Ok(());
    }
    let kind = if report.is_damaged() { ErrorKind::Corrupt } else { ErrorKind::Unavailable };
    Err(Failure::new(kind, print::drill_verdict(report)))
}

async fn extend_locks(args: &ExtendArgs) -> Result<(), Failure> {
    let upkeep = args.plain.start().await?;
    let spinner = args.plain.spinner("extending locks");
    let mode = args.mode.of();
    let report = upkeep.extend_locks(&args.plain.source, mode, milliseconds(args.retain)).await;
    spinner.finish_and_clear();
    args.plain.print(&report?, print::locks);
    Ok(())
}
