//! `perennial rollback`: a tenant back to a kept catalog version.

use std::sync::Arc;

use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

use super::compose::Base;
use super::flags::{CommonArgs, Output};
use super::{Failure, print_line};
use crate::catalog::{BlockEntry, CatalogSettings, RollbackPlan, Snapshot};
use crate::model::{ErrorKind, TenantId, format_duration_ms, format_time_ms, parse_instant_ms};

/// So many blocks are printed for people; JSON has all.
const BLOCKS_SHOWN: usize = 40;

/// Flags of `rollback`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  perennial rollback team-a --as-of 2026-11-22T14:02:59Z\n  \
perennial rollback team-a --as-of '15m ago' --yes\n\n\
Without --yes it only shows what would change (exit code 7). The version in force at that time becomes the newest one \
again; nothing is deleted, so a rollback can be rolled back for as long as --catalog.history reaches. Receivers may \
run meanwhile: what they have in memory, and commit later, stays.")]
pub(super) struct RollbackArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Tenant to roll back.
    #[arg(value_name = "TENANT")]
    tenant: TenantId,
    /// Back to what the catalog was then: RFC 3339, Unix time or relative (-15m, "15m ago").
    #[arg(long = "as-of", value_name = "T", allow_hyphen_values = true)]
    as_of: String,
    /// Do it.
    #[arg(long)]
    yes: bool,
    /// How to print.
    #[arg(long, default_value = "table", value_enum)]
    output: Output,
}

pub(super) async fn run(args: RollbackArgs) -> Result<(), Failure> {
    args.common.start_logging();
    args.common.check_local_bucket()?;
    let base = Base::start(&args.common, CatalogSettings::default(), args.yes).await?;
    let as_of_ms = parse_instant_ms(&args.as_of, base.clock.now_ms())
        .map_err(|e| Failure::new(ErrorKind::Invalid, format!("--as-of: {e}")))?;
    let catalog = base.catalogs.of(&args.tenant);
    let plan = catalog.plan_rollback(as_of_ms).await?;
    let confirmed = args.yes && !plan.is_nothing() && plan.lost.is_empty();
    let committed = if confirmed { Some(catalog.roll_back(&plan).await?) } else { None };
    let report = Report { args: &args, as_of_ms, plan: &plan, committed };
    match args.output {
        Output::Json => print_line(format_args!("{:#}", report.json())),
        Output::Table => print_line(report.table()),
    }
    plan.check_whole()?;
    if plan.is_nothing() || report.committed.is_some() {
        return Ok(());
    }
    // A relative time would mean another one by then.
    let message = format!("nothing was changed; to do it: {}", report.command(as_of_ms));
    Err(Failure::new(ErrorKind::NeedsConfirmation, message))
}

/// What is printed.
struct Report<'a> {
    args: &'a RollbackArgs,
    as_of_ms: i64,
    plan: &'a RollbackPlan,
    committed: Option<Arc<Snapshot>>,
}

/// Sums over blocks.
struct Sums {
    blocks: usize,
    samples: u64,
    size_bytes: u64,
    range_ms: Option<(i64, i64)>,
}

impl Sums {
    fn of(blocks: &[Arc<BlockEntry>]) -> Self {
        let first = blocks.iter().map(|block| block.min_time_ms).min();
        let last = blocks.iter().map(|block| block.max_time_ms).max();
        Self {
            blocks: blocks.len(),
            samples: blocks.iter().fold(0, |sum, block| sum.saturating_add(block.samples)),
            size_bytes: blocks.iter().fold(0, |sum, block| sum.saturating_add(block.size_bytes)),
            range_ms: first.zip(last),
        }
    }

    fn text(&self) -> String {
        let Some((first_ms, last_ms)) = self.range_ms else { return "none".to_owned() };
        format!(
            "{} with {} samples, {}, from {} until {}",
            self.blocks,
            self.samples,
            bytesize::ByteSize(self.size_bytes),
            format_time_ms(first_ms),
            format_time_ms(last_ms)
        )
    }

    fn json(&self, blocks: &[Arc<BlockEntry>]) -> Value {
        json!({
            "count": self.blocks,
            "samples": self.samples,
            "size_bytes": self.size_bytes,
            "min_time_ms": self.range_ms.map(|(first_ms, _)| first_ms),
            "max_time_ms": self.range_ms.map(|(_, last_ms)| last_ms),
            "blocks": blocks.iter().map(|block| block.as_ref()).collect::<Vec<_>>(),
        })
    }
}

