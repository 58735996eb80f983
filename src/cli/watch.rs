//! A trace without an end, seen while it goes on: pushes the frames that are gathered into the analysis, shows what it
//! counts once a second, and ends the trace at the first loss if that was asked for. Judges nothing itself.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::args;
use super::progress::Progress;
use crate::analyze::findings::Findings;
use crate::analyze::live::Live;
use crate::evidence::case::Window;
use crate::gather::clock;
use crate::gather::run::{Enough, Event};
use crate::packet::{Nanos, Timestamp};
use crate::report;

/// What is shown and done while a trace goes on.
pub(super) struct Watch {
    screen: Screen,
    style: report::Style,
    until_loss: bool,
    enough: Enough,
    live: Option<Live>,
    begun: Instant,
    shown: Duration,
    /// A loss was seen and said.
    lost: bool,
}

/// Where what was counted is shown.
enum Screen {
    /// A table on the terminal.
    Table(ProgressBar),
    /// A line a second on stdout, or on stderr when stdout is kept for the report's data.
    Lines(fn() -> Box<dyn Write>),
    Nowhere,
}

/// How often it is shown.
const INTERVAL: Duration = Duration::from_secs(1);
/// On a screen, a packet that is so late counts as lost.
const SOON: Nanos = Nanos::from_millis(1_000);
/// To end a trace it must surely be lost, as in a report: neighbour resolution holds packets for three seconds.
const SURELY: Nanos = Nanos::from_millis(3_200);

impl Watch {
    /// As typed; `lines` are those of a terminal.
    pub(super) fn new(typed: &args::Trace, enough: Enough) -> (Self, Progress) {
        let quiet = typed.output.quiet;
        let screen_wanted = typed.watching.watch && !quiet;
        let data = typed.output.form != args::ReportForm::Text;
        let (screen, progress) = if screen_wanted && io::stdout().is_terminal() {
            let lines = MultiProgress::with_draw_target(indicatif::ProgressDrawTarget::stdout());
            let style = ProgressStyle::with_template("{msg}");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
            let table = lines.add(ProgressBar::new_spinner().with_style(style));
            (Screen::Table(table), Progress::above(lines))
        } else if screen_wanted {
            let to = if data { stderr as fn() -> Box<dyn Write> } else { stdout };
            (Screen::Lines(to), Progress::plain(quiet))
        } else {
            (Screen::Nowhere, Progress::new(quiet))
        };
        let watch = Self {
            screen,
            style: super::style(&typed.output),
            until_loss: typed.watching.until_loss,
            enough,
            live: None,
            begun: clock::instant(),
            shown: Duration::ZERO,
            lost: false,
        };
        (watch, progress)
    }

    /// Takes one event of the trace; gives words about it, if there are any.
    pub(super) fn take(&mut self, event: &Event) -> Option<String> {
        match event {
            Event::Begun(case) => {
                let patience = if self.until_loss { SURELY } else { SOON };
                self.live = Some(Live::new(case.as_ref().clone(), patience));
                self.begun = clock::instant();
                self.shown = Duration::ZERO;
            }
            Event::Frames(frames) => {
                if let Some(live) = &mut self.live {
                    frames.each(|point, frame| live.take(point, frame));
                    if let Some(until) = frames.until {
                        live.advance(until);
                    }
                }
            }
            Event::Counts(counts) => {
                let live = self.live.as_mut()?;
                for (id, counts) in counts {
                    live.dropped(id, counts.dropped, counts.dropped_interface);
                }
                let passed = self.begun.elapsed();
                if passed >= self.shown + INTERVAL {
                    self.shown = Duration::from_secs(passed.as_secs());
                    self.show();
                }
                return self.look_for_loss();
            }
            _ => {}
        }
        None
    }

    fn show(&self) {
        let Some(live) = &self.live else { return };
        match &self.screen {
            Screen::Table(table) => {
                let text = report::table(&live.snapshot(), self.shown.as_secs(), self.style);
                table.set_message(report::harmless(&text.unwrap_or_default()));
            }
            Screen::Lines(to) => {
                let line = report::line(&live.snapshot(), Timestamp(clock::now()));
                if writeln!(to(), "{}", report::harmless(&line)).is_err() {
                    self.enough.unseen();
                }
            }
            Screen::Nowhere => {}
        }
    }

    fn look_for_loss(&mut self) -> Option<String> {
        if !self.until_loss || self.lost {
            return None;
        }
        let live = self.live.as_ref()?;
        let at = live.first_loss()?;
        self.lost = true;
        self.enough.lost(at);
        Some(format!("the first loss: {}", report::line(&live.snapshot(), Timestamp(at))))
    }

    /// Takes the table off the screen; lines are parted from the report.
    pub(super) fn done(&self) {
        match &self.screen {
            Screen::Table(table) => table.finish_and_clear(),
            // Nobody may be there any more.
            Screen::Lines(to) => drop(writeln!(to())),
            Screen::Nowhere => {}
        }
    }

    /// The analysis, if any frame could come.
    pub(super) fn live(self) -> Option<Live> {
        self.live
    }
}

/// Says in the findings of the whole time that less of it was kept.
pub(super) fn note_what_is_kept(findings: &mut Findings, kept: Option<&Window>, saved: bool) {
    if let Some(kept) = kept.filter(|_| saved) {
        findings.warnings.push(format!(
            "this counts the whole time; the saved case holds the packets of the last {:.0} s, and a replay counts those",
            kept.seconds
        ));
    }
}

fn stdout() -> Box<dyn Write> {
    Box::new(io::stdout())
}

fn stderr() -> Box<dyn Write> {
    Box::new(io::stderr())
}
