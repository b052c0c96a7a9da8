//! `perennial log`: what lies in the durable logs, on disk and in the bucket.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use comfy_table::{CellAlignment, Table, presets};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::compose::{Base, Process};
use super::flags::{CommonArgs, Output};
use super::{Failure, print_line, progress};
use crate::log::{
    EpochReport, InspectProgress, LogPlace, TenantReport, has_segments, inspect_disk, inspect_objects,
};
use crate::model::{ErrorKind, TenantId, Ulid};

/// Subcommands of `log`.
#[derive(Debug, Subcommand)]
pub(super) enum LogCommand {
    /// Counts what the logs hold, says what of it blocks hold already, and names damage. Changes nothing.
    Inspect(InspectArgs),
}

/// Flags of `log inspect`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  A disk log, and what its catalogs cover:\n    perennial log inspect --data-dir ./data\n  \
The object logs of all receivers on a bucket:\n    perennial log inspect --objstore.config-file bucket.yml --output json\n\n\
Exit codes: 0 all of it reads, 3 there is no log, 5 damage: each place is named."
)]
pub(super) struct InspectArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Only this epoch.
    #[arg(long, value_name = "ULID")]
    epoch: Option<Ulid>,
    /// How to print.
    #[arg(long, default_value = "table", value_enum)]
    output: Output,
}

/// What the catalogs cover of each epoch, by tenant; nothing where no bucket is there.
type Covered = Option<BTreeMap<(TenantId, Ulid), u64>>;

pub(super) async fn run(command: LogCommand) -> Result<(), Failure> {
    let LogCommand::Inspect(args) = command;
    args.common.start_logging();
    let dir = args.common.data_dir.join("log");
    let on_disk = has_segments(&dir)?;
    let base = match args.common.check_local_bucket() {
        Ok(()) => Some(Base::inspect(&args.common).await?),
        // A data directory whose bucket is elsewhere still has its log.
        Err(_) if on_disk => None,
        Err(absent) => return Err(absent),
    };
    let bar = progress::bar(args.output, 0, progress::BYTES);
    let show = |bar: &ProgressBar, now: InspectProgress| {
        bar.set_length(now.total_bytes);
        bar.set_position(now.read_bytes);
    };
    let mut reports = Vec::new();
    if on_disk {
        let (cpu, counted) = match &base {
            Some(base) => (base.cpu.clone(), bar.clone()),
            None => (Process::start()?.cpu, bar.clone()),
        };
        reports.extend(cpu.run(move || inspect_disk(&dir, &|now| show(&counted, now))).await??);
    }
    if let Some(base) = &base {
        let parts = (&base.cpu, &base.random);
        reports.extend(inspect_objects(&base.bucket, parts, &|now| show(&bar, now)).await?);
    }
    bar.finish_and_clear();
    reports.retain(|report| args.epoch.is_none_or(|epoch| report.epoch == epoch));
    if reports.is_empty() {
        let message = "there is no such log: check --data-dir, --objstore.config and --epoch";
        return Err(Failure::new(ErrorKind::NotFound, message));
    }
    let covered = match &base {
        Some(base) => Some(covered(base, &reports).await?),
        None => None,
    };
    match args.output {
        Output::Json => {
            let all: Vec<Value> = reports.iter().map(|report| as_json(report, &covered)).collect();
            print_line(format!("{:#}", Value::from(all)));
        }
        Output::Table => print_line(tables(&reports, &covered)),
    }
    outcome(&reports)
}

async fn covered(base: &Base, reports: &[EpochReport]) -> Result<BTreeMap<(TenantId, Ulid), u64>, Failure> {
    let mut covered = BTreeMap::new();
    for (report, tenant) in reports.iter().flat_map(|r| r.tenants.keys().map(move |tenant| (r, tenant))) {
        let newest = base.catalogs.of(tenant).newest(None).await?;
        let through = newest.map_or(0, |snapshot| snapshot.version().covered_through(report.epoch));
        covered.insert((tenant.clone(), report.epoch), through);
    }
    Ok(covered)
}

