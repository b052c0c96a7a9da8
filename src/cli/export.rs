//! `perennial export`: stored samples as files of another program.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use comfy_table::{CellAlignment, Table, presets};
use serde_json::json;

use super::compose::Base;
use super::flags::{CommonArgs, Output, READER_BYTES_MAX, quoted};
use super::{Failure, print_line, progress};
use crate::model::{
    ErrorKind, Matcher, TenantId, TimeRange, format_duration_ms, format_time_ms, parse_duration_ms,
    parse_instant_ms,
};
use crate::restore::export::{ExportProgress, ExportReport, ExportRequest, Exporter};
use crate::select::{CatalogView, ReadCache, SelectLimits, Selector};
use crate::store::parse_selector;

/// The longest block. Prometheus compacts further itself.
const BLOCK_MS_MAX: i64 = 86_400_000;

/// Subcommands of `export`.
#[derive(Debug, Subcommand)]
pub(super) enum ExportCommand {
    /// Builds a Prometheus data directory out of a tenant's blocks.
    Tsdb(TsdbArgs),
}

/// Flags of `export tsdb`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  perennial export tsdb --tenant team-a --to /var/lib/prometheus.new\n  \
perennial export tsdb --tenant team-a --to ./up --match 'up{job=\"node\"}' \\\n    --from 2026-11-01T00:00:00Z --until -1h\n\n\
It exports what is in blocks; POST /-/flush first brings in what receivers hold in memory. The directory must be new \
or empty, and appears when it is complete. Prometheus must own it and keep data for as long as it reaches back \
(--storage.tsdb.retention.time).")]
pub(super) struct TsdbArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Tenant whose samples are exported.
    #[arg(long, value_name = "TENANT")]
    tenant: TenantId,
    /// Directory to make; new or empty.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Only series that satisfy this selector, such as 'up{job="node"}'; may be given several times. Default: all.
    #[arg(long = "match", value_name = "SELECTOR", value_parser = selector)]
    selectors: Vec<Selectors>,
    /// No samples before: RFC 3339, Unix time or relative (-15m, "15m ago"). Default: the first sample.
    #[arg(long, value_name = "T", allow_hyphen_values = true)]
    from: Option<String>,
    /// No samples after. Default: the last sample.
    #[arg(long, value_name = "T", allow_hyphen_values = true)]
    until: Option<String>,
    /// How much time a block covers: 1m to 24h.
    #[arg(long = "block-duration", default_value = "2h", value_name = "DURATION", value_parser = block_duration)]
    block_ms: i64,
    /// Puts the external labels of their producer on the series.
    #[arg(long = "external-labels")]
    external_labels: bool,
    /// How to print.
    #[arg(long, default_value = "table", value_enum)]
    output: Output,
}

/// The matchers of one `--match`; a type of its own, as a list would be taken for several values.
#[derive(Debug, Clone)]
struct Selectors(Vec<Matcher>);

fn selector(text: &str) -> Result<Selectors, String> {
    parse_selector(text).map(Selectors).map_err(|e| e.to_string())
}

fn block_duration(text: &str) -> Result<i64, String> {
    match parse_duration_ms(text).map_err(|e| e.to_string())? {
        ms @ 60_000..=BLOCK_MS_MAX => Ok(ms),
        _ => Err("from 1m to 24h is allowed".to_owned()),
    }
}

pub(super) async fn run(command: ExportCommand) -> Result<(), Failure> {
    match command {
        ExportCommand::Tsdb(args) => tsdb(args).await,
    }
}

