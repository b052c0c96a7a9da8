//! `perennial bench`: a load on any remote-write endpoint, and what came of it.

mod figures;
mod sender;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use comfy_table::{Table, presets};
use indicatif::ProgressBar;

use self::figures::{Figures, Report};
use self::sender::{Pace, Sender, Target};
use super::flags::{LogFormat, Output, count, label, positive_duration, start_logging};
use super::{Failure, print_line, progress};
use crate::load::{Load, LoadSettings};
use crate::model::{ErrorKind, format_duration_ms};
use crate::runtime::{Clock, SystemClock};
use crate::wire::remote_write::Protocol;

/// The version of remote write that is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Version {
    /// Remote write 1.0.
    #[value(name = "1.0")]
    V1,
    /// Remote write 2.0.
    #[value(name = "2.0")]
    V2,
}

/// Flags of `bench`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  As 200 hosts scraped every 15 s would:\n    \
perennial bench --url http://127.0.0.1:19291/api/v1/receive --series 100000\n  As fast as it goes, into another program:\n    \
perennial bench --url http://127.0.0.1:8428/api/v1/write --rate max --duration 1m --output json")]
pub(super) struct BenchArgs {
    /// Where to send: the address of a remote-write endpoint.
    #[arg(long, value_name = "URL")]
    url: reqwest::Url,
    /// Version of remote write.
    #[arg(long, default_value = "1.0", value_enum)]
    protocol: Version,
    /// Active series; each sends one sample a pass.
    #[arg(long, default_value = "10000", value_name = "N", value_parser = count)]
    series: usize,
    /// Time between two samples of a series, in their timestamps.
    #[arg(long, default_value = "15s", value_name = "DURATION", value_parser = positive_duration)]
    interval: Duration,
    /// Samples a second, or `max`. Default: one pass an interval, as scrapes would. Timestamps end at now; other rates
    /// start --back earlier.
    #[arg(long, value_name = "N|max", value_parser = rate)]
    rate: Option<Rate>,
    /// How far back timestamps start where the rate is not that of scrapes.
    #[arg(long, default_value = "6h", value_name = "DURATION", value_parser = positive_duration)]
    back: Duration,
    /// How long to send; the run also ends when timestamps reach the present.
    #[arg(long, default_value = "1m", value_name = "DURATION", value_parser = positive_duration)]
    duration: Duration,
    /// Requests in flight.
    #[arg(long, default_value = "4", value_name = "N", value_parser = count)]
    senders: usize,
    /// Samples in one request.
    #[arg(long = "samples-per-request", default_value = "2000", value_name = "N", value_parser = count)]
    request_samples: usize,
    /// Replace every series once in this time of timestamps, a few at each pass. Default: never.
    #[arg(long, value_name = "DURATION", value_parser = positive_duration)]
    churn: Option<Duration>,
    /// Makes another fleet with other values.
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// HTTP header of each request, `name="value"`, such as the tenant's; may be given several times.
    #[arg(long = "header", value_name = "NAME=\"VALUE\"", value_parser = label)]
    headers: Vec<(String, String)>,
    /// How to print.
    #[arg(long, default_value = "table", value_enum)]
    output: Output,
}

/// How fast samples go out.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Rate {
    Max,
    PerSecond(f64),
}

fn rate(text: &str) -> Result<Rate, String> {
    match text.parse::<f64>() {
        _ if text == "max" => Ok(Rate::Max),
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(Rate::PerSecond(rate)),
        _ => Err("write samples a second, such as 50000, or max".to_owned()),
    }
}

pub(super) async fn run(args: BenchArgs) -> Result<(), Failure> {
    start_logging("warn", LogFormat::Logfmt);
    let clock: Arc<dyn Clock> = SystemClock::new();
    let target = target(&args)?;
    let load = Arc::new(Load::new(load_settings(&args)));
    let pace = pace(&args, clock.as_ref());
    let figures = Arc::new(Figures::new(Arc::clone(&clock)));
    let sender = Arc::new(Sender::new(target, load, pace, Arc::clone(&figures), clock));
    let bar = draw(&args, Arc::clone(&figures));
    let sending = (0..args.senders).map(|_| {
        let sender = Arc::clone(&sender);
        tokio::spawn(async move { sender.run().await })
    });
    let sending: Vec<_> = sending.collect();
    for ended in sending {
        ended.await.map_err(|e| Failure::new(ErrorKind::Internal, e))??;
    }
    bar.finish_and_clear();
    let report = figures.report();
    match args.output {
        Output::Json => print_line(serde_json::to_string_pretty(&report).unwrap_or_default()),
        Output::Table => print_line(table(&report)),
    }
    match report.samples_acknowledged {
        0 => {
            let reason = report.first_failure.as_deref().unwrap_or("nothing was sent in time");
            let message = format!("{}: not one sample was taken: {reason}", args.url);
            Err(Failure::new(ErrorKind::Unavailable, message))
        }
        _ => Ok(()),
    }
}

