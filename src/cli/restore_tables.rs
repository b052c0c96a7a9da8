//! What the restore commands print for people.

use bytesize::ByteSize;
use comfy_table::{Table, presets};

use crate::model::{format_duration_ms, format_time_ms};
use crate::restore::{
    ArchiveStatus, DirReport, FoundEvent, HeadMode, MergeReport, RestorePlan, RestoreReport,
};

/// The most findings that are shown; JSON has all.
const FINDINGS_SHOWN: usize = 50;

fn plain_table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table
}

fn window(status: &ArchiveStatus) -> String {
    match status.window_ms {
        Some((first, last)) => format!("{} .. {}", format_time_ms(first), format_time_ms(last)),
        None => "nothing yet".to_owned(),
    }
}

pub(super) fn sources_table(all: &[ArchiveStatus]) -> String {
    let mut table = plain_table();
    table.set_header(["SOURCE", "WINDOW", "LAST ENTRY", "TIMELINES", "GAPS", "SIZE"]);
    for status in all {
        table.add_row([
            status.source.clone(),
            window(status),
            format!("{} ago", format_duration_ms(status.last_entry_age_ms)),
            status.timelines.len().to_string(),
            status.gaps.len().to_string(),
            ByteSize(status.piece_bytes + status.block_bytes).to_string(),
        ]);
    }
    table.to_string()
}

pub(super) fn status_table(status: &ArchiveStatus) -> String {
    let mut table = plain_table();
    let mut row = |name: &str, text: String| {
        table.add_row([name.to_owned(), text]);
    };
    row("source", status.source.clone());
    row("window", window(status));
    let age = format_duration_ms(status.last_entry_age_ms);
    row(
        "last entry",
        format!("{} ({age} ago), number {}", format_time_ms(status.last_entry_ms), status.entries),
    );
    let blocks = ByteSize(status.block_bytes);
    let pieces = ByteSize(status.piece_bytes);
    row("size", format!("blocks {blocks}, log {pieces} in {} pieces", status.pieces));
    row("bases", format!("{}, {} blocks in the newest", status.bases, status.blocks));
    row("deletes", status.deletes.to_string());
    if let Some(version) = &status.version {
        row("server", format!("Prometheus {version}"));
    }
    for timeline in &status.timelines {
        let parent = timeline.parent.map_or(String::new(), |parent| format!(", leaves {parent}"));
        let detail =
            if timeline.detail.is_empty() { String::new() } else { format!(": {}", timeline.detail) };
        let (from, to) = (format_time_ms(timeline.noticed_ms), format_time_ms(timeline.last_ms));
        row(
            &format!("timeline {}", timeline.number),
            format!("{from} .. {to}, {}{parent}{detail}", timeline.reason),
        );
    }
    for gap in &status.gaps {
        let (from, to) = (format_time_ms(gap.from_ms), format_time_ms(gap.to_ms));
        row(
            "gap",
            format!("{from} .. {to}, before timeline {}: only --until restores blocks of it", gap.timeline),
        );
    }
    table.to_string()
}

pub(super) fn find_table(events: &[FoundEvent]) -> String {
    if events.is_empty() {
        return "nothing of that kind is in the archive".to_owned();
    }
    let mut table = plain_table();
    table.set_header(["WHEN", "WHAT", "JUST BEFORE IT", "DETAIL"]);
    for event in events {
        let kind = serde_json::to_value(event.kind).unwrap_or_default();
        let block = event.block.map_or(String::new(), |block| format!("block {block} "));
        table.add_row([
            format_time_ms(event.at_ms),
            kind.as_str().unwrap_or_default().replace('_', " "),
            just_before(event),
            format!("{block}{}", event.detail),
        ]);
    }
    table.to_string()
}

fn just_before(event: &FoundEvent) -> String {
    let timeline = event.timeline.map_or(String::new(), |number| format!(" --timeline {number}"));
    format!("--as-of {}{timeline}", format_time_ms(event.as_of_ms))
}

