//! `perennial archive run`: follows one or several Prometheus servers.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Deserialize;

use super::archive_fleet::Fleet;
use super::archive_upkeep::{Upkeep, UpkeepCommand, UpkeepMetrics};
use super::compose::{Base, bind, stop_signal};
use super::encryption::EncryptionArgs;
use super::flags::{CONNECTIONS_MAX, CommonArgs, positive_duration};
use super::jobs::{JobsArgs, scheduler};
use super::lock::LockArgs;
use super::{Failure, archive_upkeep, job_kinds, print_line};
use crate::archive::{ArchiverMetrics, ArchiverParts, ArchiverSettings};
use crate::catalog::CatalogSettings;
use crate::model::{ErrorKind, SourceName};
use crate::runtime::Shutdown;
use crate::server::{admin_routes, serve_http};

/// What can be done with the archiver.
#[derive(Debug, Subcommand)]
#[command(
    after_help = "Examples:\n  perennial archive run --source prod-a --prometheus.data-dir /var/lib/prometheus \\\n    \
--objstore.config-file bucket.yml\n  perennial archive verify prod-a --level L1 --objstore.config-file bucket.yml"
)]
#[expect(clippy::large_enum_variant, reason = "made once a process")]
pub(super) enum ArchiveCommand {
    /// Archives the data directory of a live Prometheus, second by second.
    #[command(
        after_help = "Examples:\n  perennial archive run --source prod-a --prometheus.data-dir /var/lib/prometheus \\\n    \
--prometheus.url http://127.0.0.1:9090 --objstore.config-file bucket.yml\n  perennial archive run --config-file archive.yml\n\n\
Several servers in archive.yml:\n  sources:\n    - {name: prod-a, prometheus.data-dir: /var/lib/prometheus-a}\n    \
- {name: prod-b, prometheus.data-dir: /var/lib/prometheus-b,\n       prometheus.url: 'http://127.0.0.1:9091'}"
    )]
    Run(Box<RunArgs>),
    #[command(flatten)]
    Upkeep(UpkeepCommand),
}

/// Flags of `archive run`.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    encryption: EncryptionArgs,
    /// Go on without encryption in an archive whose newest objects are encrypted. Without this such an archive is
    /// refused where no recipients are named.
    #[arg(long = "encryption.continue-plaintext", conflicts_with = "recipients_file")]
    continue_plaintext: bool,
    #[command(flatten)]
    lock: LockArgs,
    #[command(flatten)]
    jobs: JobsArgs,
    /// Name of the archive; each Prometheus has one of its own.
    #[arg(long = "source", value_name = "NAME", requires = "prometheus_data_dir")]
    source: Option<SourceName>,
    /// Data directory of the Prometheus, as in its --storage.tsdb.path. Below it only perennial-spool/ is written.
    #[arg(long = "prometheus.data-dir", id = "prometheus_data_dir", value_name = "DIR", requires = "source")]
    prometheus_data_dir: Option<PathBuf>,
    /// Where that Prometheus answers HTTP: asked for version, flags, external labels and when it was started. Default:
    /// not asked.
    #[arg(long = "prometheus.url", value_name = "URL", requires = "source")]
    prometheus_url: Option<String>,
    /// A further source as YAML, `{name, prometheus.data-dir, prometheus.url}`; in the config file a list of such.
    #[arg(long = "sources", value_name = "YAML", value_parser = source_entry)]
    sources: Vec<SourceEntry>,
    /// How often what was read is stored: the most that is lost with the machine, and two PUTs each time.
    #[arg(long = "flush", default_value = "1s", value_name = "DURATION", value_parser = positive_duration)]
    flush: Duration,
    /// How often the server's logs are looked at: how exactly the time of a record is known.
    #[arg(long = "poll", default_value = "50ms", value_name = "DURATION", value_parser = positive_duration)]
    poll: Duration,
    /// What one digest covers, of sample time: counts and hashes of every series' samples, against which drills prove
    /// a restore. Shorter: drills cover more of the newest samples, more bytes.
    #[arg(long = "digest.range", default_value = "1h", value_name = "DURATION", value_parser = positive_duration)]
    digest_range: Duration,
    /// Where HTTP listens: /metrics and probes.
    #[arg(long = "http-address", default_value = "127.0.0.1:10912", value_name = "ADDRESS")]
    http_address: SocketAddr,
}

/// A source in the config file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct SourceEntry {
    name: SourceName,
    #[serde(rename = "prometheus.data-dir")]
    data_dir: PathBuf,
    #[serde(rename = "prometheus.url", default)]
    url: Option<String>,
}

fn source_entry(text: &str) -> Result<SourceEntry, String> {
    serde_yaml_ng::from_str(text).map_err(|error| {
        format!(
            "{error}; write {{name: NAME, prometheus.data-dir: DIR}} and, if you like, prometheus.url: URL"
        )
    })
}