fn target(args: &BenchArgs) -> Result<Target, Failure> {
    let mut headers = http::HeaderMap::new();
    for (name, value) in &args.headers {
        let refused =
            || Failure::new(ErrorKind::Invalid, format!("--header {name}: not a header and its value"));
        let header = http::HeaderName::from_bytes(name.as_bytes()).map_err(|_| refused())?;
        headers.insert(header, value.parse().map_err(|_| refused())?);
    }
    let protocol = if args.protocol == Version::V1 { Protocol::V1 } else { Protocol::V2 };
    Target::new(args.url.clone(), protocol, headers)
        .map_err(|e| Failure::new(ErrorKind::Unavailable, format!("cannot prepare to send: {e}")))
}

fn interval_ms(args: &BenchArgs) -> i64 {
    i64::try_from(args.interval.as_millis()).unwrap_or(i64::MAX).max(1)
}

fn load_settings(args: &BenchArgs) -> LoadSettings {
    let churn_steps = args.churn.map_or(0, |churn| {
        u64::try_from(churn.as_millis()).unwrap_or(u64::MAX) / interval_ms(args).unsigned_abs()
    });
    LoadSettings { series: args.series, churn_steps, seed: args.seed }
}

fn pace(args: &BenchArgs, clock: &dyn Clock) -> Pace {
    let interval_ms = interval_ms(args);
    let scrapes = args.series as f64 * 1_000.0 / interval_ms as f64;
    let now_ms = clock.now_ms();
    let (samples_per_second, first_ms) = match args.rate {
        None => (Some(scrapes), now_ms),
        Some(rate) => {
            let back_ms = i64::try_from(args.back.as_millis()).unwrap_or(i64::MAX);
            let per_second = if let Rate::PerSecond(n) = rate { Some(n) } else { None };
            (per_second, now_ms.saturating_sub(back_ms))
        }
    };
    Pace {
        first_ms,
        interval_ms,
        samples_per_second,
        request_samples: args.request_samples,
        started_ms: clock.monotonic_ms(),
        duration_ms: i64::try_from(args.duration.as_millis()).unwrap_or(i64::MAX),
    }
}

/// Draws how far the run is.
fn draw(args: &BenchArgs, figures: Arc<Figures>) -> ProgressBar {
    let bar = progress::bar(args.output, args.duration.as_secs().max(1), progress::STEPS);
    let shown = bar.clone();
    tokio::spawn(async move {
        while !shown.is_finished() {
            let report = figures.report();
            shown.set_position(report.seconds as u64);
            shown.set_message(format!(
                "{:.0} samples/s, {} failures",
                report.samples_per_second, report.requests_failed
            ));
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    });
    bar
}

fn table(report: &Report) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let milliseconds = |ms: f64| format!("{ms:.1} ms");
    let rows = [
        ("time", format_duration_ms((report.seconds * 1_000.0) as i64)),
        ("samples acknowledged", report.samples_acknowledged.to_string()),
        ("samples a second", format!("{:.0}", report.samples_per_second)),
        ("requests acknowledged", report.requests_acknowledged.to_string()),
        ("requests failed, sent again", report.requests_failed.to_string()),
        ("samples refused", report.samples_refused.to_string()),
        ("bytes sent", bytesize::ByteSize(report.bytes_sent).to_string()),
        ("bytes a sample", format!("{:.1}", report.bytes_per_sample)),
        ("latency p50", milliseconds(report.latency_p50_ms)),
        ("latency p90", milliseconds(report.latency_p90_ms)),
        ("latency p99", milliseconds(report.latency_p99_ms)),
        ("latency max", milliseconds(report.latency_max_ms)),
    ];
    for (name, value) in rows {
        table.add_row([name.to_owned(), value]);
    }
    for (status, count) in &report.statuses {
        table.add_row([format!("status {status}"), count.to_string()]);
    }
    if let Some(failure) = &report.first_failure {
        table.add_row(["first failure", failure]);
    }
    table.to_string()
}
