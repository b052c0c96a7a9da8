//! Progress bars of commands that may take a while.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::flags::Output;

/// For work that is counted in steps of any size: what is done comes as the message.
pub(super) const STEPS: &str = "{bar:30} {percent}%  {msg}  {elapsed}, {eta} left";

/// For work that is counted in bytes.
pub(super) const BYTES: &str =
    "{bar:30} {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}  {elapsed}, {eta} left";

/// Draws a bar on standard error. Nothing is drawn where that is no terminal, nor where a program reads the answer.
pub(super) fn bar(output: Output, total: u64, template: &str) -> ProgressBar {
    let target = match output {
        Output::Json => ProgressDrawTarget::hidden(),
        Output::Table => ProgressDrawTarget::stderr_with_hz(5),
    };
    let bar = ProgressBar::with_draw_target(Some(total), target);
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}
