//! Reports as people read them.

use bytesize::ByteSize;
use comfy_table::{Table, presets};

use super::work::PlannedRetention;
use crate::archive::{
    Held, Hold, LockReport, RestorePoint, RetentionReport, RollUpReport, VerifyLevel, VerifyReport,
};
use crate::model::format_time_ms;
use crate::restore::DrillReport;

/// So many findings are printed for people; JSON has all.
const FINDINGS_SHOWN: usize = 200;

fn table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table
}

fn pairs<const N: usize>(rows: [(&str, String); N]) -> String {
    let mut table = table();
    for (name, value) in rows.into_iter().filter(|(_, value)| !value.is_empty()) {
        table.add_row([name.to_owned(), value]);
    }
    table.to_string()
}

fn sized(count: u64, what: &str, bytes: u64) -> String {
    format!("{count} {what}, {}", ByteSize(bytes))
}

pub(super) fn roll_up(report: &RollUpReport) -> String {
    let RollUpReport {
        chapters,
        replaced_links,
        replaced_pieces,
        pieces,
        replaced_bytes,
        bytes,
        damaged_groups,
    } = *report;
    if chapters == 0 {
        return "nothing has settled that could be rolled up".to_owned();
    }
    let damaged = match damaged_groups {
        0 => String::new(),
        groups => format!(
            "{groups} runs of pieces stay as they are: `perennial archive verify --level L3` names why"
        ),
    };
    pairs([
        ("chapters", format!("{chapters}, in place of {replaced_links} entries and chapters")),
        ("pieces", format!("{pieces}, in place of {replaced_pieces}")),
        ("size", format!("{}, in place of {}", ByteSize(bytes), ByteSize(replaced_bytes))),
        ("damaged", damaged),
    ])
}

fn points_table(points: &[RestorePoint]) -> String {
    if points.is_empty() {
        return String::new();
    }
    let mut table = table();
    table.set_header(["RESTORE POINT", "KEPT BY"]);
    for point in points {
        table.add_row([format_time_ms(point.at_ms), point.kept_by.join(", ")]);
    }
    format!("\n\n{table}")
}

pub(super) fn retention_plan(plan: &PlannedRetention) -> String {
    let facts = pairs([
        ("every second since", format_time_ms(plan.window_start_ms)),
        ("restore points", plan.points.len().to_string()),
        ("holds", plan.holds.len().to_string()),
        (
            "would go",
            format!(
                "{} bases, {}",
                plan.dropped_bases,
                sized(plan.dropped_pieces as u64, "pieces", plan.dropped_piece_bytes)
            ),
        ),
    ]);
    format!("{facts}{}\n\nnothing was changed (--dry-run)", points_table(&plan.points))
}

pub(super) fn retention(report: &RetentionReport) -> String {
    let locked = match report.locked_objects {
        0 => String::new(),
        locked => format!("{locked} objects, tried again at the next run"),
    };
    let facts = pairs([
        ("every second since", format_time_ms(report.window_start_ms)),
        ("restore points", report.points.len().to_string()),
        ("dropped", format!("{} bases, {} pieces", report.dropped_bases, report.dropped_pieces)),
        ("marked for deletion", sized(report.marked_objects as u64, "objects", report.marked_bytes)),
        ("deleted", format!("{} objects, marked earlier", report.deleted_objects)),
        ("still locked", locked),
    ]);
    format!("{facts}{}", points_table(&report.points))
}

pub(super) fn holds(holds: &[Hold]) -> String {
    if holds.is_empty() {
        return "no holds".to_owned();
    }
    let mut table = table();
    table.set_header(["ID", "FROM", "TO", "MADE", "REASON"]);
    for hold in holds {
        let Held::Range { from_ms, to_ms } = hold.what else { continue };
        table.add_row([
            hold.id.to_string(),
            format_time_ms(from_ms),
            format_time_ms(to_ms),
            format_time_ms(hold.made_ms),
            hold.reason.clone(),
        ]);
    }
    table.to_string()
}

pub(super) fn locks(report: &LockReport) -> String {
    let what = sized(report.objects, "objects", report.bytes);
    format!("{what}, locked until {} or longer", format_time_ms(report.until_ms))
}

/// Returns what a drill came to, in one line.
pub(super) fn drill_verdict(report: &DrillReport) -> String {
    let DrillReport { source, ranges, equal_series, equal_samples, .. } = report;
    let at = format_time_ms(report.as_of_ms);
    if let Some(repair) = report.repairs.first() {
        return format!("{source} as of {at}: Prometheus found damage in what was restored: {repair}");
    }
    match report.differences.first() {
        Some(first) => format!(
            "{source} as of {at}: {} series differ, the first one: {}: {} samples recorded, {} restored",
            report.differences.len() as u64 + report.omitted_differences,
            first.series,
            first.recorded,
            first.restored
        ),
        None if *ranges == 0 => format!(
            "{source} as of {at}: nothing is proven: Prometheus starts, but no whole range of digests lies before that \
             time; run the drill again when the archiver has followed the server for twice its --digest.range"
        ),
        None if *equal_series == 0 => format!(
            "{source} as of {at}: nothing is proven: Prometheus starts, but all that was recorded was deleted before \
             that time or came late; name another time with --as-of"
        ),
        None => format!(
            "{source} as of {at}: {equal_series} series of {ranges} ranges are equal, {equal_samples} samples"
        ),
    }
}

