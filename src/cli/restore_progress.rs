//! Progress bars of a restore, one per phase.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::restore::{Phase, Progress};

/// Draws on standard error, where that is a terminal.
#[derive(Debug, Default)]
pub(super) struct Bars {
    bar: Mutex<Option<ProgressBar>>,
}

impl Bars {
    pub(super) fn new() -> Self {
        Self::default()
    }

    fn with_bar(&self, act: impl FnOnce(&mut Option<ProgressBar>)) {
        act(&mut self.bar.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Progress for Bars {
    fn begin(&self, phase: Phase, total_bytes: u64) {
        let template = match phase {
            Phase::Build | Phase::Compare => {
                "{msg:7} {bar:30} {human_pos} of {human_len}  {elapsed}, {eta} left"
            }
            _ => {
                "{msg:7} {bar:30} {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}  {elapsed}, {eta} left"
            }
        };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(Some(total_bytes), ProgressDrawTarget::stderr_with_hz(5));
        bar.set_style(style);
        bar.set_message(phase.name());
        bar.enable_steady_tick(Duration::from_millis(500));
        self.with_bar(|slot| *slot = Some(bar));
    }

    fn advance(&self, bytes: u64) {
        self.with_bar(|slot| {
            if let Some(bar) = slot {
                bar.inc(bytes);
            }
        });
    }

    fn end(&self) {
        self.with_bar(|slot| {
            if let Some(bar) = slot.take() {
                bar.finish_and_clear();
            }
        });
    }
}