fn outcome(reports: &[EpochReport]) -> Result<(), Failure> {
    let damage: Vec<&String> = reports.iter().flat_map(|report| &report.damage).collect();
    match damage.first() {
        None => Ok(()),
        Some(first) => {
            let message =
                format!("{} places of the log are damaged or missing; first: {first}", damage.len());
            Err(Failure::new(ErrorKind::Corrupt, message))
        }
    }
}

fn through(report: &EpochReport, tenant: &TenantId, covered: &Covered) -> Option<u64> {
    covered.as_ref()?.get(&(tenant.clone(), report.epoch)).copied()
}

fn as_json(report: &EpochReport, covered: &Covered) -> Value {
    // The report is plain data; what cannot be written as JSON would be a defect, seen as null.
    let mut value = serde_json::to_value(report).unwrap_or_default();
    for tenant in report.tenants.keys() {
        value["tenants"][tenant.as_str()]["covered_through"] = json!(through(report, tenant, covered));
    }
    value
}

fn tables(reports: &[EpochReport], covered: &Covered) -> String {
    let (mut epochs, mut tenants) = (Table::new(), Table::new());
    for table in [&mut epochs, &mut tenants] {
        table.load_style(presets::NOTHING);
    }
    epochs.set_header([
        "EPOCH", "LOG", "RECEIVER", "STATE", "FIRST", "LAST", "ENTRIES", "PARTS", "SIZE", "GARBAGE", "TORN",
        "DAMAGE",
    ]);
    tenants.set_header([
        "EPOCH",
        "TENANT",
        "SERIES",
        "SAMPLES",
        "HISTOGRAMS",
        "EXEMPLARS",
        "METADATA",
        "LAST",
        "IN BLOCKS",
    ]);
    for report in reports {
        epochs.add_row(epoch_row(report));
        for (tenant, counts) in &report.tenants {
            tenants.add_row(tenant_row(report, tenant, counts, through(report, tenant, covered)));
        }
    }
    for column in epochs.column_iter_mut().skip(4) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for column in tenants.column_iter_mut().skip(2).take(6) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut text = epochs.to_string();
    if reports.iter().any(|report| !report.tenants.is_empty()) {
        text.push_str(&format!("\n\n{tenants}"));
    }
    for damage in reports.iter().flat_map(|report| &report.damage) {
        text.push_str(&format!("\n\n{damage}"));
    }
    text
}

fn epoch_row(report: &EpochReport) -> [String; 12] {
    let place = match report.kind {
        LogPlace::Disk => "disk",
        LogPlace::Object => "object",
    };
    [
        report.epoch.to_string(),
        place.to_owned(),
        report.receiver.clone(),
        report.state.clone(),
        report.first_seq.to_string(),
        report.last_seq.to_string(),
        report.entries.to_string(),
        report.parts.to_string(),
        bytesize::ByteSize(report.bytes).to_string(),
        report.garbage.to_string(),
        bytesize::ByteSize(report.torn_bytes).to_string(),
        report.damage.len().to_string(),
    ]
}

fn tenant_row(
    report: &EpochReport,
    tenant: &TenantId,
    counts: &TenantReport,
    covered_through: Option<u64>,
) -> [String; 9] {
    let in_blocks = match covered_through {
        None => "unknown, no bucket".to_owned(),
        Some(through) if through >= counts.last_seq => "all".to_owned(),
        Some(0) => "nothing".to_owned(),
        Some(through) => format!("up to entry {through}"),
    };
    [
        report.epoch.to_string(),
        tenant.to_string(),
        counts.series.to_string(),
        counts.samples.to_string(),
        counts.histograms.to_string(),
        counts.exemplars.to_string(),
        counts.metadata.to_string(),
        counts.last_seq.to_string(),
        in_blocks,
    ]
}