pub(super) fn plan_table(plan: &RestorePlan) -> String {
    let mut table = plain_table();
    let mut row = |name: &str, text: String| {
        table.add_row([name.to_owned(), text]);
    };
    let position = plan.position;
    row("target", format!("{} of {}, to {}", plan.target_text, plan.source, plan.to.display()));
    row(
        "position",
        format!(
            "timeline {}, WAL {}, written {} ({} s before the target)",
            position.timeline,
            position.wal,
            format_time_ms(plan.written_ms),
            plan.distance_ms as f64 / 1_000.0
        ),
    );
    let block_bytes: u64 = plan.blocks.iter().map(|block| block.size_bytes).sum();
    let cut = plan.blocks.iter().filter(|block| block.cut).count();
    let cut = if cut > 0 { format!(", {cut} of them cut at the target") } else { String::new() };
    row("blocks", format!("{}, {}{cut}", plan.blocks.len(), ByteSize(block_bytes)));
    let log = plan.log;
    row(
        "log",
        format!("{} WAL pieces, {} WBL pieces, {} samples", log.wal_pieces, log.wbl_pieces, log.samples),
    );
    row(
        "fetch",
        format!(
            "{} in {} objects; {} is there already",
            ByteSize(plan.fetch.stored_bytes),
            plan.fetch.objects,
            ByteSize(plan.fetch.local_bytes)
        ),
    );
    row("head", head_text(plan.head).to_owned());
    let rate = ByteSize(plan.estimate.fetch_bytes_per_second as u64);
    let measured = if plan.estimate.measured { "measured" } else { "assumed" };
    row("time", format!("about {} s; fetching at {rate} a second ({measured})", plan.estimate.seconds));
    let free = plan.disk.free_bytes.map_or("unknown".to_owned(), |free| ByteSize(free).to_string());
    row("disk", format!("{} needed, {free} free", ByteSize(plan.disk.needed_bytes)));
    let lists = [
        ("match", &plan.selectors),
        ("without", &plan.loses),
        ("missing", &plan.missing),
        ("damaged", &plan.avoided),
        ("warning", &plan.warnings),
        ("confirm", &plan.to_confirm),
    ];
    for (name, texts) in lists {
        for text in texts {
            row(name, text.clone());
        }
    }
    table.to_string()
}

fn head_text(head: HeadMode) -> &'static str {
    match head {
        HeadMode::Auto | HeadMode::Wal => "the log as it was; Prometheus replays it",
        HeadMode::Blocks => "built as blocks; the log has exemplars and metadata",
        HeadMode::BlocksOnly => "built as blocks, without a log",
    }
}

pub(super) fn report_table(report: &RestoreReport) -> String {
    let mut table = plain_table();
    let mut row = |name: &str, text: String| {
        table.add_row([name.to_owned(), text]);
    };
    row("restored", format!("{} ({})", report.to.display(), report.target_text));
    if report.was_complete {
        row("", "by an earlier call, which was complete but for its work directory".to_owned());
    }
    row("written", format_time_ms(report.written_ms));
    let head = match report.head_blocks {
        0 => String::new(),
        count => format!(", {count} built of {} samples of the log", report.head_samples),
    };
    row("blocks", format!("{} of the archive{head}", report.blocks));
    row("took", format!("{:.1} s", report.seconds));
    if let Some(replaced) = &report.replaced {
        row("before", format!("what was there is in {}", replaced.display()));
    }
    for (name, texts) in
        [("missing", &report.missing), ("damaged", &report.avoided), ("warning", &report.warnings)]
    {
        for text in texts {
            row(name, text.clone());
        }
    }
    format!("{table}\nStart: prometheus --storage.tsdb.path {} ...", report.to.display())
}

pub(super) fn merge_table(report: &MergeReport) -> String {
    let mut table = plain_table();
    let holes = format!(
        "{} samples of {} in {} series and {} blocks",
        report.filled_samples, report.other, report.filled_series, report.filled_blocks
    );
    table.add_row(["filled", &holes]);
    for (name, texts) in [("missing", &report.missing), ("warning", &report.warnings)] {
        for text in texts {
            table.add_row([name, text]);
        }
    }
    let (blocks, built) = (report.restored.blocks, report.restored.head_blocks);
    let restored = format!("{blocks} blocks of the archive, {built} built of its log");
    format!("{restored}\n{table}\nStart: prometheus --storage.tsdb.path {} ...", report.to.display())
}

pub(super) fn check_table(report: &DirReport) -> String {
    let mut table = plain_table();
    let all =
        report.findings.iter().map(|f| ("damage", f)).chain(report.remarks.iter().map(|f| ("remark", f)));
    for (kind, finding) in all.take(FINDINGS_SHOWN) {
        let at = finding.offset.map_or(String::new(), |offset| format!(" byte {offset}"));
        table.add_row([kind.to_owned(), format!("{}{at}", finding.file), finding.what.clone()]);
    }
    let hidden =
        (report.findings.len() + report.remarks.len()).saturating_sub(FINDINGS_SHOWN) as u64 + report.omitted;
    let more = if hidden > 0 { format!("and {hidden} more\n") } else { String::new() };
    let lines = if table.is_empty() { String::new() } else { format!("{table}\n") };
    format!(
        "{lines}{more}{} blocks, {} series, {} chunks, {} samples; {} records of the logs, {} samples in them",
        report.blocks, report.series, report.chunks, report.samples, report.records, report.record_samples
    )
}