impl RunArgs {
    /// Returns what is to be archived.
    fn settings(&self) -> Result<Vec<ArchiverSettings>, Failure> {
        let first = self.source.clone().zip(self.prometheus_data_dir.clone());
        let first =
            first.map(|(name, data_dir)| SourceEntry { name, data_dir, url: self.prometheus_url.clone() });
        let entries: Vec<SourceEntry> = first.into_iter().chain(self.sources.iter().cloned()).collect();
        let invalid = |message: String| Err(Failure::new(ErrorKind::Invalid, message));
        if entries.is_empty() {
            let message =
                "nothing to archive: give --source and --prometheus.data-dir, or sources in the config file";
            return invalid(message.to_owned());
        }
        let (mut names, mut directories) = (BTreeSet::new(), BTreeSet::new());
        for entry in &entries {
            if !names.insert(&entry.name) {
                return invalid(format!(
                    "source {} is there twice: give each server a name of its own",
                    entry.name
                ));
            }
            if !directories.insert(&entry.data_dir) {
                let directory = entry.data_dir.display();
                return invalid(format!("{directory} is the data directory of two sources: one archives it"));
            }
        }
        let settings = |entry: SourceEntry| ArchiverSettings {
            source: entry.name,
            data_dir: entry.data_dir,
            prometheus_url: entry.url,
            flush: self.flush,
            poll: self.poll,
            digest_range: self.digest_range,
            continue_plaintext: self.continue_plaintext,
        };
        Ok(entries.into_iter().map(settings).collect())
    }
}

/// Runs an archive command.
pub(super) async fn run(command: ArchiveCommand) -> Result<(), Failure> {
    match command {
        ArchiveCommand::Run(args) => archive(&args).await,
        ArchiveCommand::Upkeep(command) => archive_upkeep::run(command).await,
    }
}

async fn archive(args: &RunArgs) -> Result<(), Failure> {
    args.common.start_logging();
    let (settings, jobs) = (args.settings()?, args.jobs.read()?);
    // The store may be away: the archivers keep what is there, and check the store once it answers.
    let base = Base::start(&args.common, CatalogSettings::default(), false).await?;
    base.announce_bucket();
    let envelope = args.encryption.sealing(&base.random)?;
    let bucket = args.lock.apply_unchecked(base.bucket.clone(), &base.clock)?;
    let upkeep = Upkeep::new(&base, bucket.clone(), envelope.clone());
    let metrics = UpkeepMetrics::registered(&base.metrics);
    let kinds = archive_upkeep::provide(job_kinds::declared(), &upkeep, Some(args.lock.mode.of()), &metrics);
    let scheduler = scheduler(&base, &args.common, jobs, &kinds).await?;
    let http = bind("http-address", args.http_address).await?;
    let address = http.address();
    let routes = admin_routes(base.metrics.clone(), base.readiness.clone(), None);
    let connections = base.connections(CONNECTIONS_MAX, Duration::ZERO);
    let shutdown = base.shutdown.clone();
    let mut listener =
        tokio::spawn(async move { serve_http((http, "http"), routes, &connections, shutdown).await });
    let parts = ArchiverParts {
        bucket,
        envelope,
        cpu: base.cpu.clone(),
        clock: Arc::clone(&base.clock),
        random: base.random.clone(),
        metrics: ArchiverMetrics::registered(&base.metrics),
    };
    let jobs = tokio::spawn(scheduler.run(base.shutdown.clone()));
    let stop = Shutdown::new();
    let names: Vec<String> = settings.iter().map(|settings| settings.source.to_string()).collect();
    let mut fleet = Fleet::start(settings, &parts, &stop, &base.readiness).await;
    print_line(format_args!("perennial {} archive", env!("CARGO_PKG_VERSION")));
    print_line(format_args!("  sources       {}", names.join(", ")));
    print_line(format_args!("  HTTP          http://{address}"));
    print_line(format_args!("  bucket        {}", base.bucket.location()));

    let mut outcome = Ok(());
    tokio::select! {
        signal = stop_signal() => signal?,
        _ = &mut listener => {
            outcome = Err(Failure::new(ErrorKind::Internal, "the HTTP listener has ended; restart the process"));
        }
        ended = fleet.ended() => outcome = ended,
    }
    base.readiness.set(false);
    stop.start();
    // The others store what they have, whatever ended the first one.
    outcome = outcome.and(fleet.ended().await);
    base.shutdown.start();
    jobs.await.map_err(|e| Failure::new(ErrorKind::Internal, e))?;
    if !listener.is_finished() {
        let _ = listener.await;
    }
    print_line("stopped");
    outcome
}