async fn tsdb(args: TsdbArgs) -> Result<(), Failure> {
    args.common.start_logging();
    let base = Base::inspect(&args.common).await?;
    let range = args.range(base.clock.now_ms())?;
    let newest = base.catalogs.of(&args.tenant).newest(None).await?.ok_or_else(|| {
        let message = format!("tenant {} has no catalog in this bucket: check --tenant", args.tenant);
        Failure::new(ErrorKind::NotFound, message)
    })?;
    // One version from the first block to the last.
    let view = CatalogView::new(Arc::clone(&base.catalogs), &base.metrics);
    view.install(&newest);
    let (bucket, cpu) = (base.bucket.clone(), base.cpu.clone());
    let selector = Selector::new(
        None,
        Some(view),
        bucket,
        cpu,
        (SelectLimits::NONE, ReadCache::in_memory(READER_BYTES_MAX)),
    );
    let exporter = Exporter::new(selector, Arc::clone(&base.clock), base.random.clone());
    let request = ExportRequest {
        tenant: args.tenant.clone(),
        selectors: args.selectors.iter().map(|selector| selector.0.clone()).collect(),
        range,
        block_ms: args.block_ms,
        external_labels: args.external_labels,
        to: args.to.clone(),
    };
    let bar = progress::bar(args.output, 0, progress::STEPS);
    let show = |now: ExportProgress| {
        bar.set_length(now.total);
        bar.set_position(now.done);
        bar.set_message(format!("{} samples", now.samples));
    };
    let outcome = exporter.run(&request, &show).await;
    bar.finish_and_clear();
    let report = outcome?;
    match args.output {
        Output::Json => print_line(format_args!("{:#}", as_json(&args, newest.version().version, &report))),
        Output::Table => print_line(table(&args, base.clock.now_ms(), &report)),
    }
    Ok(())
}

impl TsdbArgs {
    fn range(&self, now_ms: i64) -> Result<TimeRange, Failure> {
        let read = |flag: &str, text: &Option<String>, otherwise_ms: i64| match text {
            None => Ok(otherwise_ms),
            Some(text) => parse_instant_ms(text, now_ms)
                .map_err(|e| Failure::new(ErrorKind::Invalid, format!("--{flag}: {e}"))),
        };
        let range = TimeRange::from_inclusive(
            read("from", &self.from, i64::MIN)?,
            read("until", &self.until, i64::MAX)?,
        );
        if range.is_empty() {
            return Err(Failure::new(ErrorKind::Invalid, "--until lies before --from"));
        }
        Ok(range)
    }
}

fn as_json(args: &TsdbArgs, version: u64, report: &ExportReport) -> serde_json::Value {
    let blocks = report.blocks.iter().map(|block| {
        json!({
            "ulid": block.id,
            "min_time_ms": block.min_time_ms,
            "max_time_ms": block.max_time_ms,
            "series": block.series,
            "samples": block.samples,
            "chunks": block.chunks,
            "size_bytes": block.size_bytes,
        })
    });
    json!({
        "tenant": args.tenant,
        "catalog_version": version,
        "directory": args.to.display().to_string(),
        "samples": report.samples(),
        "size_bytes": report.size_bytes(),
        "blocks": blocks.collect::<Vec<_>>(),
    })
}

fn table(args: &TsdbArgs, now_ms: i64, report: &ExportReport) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["BLOCK", "FROM", "UNTIL", "SERIES", "SAMPLES", "SIZE"]);
    for block in &report.blocks {
        table.add_row([
            block.id.to_string(),
            format_time_ms(block.min_time_ms),
            format_time_ms(block.max_time_ms),
            block.series.to_string(),
            block.samples.to_string(),
            bytesize::ByteSize(block.size_bytes).to_string(),
        ]);
    }
    for column in table.column_iter_mut().skip(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let directory = quoted(&args.to.display().to_string());
    let first_ms = report.blocks.iter().map(|block| block.min_time_ms).min().unwrap_or(now_ms);
    // A day more than it reaches back, so that there is time to look at it.
    let days = now_ms.saturating_sub(first_ms).max(0) / 86_400_000 + 2;
    let retention = format_duration_ms(days.saturating_mul(86_400_000));
    format!(
        "{table}\n{} blocks, {} samples, {}, in {directory}\nstart with: prometheus --storage.tsdb.path={directory} \
         --storage.tsdb.retention.time={retention}",
        report.blocks.len(),
        report.samples(),
        bytesize::ByteSize(report.size_bytes())
    )
}
