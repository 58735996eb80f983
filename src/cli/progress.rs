//! What is going on, on stderr: a line a point with its counts while capturing. Nothing when stderr is not a
//! terminal or the user asked for quiet, but for warnings.

use std::io::IsTerminal;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::evidence::ClockFact;
use crate::gather::run::{Ending, Event};

/// More points than these have no lines of their own.
const FEW: usize = 16;

/// The lines on the terminal.
pub(super) struct Progress {
    lines: Option<MultiProgress>,
    points: Vec<ProgressBar>,
    quiet: bool,
    /// A line a point.
    with_points: bool,
    verbose: bool,
}

impl Progress {
    pub(super) fn new(quiet: bool) -> Self {
        let shown = !quiet && std::io::stderr().is_terminal();
        Self {
            lines: shown.then(MultiProgress::new),
            points: Vec::new(),
            quiet,
            with_points: true,
            verbose: false,
        }
    }

    /// Words go above lines that are somebody else's; points have none of their own.
    pub(super) fn above(lines: MultiProgress) -> Self {
        let lines = std::io::stderr().is_terminal().then_some(lines);
        Self { lines, points: Vec::new(), quiet: false, with_points: false, verbose: false }
    }

    /// Words only.
    pub(super) fn plain(quiet: bool) -> Self {
        Self { lines: None, points: Vec::new(), quiet, with_points: false, verbose: false }
    }

    /// Tells of each node that answers, too.
    pub(super) fn verbose(self, verbose: bool) -> Self {
        Self { verbose, ..self }
    }

    /// Shows one event.
    pub(super) fn show(&mut self, event: &Event) {
        match event {
            Event::Reached(clock) if self.verbose => self.say(&reached(clock)),
            Event::Reached(_) | Event::Begun(_) | Event::Frames(_) => {}
            Event::Warning(words) => self.say(&format!("warning: {words}")),
            Event::Capturing(points) => self.begin(points),
            Event::Counts(counts) => {
                for line in &self.points {
                    if let Some((_, counts)) = counts.iter().find(|(id, _)| super::fit(id) == line.prefix()) {
                        let lost = if counts.dropped > 0 {
                            format!(", {} lost", counts.dropped)
                        } else {
                            String::new()
                        };
                        line.set_message(format!("{} frames{lost}", counts.received));
                        line.tick();
                    }
                }
            }
            Event::Probed(probe) => {
                self.say(&format!("probe {}: {} sent, {} answered", probe.kind, probe.sent, probe.answered));
            }
            Event::Stopping(why) => self.say(match why {
                Ending::Duration | Ending::Count | Ending::Probe => "stopping",
                Ending::Loss => "a packet was lost: stopping",
                Ending::Interrupted => "interrupted: reporting what was seen until now",
                Ending::AllLost => "no point captures any more: reporting what was seen until now",
            }),
        }
    }

    fn begin(&mut self, points: &[String]) {
        if points.len() > FEW {
            return self.say(&format!("capturing on {} points", points.len()));
        }
        self.say(&format!("capturing on {} points: {}", points.len(), points.join(", ")));
        let Some(lines) = self.lines.as_ref().filter(|_| self.with_points) else { return };
        let style = ProgressStyle::with_template("{spinner} {prefix}  {msg}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
        self.points = points
            .iter()
            .map(|point| {
                let line = lines.add(ProgressBar::new_spinner().with_style(style.clone()));
                line.set_prefix(super::fit(point));
                line
            })
            .collect();
    }

    /// Says something on stderr, above the lines.
    pub(super) fn say(&self, words: &str) {
        match &self.lines {
            Some(lines) => {
                let _unseen = lines.println(super::fit(words));
            }
            None if !self.quiet => super::complain(words),
            None => {}
        }
    }

    /// Takes the lines off the screen.
    pub(super) fn done(self) {
        for line in &self.points {
            line.finish_and_clear();
        }
    }
}

fn reached(clock: &ClockFact) -> String {
    let ClockFact { node, offset, error } = clock;
    format!("node {node} answers; its clock is off by {offset} ns, give or take {error} ns")
}
