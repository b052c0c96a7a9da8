//! `perennial blocks verify`: whether what the catalogs name is there and whole.

use std::sync::Arc;

use clap::Args;
use comfy_table::{Table, presets};
use indicatif::ProgressBar;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::blocks::{Live, live_blocks, samples_of};
use super::compose::Base;
use super::flags::{CommonArgs, Output};
use super::{Failure, print_line, progress};
use crate::block::{BlockError, BlockMeta, BlockReader, ExemplarReader, MetadataReader, RangeRead};
use crate::bucket::ObjectKey;
use crate::catalog::{BlockEntry, BlockKind};
use crate::model::{ErrorKind, TenantId, Ulid};
use crate::select::BlockObject;

/// Bytes that are read at once for a checksum.
const READ_BYTES: u64 = 16 << 20;

/// Flags of `blocks verify`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  What the catalogs name is there, with the right size and footer:\n    \
perennial blocks verify --objstore.config-file bucket.yml\n  Every byte and sample, before a migration:\n    \
perennial blocks verify --read-data --tenant team-a --data-dir ./data\n\n\
Exit codes: 0 all is well, 5 damage: each object is named, with what is wrong.")]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Only this tenant.
    #[arg(long, value_name = "TENANT")]
    tenant: Option<TenantId>,
    /// Only this block.
    #[arg(long, value_name = "ULID")]
    block: Option<Ulid>,
    /// Read all bytes: checksums, the order of rows and samples, statistics against samples. Costs one GET for each 16 MiB
    /// and, on S3, their transfer.
    #[arg(long = "read-data")]
    read_data: bool,
    /// How to print.
    #[arg(long, default_value = "table", value_enum)]
    output: Output,
}

/// One thing that is wrong with an object.
#[derive(Debug, Serialize)]
struct Finding {
    object: String,
    tenant: TenantId,
    reason: String,
}

/// What was verified and found.
#[derive(Debug, Serialize)]
struct Report {
    blocks: u64,
    bytes: u64,
    samples: u64,
    read_data: bool,
    findings: Vec<Finding>,
}

pub(super) async fn run(args: VerifyArgs) -> Result<(), Failure> {
    args.common.start_logging();
    let base = Base::inspect(&args.common).await?;
    // A catalog or one of its parts that does not read ends here, with its own name and exit code 5.
    let mut live = live_blocks(&base, args.tenant).await?;
    live.retain(|live| args.block.is_none_or(|id| live.block.id == id));
    if let Some(id) = args.block.filter(|_| live.is_empty()) {
        let message = format!("no live block {id}: `perennial blocks ls` shows which there are");
        return Err(Failure::new(ErrorKind::NotFound, message));
    }
    let steps = |live: &Live| if args.read_data { live.block.size_bytes.saturating_mul(2) } else { 1 };
    let bar = progress::bar(args.output, live.iter().map(steps).sum(), progress::STEPS);
    let (blocks, mut done) = (live.len(), 0);
    let mut report =
        Report { blocks: 0, bytes: 0, samples: 0, read_data: args.read_data, findings: Vec::new() };
    for (number, live) in live.iter().enumerate() {
        bar.set_message(format!("block {} of {blocks}", number + 1));
        let object = base.bucket.locate(&ObjectKey::block(&live.tenant, live.block.id));
        let verifier = Verifier { base: &base, live, read_data: args.read_data, bar: &bar };
        for reason in verifier.verify().await? {
            report.findings.push(Finding { object: object.clone(), tenant: live.tenant.clone(), reason });
        }
        report.blocks += 1;
        report.bytes += live.block.size_bytes;
        report.samples += samples_of(&live.block);
        done += steps(live);
        bar.set_position(done);
    }
    bar.finish_and_clear();
    match args.output {
        Output::Json => print_line(serde_json::to_string_pretty(&report).unwrap_or_default()),
        Output::Table => print_line(table(&report)),
    }
    report.outcome()
}

/// Verifies one block.
struct Verifier<'a> {
    base: &'a Base,
    live: &'a Live,
    read_data: bool,
    /// Goes a step for each byte that is hashed, and as far again while the samples are decoded.
    bar: &'a ProgressBar,
}

