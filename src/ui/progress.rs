//! Events as lines on standard error: a live line on a terminal, one line per finished step otherwise.

use crate::event::{Event, Listener};
use crate::ui::text;
use crate::value::bytes;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

/// Draws the steps of a plan.
#[derive(Debug)]
pub struct Progress {
    total: usize,
    live: Option<MultiProgress>,
    bars: RefCell<BTreeMap<u32, (ProgressBar, String)>>,
}

impl Progress {
    pub fn new(total: usize) -> Progress {
        let terminal = std::io::stderr().is_terminal() && crate::store::variable("CI").is_none();
        let live = terminal.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()));
        Progress { total, live, bars: RefCell::new(BTreeMap::new()) }
    }

    fn line(&self, line: &str) {
        match &self.live {
            Some(live) => _ = live.println(line),
            None => _ = writeln!(anstream::stderr(), "{line}"),
        }
    }
}

impl Listener for Progress {
    fn hear(&self, event: Event) {
        match event {
            Event::StepStarted { number, summary } => {
                if let Some(live) = &self.live {
                    let bar = live.add(ProgressBar::new_spinner());
                    bar.set_message(format!("[{number}/{}] {summary}", self.total));
                    bar.enable_steady_tick(Duration::from_millis(120));
                    self.bars.borrow_mut().insert(number, (bar, summary));
                }
            }
            Event::StepDone { number, summary, elapsed_ms, outcome } => {
                if let Some((bar, _)) = self.bars.borrow_mut().remove(&number) {
                    bar.finish_and_clear();
                }
                let seconds = elapsed_ms as f64 / 1000.0;
                self.line(&text::printable(&format!(
                    "  [{number}/{}] {summary}: {outcome} ({seconds:.1} s)",
                    self.total
                )));
            }
            Event::StepFailed { number, summary } => {
                if let Some((bar, _)) = self.bars.borrow_mut().remove(&number) {
                    bar.finish_and_clear();
                }
                self.line(&format!("  [{number}/{}] {summary}: failed", self.total));
            }
            Event::Bytes { number, done } => {
                if let Some((bar, summary)) = self.bars.borrow().get(&number) {
                    bar.set_message(format!("[{number}/{}] {summary}: {}", self.total, bytes::about(done)));
                }
            }
            // The outcome of the step says it.
            Event::Kept { .. } | Event::Unsaved { .. } | Event::WritesPaused { .. } | Event::Away { .. } => {}
            Event::Line { text } => self.line(&format!("    | {}", text::printable(&text))),
        }
    }
}
