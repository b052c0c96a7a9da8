//! `perennial bucket`: what the object store is and does.

use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
use serde_json::json;

use super::compose::Base;
use super::flags::{CommonArgs, Output};
use super::{Failure, print_line};
use crate::model::ErrorKind;

/// Subcommands of `bucket`.
#[derive(Debug, Subcommand)]
pub(super) enum BucketCommand {
    /// Shows where the bucket is, and whether it keeps versions, locks objects and has a conditional create.
    Info(InfoArgs),
}

/// Flags of `bucket info`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  perennial bucket info --objstore.config-file bucket.yml\n  \
perennial bucket info --probe --objstore.config-file bucket.yml --output json")]
pub(super) struct InfoArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Also creates an object, tries to create it again and deletes it, as writing roles do when they start.
    #[arg(long)]
    probe: bool,
    /// How to print.
    #[arg(long, default_value = "table", value_enum)]
    output: Output,
}

pub(super) async fn run(BucketCommand::Info(args): BucketCommand) -> Result<(), Failure> {
    args.common.start_logging();
    let base = Base::inspect(&args.common).await?;
    let info = base.bucket.info().await?;
    if args.probe {
        base.bucket.probe_conditional_create(&base.random).await?;
    }
    let conditional_create = if args.probe { "works" } else { "not tried" };
    match args.output {
        Output::Json => {
            let mut all = serde_json::to_value(&info)
                .map_err(|e| Failure::new(ErrorKind::Internal, format!("cannot print: {e}")))?;
            all["conditional_create"] = json!(conditional_create);
            print_line(format_args!("{all:#}"));
        }
        Output::Table => {
            let mut table = Table::new();
            table.load_style(presets::NOTHING);
            let rows = [
                ("provider", info.provider),
                ("location", &info.location),
                ("storage class", info.storage_class.as_deref().unwrap_or("the store's default")),
                ("versioning", info.versioning),
                ("object lock", info.object_lock),
                ("default lock", info.default_lock.as_deref().unwrap_or("none")),
                ("conditional create", conditional_create),
            ];
            for (name, value) in rows {
                table.add_row([name, value]);
            }
            print_line(table);
        }
    }
    Ok(())
}