impl Verifier<'_> {
    /// Returns what is wrong. A failure that is no damage, such as a store that is away, ends the whole command.
    async fn verify(&self) -> Result<Vec<String>, Failure> {
        let entry = self.live.block.as_ref();
        let key = ObjectKey::block(&self.live.tenant, entry.id);
        let Some(found) = self.base.bucket.head(&key).await? else {
            return Ok(vec!["the object is missing".to_owned()]);
        };
        if found.size_bytes != entry.size_bytes {
            let reason = format!("it has {} bytes, the catalog says {}", found.size_bytes, entry.size_bytes);
            return Ok(vec![reason]);
        }
        let mut findings = Vec::new();
        if self.read_data {
            let sha256 = self.hash(&key).await?;
            if sha256 != entry.sha256 {
                findings.push(format!("its SHA-256 is {sha256}, the catalog says {}", entry.sha256));
            }
        }
        findings.extend(self.verify_content(key).await?);
        Ok(findings)
    }

    async fn hash(&self, key: &ObjectKey) -> Result<String, Failure> {
        let size_bytes = self.live.block.size_bytes;
        let mut hash = Sha256::new();
        let mut start = 0;
        while start < size_bytes {
            let range = start..size_bytes.min(start + READ_BYTES);
            let parts = self.base.bucket.get_ranges(key, std::slice::from_ref(&range)).await?;
            let hashing = self.base.cpu.run(move || {
                parts.iter().for_each(|part| hash.update(part));
                hash
            });
            hash = hashing.await?;
            self.bar.inc(range.end - range.start);
            start = range.end;
        }
        Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    fn steps_of(&self, samples: u64) -> u64 {
        let BlockEntry { size_bytes, samples: all, .. } = *self.live.block;
        let steps = u128::from(samples) * u128::from(size_bytes) / u128::from(all.max(1));
        u64::try_from(steps).unwrap_or(size_bytes)
    }

    async fn verify_content(&self, key: ObjectKey) -> Result<Vec<String>, Failure> {
        let object: Arc<dyn RangeRead> = Arc::new(BlockObject::new(self.base.bucket.clone(), key));
        match self.decode(object).await {
            Ok(findings) => Ok(findings),
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported) => {
                Ok(vec![crate::model::error_chain(&error)])
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn decode(&self, object: Arc<dyn RangeRead>) -> Result<Vec<String>, BlockError> {
        let Live { tenant, block: entry, .. } = self.live;
        let (cpu, size_bytes) = (self.base.cpu.clone(), entry.size_bytes);
        let differences = |meta: &BlockMeta| differences(meta, tenant, entry);
        let (mut findings, found) = match &entry.kind {
            BlockKind::Samples | BlockKind::Histograms => {
                let block = BlockReader::open(object, cpu, size_bytes).await?;
                let advance = |samples: u64| self.bar.inc(self.steps_of(samples));
                let found = if self.read_data { block.verify(&advance).await? } else { Vec::new() };
                (differences(block.meta()), found)
            }
            BlockKind::Exemplars => {
                let block = ExemplarReader::open(object, cpu, size_bytes).await?;
                let found = if self.read_data { block.verify().await? } else { Vec::new() };
                (differences(block.meta()), found)
            }
            BlockKind::Metadata => {
                let block = MetadataReader::open(object, cpu, size_bytes).await?;
                let found = if self.read_data { block.verify().await? } else { Vec::new() };
                (differences(block.meta()), found)
            }
            BlockKind::Other(_) => return Ok(Vec::new()),
        };
        findings.extend(found);
        Ok(findings)
    }
}

/// Compares what a block says about itself with what the catalog says about it.
fn differences(meta: &BlockMeta, tenant: &TenantId, entry: &BlockEntry) -> Vec<String> {
    let stats = &meta.stats;
    let alike = [
        ("kind", meta.kind == entry.kind),
        ("id", meta.id == entry.id),
        ("tenant", meta.tenant == *tenant),
        ("resolution", meta.resolution == entry.resolution),
        ("external labels", meta.external_labels == entry.external_labels),
        ("time range", (stats.min_time_ms, stats.max_time_ms) == (entry.min_time_ms, entry.max_time_ms)),
        ("rows", stats.rows == entry.rows),
        ("series", stats.series == entry.series),
        ("samples", stats.samples == entry.samples),
        ("metric names", (&stats.metric_min, &stats.metric_max) == (&entry.metric_min, &entry.metric_max)),
        ("label columns", stats.label_columns == entry.label_columns),
    ];
    let differ = alike.into_iter().filter(|(_, same)| !same);
    differ.map(|(what, _)| format!("its footer and the catalog disagree on its {what}")).collect()
}

impl Report {
    fn outcome(&self) -> Result<(), Failure> {
        let mut objects: Vec<&str> = self.findings.iter().map(|finding| finding.object.as_str()).collect();
        objects.dedup();
        if objects.is_empty() {
            return Ok(());
        }
        let message = format!(
            "{} of {} blocks are damaged: {}; queries that touch them fail. A version store or a backup of the bucket \
             may have them; `perennial rollback` shows which versions came before them",
            objects.len(),
            self.blocks,
            objects.join(", ")
        );
        Err(Failure::new(ErrorKind::Corrupt, message))
    }
}

fn table(report: &Report) -> String {
    let depth =
        if report.read_data { "read in full" } else { "size and footer (--read-data reads them in full)" };
    let summary = format!(
        "{} blocks, {} samples, {}: {depth}",
        report.blocks,
        report.samples,
        bytesize::ByteSize(report.bytes)
    );
    if report.findings.is_empty() {
        return format!("{summary}\nno damage");
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["OBJECT", "TENANT", "WHAT IS WRONG"]);
    for Finding { object, tenant, reason } in &report.findings {
        table.add_row([object.clone(), tenant.to_string(), reason.clone()]);
    }
    format!("{table}\n{summary}")
}
