//! `perennial blocks`: what the catalog names.

use std::sync::Arc;

use clap::{Args, Subcommand};
use comfy_table::{CellAlignment, Table, presets};
use serde_json::json;

use super::compose::Base;
use super::flags::{CommonArgs, Output};
use super::{Failure, print_line};
use crate::bucket::ObjectKey;
use crate::catalog::{BlockEntry, BlockKind, tenants};
use crate::model::{ErrorKind, TenantId, Ulid, format_time_ms};

/// Subcommands of `blocks`.
#[derive(Debug, Subcommand)]
pub(super) enum BlocksCommand {
    /// Lists the live blocks of one tenant or of all.
    Ls(LsArgs),
    /// Shows everything known about one block.
    Inspect(InspectArgs),
    /// Verifies that what the catalogs name is there and whole; exit code 5 on damage.
    Verify(super::blocks_verify::VerifyArgs),
}

/// Flags of `blocks ls`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  perennial blocks ls --data-dir ./data --tenant team-a")]
pub(super) struct LsArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Only this tenant.
    #[arg(long, value_name = "TENANT")]
    tenant: Option<TenantId>,
    /// How to print.
    #[arg(long, default_value = "table", value_enum)]
    output: Output,
}

/// Flags of `blocks inspect`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  perennial blocks inspect 01M81CS08PS78Y0A1MAFVX1ZS4 --output json")]
pub(super) struct InspectArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// The block's ULID.
    #[arg(value_name = "ULID")]
    id: Ulid,
    /// Only this tenant.
    #[arg(long, value_name = "TENANT")]
    tenant: Option<TenantId>,
    /// How to print.
    #[arg(long, default_value = "table", value_enum)]
    output: Output,
}

/// A live block and whose it is.
pub(super) struct Live {
    pub(super) tenant: TenantId,
    version: u64,
    pub(super) block: Arc<BlockEntry>,
}

pub(super) async fn run(command: BlocksCommand) -> Result<(), Failure> {
    match command {
        BlocksCommand::Verify(args) => super::blocks_verify::run(args).await?,
        BlocksCommand::Ls(args) => {
            args.common.start_logging();
            let base = Base::inspect(&args.common).await?;
            let live = live_blocks(&base, args.tenant).await?;
            match args.output {
                Output::Json => print_line(json_text(&live.iter().map(as_json).collect())),
                Output::Table => print_line(table(&live)),
            }
        }
        BlocksCommand::Inspect(args) => {
            args.common.start_logging();
            let base = Base::inspect(&args.common).await?;
            let live = live_blocks(&base, args.tenant).await?;
            let found = live.iter().find(|l| l.block.id == args.id).ok_or_else(|| {
                let message =
                    format!("no live block {}: `perennial blocks ls` shows which there are", args.id);
                Failure::new(ErrorKind::NotFound, message)
            })?;
            let mut details = as_json(found);
            details["object"] = json!(base.bucket.locate(&ObjectKey::block(&found.tenant, found.block.id)));
            match args.output {
                Output::Json => print_line(json_text(&details)),
                Output::Table => print_line(pairs(&details)),
            }
        }
    }
    Ok(())
}

pub(super) async fn live_blocks(base: &Base, tenant: Option<TenantId>) -> Result<Vec<Live>, Failure> {
    let tenants = match tenant {
        Some(tenant) => vec![tenant],
        None => tenants(&base.bucket).await?,
    };
    let mut live = Vec::new();
    for tenant in tenants {
        let Some(newest) = base.catalogs.of(&tenant).newest(None).await? else { continue };
        let version = newest.version().version;
        let blocks = newest.blocks().await?;
        live.extend(blocks.into_iter().map(|block| Live { tenant: tenant.clone(), version, block }));
    }
    live.sort_by(|a, b| {
        (&a.tenant, a.block.min_time_ms, a.block.id).cmp(&(&b.tenant, b.block.min_time_ms, b.block.id))
    });
    Ok(live)
}

fn as_json(live: &Live) -> serde_json::Value {
    // The entry is plain data; what cannot be written as JSON would be a defect, seen as null.
    let mut value = serde_json::to_value(live.block.as_ref()).unwrap_or_default();
    value["tenant"] = json!(live.tenant);
    value["catalog_version"] = json!(live.version);
    value["bytes_per_sample"] = json!(bytes_per_sample(&live.block));
    value
}

fn json_text(value: &serde_json::Value) -> String {
    format!("{value:#}")
}

fn bytes_per_sample(block: &BlockEntry) -> f64 {
    let exact = block.size_bytes as f64 / block.samples.max(1) as f64;
    (exact * 1000.0).round() / 1000.0
}

/// Returns the number of samples; exemplars and metadata are none.
pub(super) fn samples_of(block: &BlockEntry) -> u64 {
    match block.kind {
        BlockKind::Samples | BlockKind::Histograms => block.samples,
        _ => 0,
    }
}

fn table(live: &[Live]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header([
        "BLOCK",
        "TENANT",
        "KIND",
        "RESOLUTION",
        "FROM",
        "UNTIL",
        "SERIES",
        "SAMPLES",
        "SIZE",
        "B/SAMPLE",
        "LABELS",
    ]);
    for Live { tenant, block, .. } in live {
        table.add_row([
            block.id.to_string(),
            tenant.to_string(),
            block.kind.to_string(),
            json!(block.resolution).as_str().unwrap_or_default().to_owned(),
            format_time_ms(block.min_time_ms),
            format_time_ms(block.max_time_ms),
            block.series.to_string(),
            block.samples.to_string(),
            bytesize::ByteSize(block.size_bytes).to_string(),
            format!("{:.3}", bytes_per_sample(block)),
            block.external_labels.to_string(),
        ]);
    }
    for column in table.column_iter_mut().skip(6).take(4) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let (bytes, samples) = live
        .iter()
        .fold((0, 0), |(bytes, samples), l| (bytes + l.block.size_bytes, samples + samples_of(&l.block)));
    format!("{table}\n{} blocks, {samples} samples, {}", live.len(), bytesize::ByteSize(bytes))
}

fn pairs(details: &serde_json::Value) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    for (key, value) in details.as_object().into_iter().flatten() {
        let text = match value {
            serde_json::Value::String(text) => text.clone(),
            serde_json::Value::Number(ms) if key.ends_with("_time_ms") || key == "created_ms" => {
                format!("{ms} ({})", format_time_ms(ms.as_i64().unwrap_or(0)))
            }
            other => other.to_string(),
        };
        table.add_row([key.as_str(), &text]);
    }
    table.to_string()
}
