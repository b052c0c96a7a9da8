//! The command line: one file per subcommand, and the parts of a process put together.
//!
//! Every flag is also a key of the same name in the YAML file of `--config-file`; flags win. Everything is checked
//! before anything starts. Errors are one line on standard error, and the exit code tells what kind they are:
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | a defect |
//! | 2 | wrong use: a flag, key or value |
//! | 3 | what was asked for does not exist, or lies outside of what is kept |
//! | 4 | somebody else holds or changed it |
//! | 5 | damage, or something is missing; also of what was done, as confirmed, without it (a restore over a gap) |
//! | 6 | unavailable: try again |
//! | 7 | not confirmed |

mod archive;
mod archive_fleet;
mod archive_upkeep;
mod bench;
mod blocks;
mod blocks_verify;
mod bucket;
mod compose;
mod config_file;
mod encryption;
mod export;
mod flags;
mod job_kinds;
mod jobs;
mod lock;
mod log;
mod progress;
mod restore;
mod restore_progress;
mod restore_serve;
mod restore_tables;
mod rollback;
mod sql_view;
mod store;
mod write_log;
mod write_roles;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::model::ErrorKind;
use write_roles::WriteRole;

/// Long-term storage, backup and point-in-time recovery for Prometheus.
#[derive(Debug, Parser)]
#[command(name = "perennial", version, propagate_version = true, disable_help_subcommand = true)]
#[command(args_override_self = true)]
#[command(
    after_help = "Start with:\n  perennial standalone --data-dir ./data\n\nExit codes: 0 done, 1 defect, 2 wrong use, \
3 not found or outside of what is kept, 4 held or changed by somebody else, 5 damaged or incomplete, 6 unavailable, \
7 not confirmed."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Everything in one process on a local folder or a bucket.
    #[command(after_help = "Examples:\n  perennial standalone --data-dir /var/lib/perennial\n  \
perennial standalone --objstore.config-file bucket.yml --label 'cluster=\"eu-1\"'")]
    Standalone(write_roles::WriteRoleArgs),
    /// Takes remote write: durable log, head, blocks to the bucket; serves its fresh data over StoreAPI.
    #[command(
        after_help = "Example:\n  perennial receive --objstore.config-file bucket.yml --label 'receiver=\"0\"'"
    )]
    Receive(write_roles::WriteRoleArgs),
    /// Serves the blocks in the bucket over StoreAPI, remote read and the label APIs.
    #[command(after_help = "Example:\n  perennial store --objstore.config-file bucket.yml")]
    Store(store::StoreArgs),
    /// Archives live Prometheus servers.
    #[command(subcommand)]
    Archive(archive::ArchiveCommand),
    /// Sends a load to any remote-write endpoint and reports what it took.
    Bench(bench::BenchArgs),
    /// Shows what the object store is and does.
    #[command(subcommand)]
    Bucket(bucket::BucketCommand),
    /// Shows and verifies blocks of the newest catalog version.
    #[command(subcommand)]
    Blocks(blocks::BlocksCommand),
    /// Shows what lies in the durable logs.
    #[command(subcommand)]
    Log(log::LogCommand),
    /// Shows scheduled jobs and runs one now.
    #[command(subcommand)]
    Jobs(jobs::JobsCommand),
    /// Rolls a tenant back to a kept catalog version: undoes a bad import, a deletion or a wrong retention.
    Rollback(rollback::RollbackArgs),
    /// Exports stored samples as files of another program.
    #[command(subcommand)]
    Export(export::ExportCommand),
    /// Brings an archived Prometheus back to any second, and verifies data directories.
    #[command(subcommand)]
    Restore(restore::RestoreCommand),
    /// Prints SQL that creates views over the newest catalog version, of samples, histograms, exemplars and metadata.
    SqlView(sql_view::SqlViewArgs),
}

/// Why a command failed: what kind, and one line for a person.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: ErrorKind,
    message: String,
}

impl Failure {
    fn new(kind: ErrorKind, message: impl std::fmt::Display) -> Self {
        Self { kind, message: message.to_string() }
    }

    /// Makes a failure of an error and everything that caused it.
    fn of(kind: ErrorKind, error: &dyn std::error::Error) -> Self {
        Self { kind, message: crate::model::error_chain(error) }
    }
}

/// Makes a [`Failure`] of a module's error.
macro_rules! failure_from {
    ($($error:ty),+ $(,)?) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::of(error.kind(), &error)
            }
        })+
    };
}

failure_from!(
    crate::archive::ArchiveError,
    crate::block::BlockError,
    crate::bucket::BucketError,
    crate::catalog::CatalogError,
    crate::catalog::RollbackError,
    crate::envelope::EnvelopeError,
    crate::log::LogError,
    crate::receive::CutError,
    crate::receive::RecoverError,
    crate::restore::export::ExportError,
    crate::select::CacheError,
    crate::select::SelectError,
    crate::restore::RestoreError,
);

impl From<crate::runtime::CpuError> for Failure {
    fn from(error: crate::runtime::CpuError) -> Self {
        Self::new(ErrorKind::Internal, error)
    }
}

/// Writes a line to standard output; a reader that went away is no failure.
fn print_line(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Parses the arguments, runs the command and returns the exit code.
#[must_use]
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match parse(args.into_iter().collect()) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match run_command(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "error: {}", failure.message);
            ExitCode::from(failure.kind.exit_code())
        }
    }
}

/// Reads flags and, where one is named, the config file.
fn parse(args: Vec<OsString>) -> Result<Cli, clap::Error> {
    let matches = Cli::command().try_get_matches_from(&args)?;
    let merged = config_file::merge(&Cli::command(), &matches, args)?;
    let matches = match merged {
        Some(merged) => Cli::command().try_get_matches_from(merged).map_err(config_file::name_the_file)?,
        None => matches,
    };
    Cli::from_arg_matches(&matches)
}

fn run_command(command: Command) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("io")
        .enable_all()
        .build()
        .map_err(|e| Failure::new(ErrorKind::Unavailable, format!("cannot start threads: {e}")))?;
    let outcome = match command {
        Command::Standalone(args) => runtime.block_on(write_roles::run(WriteRole::Standalone, args)),
        Command::Receive(args) => runtime.block_on(write_roles::run(WriteRole::Receive, args)),
        Command::Store(args) => runtime.block_on(store::run(args)),
        Command::Archive(command) => runtime.block_on(archive::run(command)),
        Command::Bench(args) => runtime.block_on(bench::run(args)),
        Command::Bucket(command) => runtime.block_on(bucket::run(command)),
        Command::Blocks(command) => runtime.block_on(blocks::run(command)),
        Command::Log(command) => runtime.block_on(log::run(command)),
        Command::Jobs(command) => runtime.block_on(jobs::run(command)),
        Command::Rollback(args) => runtime.block_on(rollback::run(args)),
        Command::Export(command) => runtime.block_on(export::run(command)),
        Command::Restore(command) => runtime.block_on(restore::run_command(command)),
        Command::SqlView(args) => runtime.block_on(sql_view::run(args)),
    };
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    outcome
}