pub(super) fn drill(report: &DrillReport) -> String {
    let counted = |count: u64| if count == 0 { String::new() } else { count.to_string() };
    let facts = pairs([
        ("source", report.source.to_string()),
        ("seed", report.seed.to_string()),
        ("as of", format_time_ms(report.as_of_ms)),
        ("last record", format_time_ms(report.written_ms)),
        (
            "restored in",
            format!("{:.1} s, ready after another {:.1} s", report.restore_seconds, report.ready_seconds),
        ),
        ("compared ranges", report.ranges.to_string()),
        ("equal", format!("{} series, {} samples", report.equal_series, report.equal_samples)),
        ("deleted before", counted(report.deleted_series)),
        ("with late samples", counted(report.late_series)),
        ("different", (report.differences.len() as u64 + report.omitted_differences).to_string()),
    ]);
    let mut rows = table();
    rows.set_header(["SERIES", "RANGE FROM", "RECORDED", "RESTORED"]);
    for difference in report.differences.iter().take(FINDINGS_SHOWN) {
        let counts = (difference.recorded.to_string(), difference.restored.to_string());
        rows.add_row([difference.series.clone(), format_time_ms(difference.min_time_ms), counts.0, counts.1]);
    }
    let repairs: String = report.repairs.iter().map(|line| format!("\n{line}")).collect();
    if report.differences.is_empty() {
        format!("{facts}{repairs}")
    } else {
        format!("{facts}{repairs}\n\n{rows}")
    }
}

/// Returns what a verification came to, in one line.
pub(super) fn verdict(report: &VerifyReport) -> String {
    let VerifyReport { source, level, findings, omitted_findings, unavailable, .. } = report;
    let count = findings.len() as u64 + omitted_findings;
    match (findings.first(), unavailable.first()) {
        (None, None) => {
            let read = match level {
                VerifyLevel::L1 => String::new(),
                _ => format!(
                    ", {} of them read{}",
                    sized(report.read_objects, "objects", report.read_bytes),
                    part(report)
                ),
            };
            format!("{source} is sound at {level}: {}{read}", sized(report.objects, "objects", report.bytes))
        }
        (Some(first), _) => {
            format!("{source} has {count} findings at {level}, the first one: {}: {}", first.key, first.what)
        }
        (None, Some(first)) => format!(
            "{source}: {} objects could not be read, the first one: {}: {}; run it again",
            unavailable.len(),
            first.key,
            first.what
        ),
    }
}

fn part(report: &VerifyReport) -> String {
    report.part.map(|(part, share)| format!(" (part {part} of {share})")).unwrap_or_default()
}

pub(super) fn verification(report: &VerifyReport) -> String {
    let time = |ms: Option<i64>| ms.map(format_time_ms).unwrap_or_default();
    let read = match report.level {
        VerifyLevel::L1 => String::new(),
        _ => sized(report.read_objects, "objects", report.read_bytes) + &part(report),
    };
    let decoded = match report.level {
        VerifyLevel::L3 => {
            format!("{} records and {} blocks, {} samples", report.records, report.blocks, report.samples)
        }
        _ => String::new(),
    };
    let unnamed = match report.unnamed_objects {
        0 => String::new(),
        count => format!("{}: under way, or to be collected", sized(count, "objects", report.unnamed_bytes)),
    };
    let sealed = match report.sealed_manifests {
        0 => String::new(),
        count => format!("{count} blocks: their parts were only counted, as there is no key"),
    };
    let facts = pairs([
        ("source", report.source.to_string()),
        ("level", report.level.to_string()),
        ("objects", sized(report.objects, "named", report.bytes)),
        ("missing", report.missing_objects.to_string()),
        ("unnamed", unnamed),
        ("encrypted", sealed),
        ("read", read),
        ("decoded", decoded),
        ("every second since", time(report.continuous_since_ms)),
        ("newest entry", time(report.newest_ms)),
        ("findings", (report.findings.len() as u64 + report.omitted_findings).to_string()),
    ]);
    let mut findings = table();
    findings.set_header(["OBJECT", "FINDING"]);
    for finding in report.findings.iter().chain(&report.unavailable).take(FINDINGS_SHOWN) {
        findings.add_row([&finding.key, &finding.what]);
    }
    if report.is_sound() { facts } else { format!("{facts}\n\n{findings}") }
}