impl Report<'_> {
    /// Returns the command that undoes the rollback. Times of versions differ, so a millisecond earlier is the
    /// version before.
    fn undo(&self) -> Option<String> {
        let before_ms = self.committed.as_ref()?.version().written_at_ms.saturating_sub(1);
        Some(self.command(before_ms))
    }

    /// Returns the command that rolls back to a time, to be pasted.
    fn command(&self, as_of_ms: i64) -> String {
        let RollbackArgs { tenant, common, .. } = self.args;
        let as_of = format_time_ms(as_of_ms);
        format!("perennial rollback {tenant} --as-of {as_of}{} --yes", common.bucket_flags())
    }

    fn json(&self) -> Value {
        let RollbackPlan { newest, target, back, gone, stays, lost, .. } = self.plan;
        let lost = lost.iter().map(|block| json!({"id": block.id, "object": block.key, "why": block.why}));
        json!({
            "tenant": self.args.tenant,
            "as_of_ms": self.as_of_ms,
            "target": version_json(target),
            "target_before_as_of_ms": self.as_of_ms.saturating_sub(target.version().written_at_ms),
            "newest": version_json(newest),
            "comes_back": Sums::of(back).json(back),
            "goes": Sums::of(gone).json(gone),
            "stays": stays,
            "lost": lost.collect::<Vec<_>>(),
            "tombstones": {
                "newest": newest.version().tombstones.len(),
                "target": target.version().tombstones.len(),
                "change": self.plan.changes_tombstones(),
            },
            "committed": self.committed.as_deref().map(version_json),
            "undo": self.undo(),
        })
    }

    fn table(&self) -> String {
        let RollbackPlan { newest, target, back, gone, stays, lost, .. } = self.plan;
        let version = |s: &Snapshot| {
            format!("{} of {}", s.version().version, format_time_ms(s.version().written_at_ms))
        };
        let earlier_ms = self.as_of_ms.saturating_sub(target.version().written_at_ms);
        let tombstones = match self.plan.changes_tombstones() {
            false => "as they are".to_owned(),
            true => format!(
                "{} instead of {}",
                target.version().tombstones.len(),
                newest.version().tombstones.len()
            ),
        };
        let mut table = plain_table();
        table.add_row(["tenant", self.args.tenant.as_str()]);
        table.add_row(["as of", &format_time_ms(self.as_of_ms)]);
        let rounding = format!("{}, {} earlier", version(target), format_duration_ms(earlier_ms));
        table.add_row(["version then", &rounding]);
        table.add_row(["version now", &version(newest)]);
        table.add_row(["blocks that come back", &Sums::of(back).text()]);
        table.add_row(["blocks that go", &Sums::of(gone).text()]);
        table.add_row(["blocks that stay", &stays.to_string()]);
        table.add_row(["tombstones", &tombstones]);
        let mut text = format!("{table}\n");
        if !back.is_empty() || !gone.is_empty() {
            text.push_str(&format!("\n{}\n", block_table(back, gone)));
        }
        for block in lost.iter().take(BLOCKS_SHOWN) {
            text.push_str(&format!("\nlost: {}: {}", block.key, block.why));
        }
        match (&self.committed, self.undo()) {
            (Some(made), Some(undo)) => {
                text.push_str(&format!("\nrolled back: version {} is made\nto undo: {undo}", version(made)));
            }
            _ if self.plan.is_nothing() => text.push_str("\nnothing to do: that is how it is now"),
            _ => {}
        }
        text.trim_end().to_owned()
    }
}

fn version_json(snapshot: &Snapshot) -> Value {
    let version = snapshot.version();
    json!({
        "version": version.version,
        "written_at_ms": version.written_at_ms,
        "written_at": format_time_ms(version.written_at_ms),
    })
}

fn plain_table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table
}

fn block_table(back: &[Arc<BlockEntry>], gone: &[Arc<BlockEntry>]) -> String {
    let mut table = plain_table();
    table.set_header(["", "BLOCK", "FROM", "UNTIL", "SERIES", "SAMPLES", "SIZE"]);
    let all = back.iter().map(|block| ("+", block)).chain(gone.iter().map(|block| ("-", block)));
    for (sign, block) in all.take(BLOCKS_SHOWN) {
        table.add_row([
            sign.to_owned(),
            block.id.to_string(),
            format_time_ms(block.min_time_ms),
            format_time_ms(block.max_time_ms),
            block.series.to_string(),
            block.samples.to_string(),
            bytesize::ByteSize(block.size_bytes).to_string(),
        ]);
    }
    for column in table.column_iter_mut().skip(4) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    match (back.len() + gone.len()).checked_sub(BLOCKS_SHOWN) {
        Some(more) if more > 0 => format!("{table}\nand {more} more, see --output json"),
        _ => table.to_string(),
    }
}
