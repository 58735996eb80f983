//! The analysis while frames still come. Takes frames in nearly the order of time, and how far time has gone; gives
//! at any moment what was counted so far, and in the end the findings over the whole time, although the first frames
//! may be gone by then. Keeps no frame but those of the first second of traffic, which tell how frames can be
//! compared and how the clocks stand. Causes are looked for only in the end: the texts that name them come then.

use super::correlate::Settings;
use super::findings::Findings;
use super::locate::Counted;
use super::survey::Survey;
use super::{Evidence, Pass, findings};
use crate::evidence::capture_file::{CaptureError, FrameSource};
use crate::evidence::{Case, Known, PointId};
use crate::packet::{Frame, LinkType, Nanos, Timestamp};

/// One analysis under way.
pub struct Live {
    case: Case,
    settings: Settings,
    stage: Stage,
    /// The clock of the source's node, which the analysis goes by, minus the tracing machine's.
    offset: i64,
}

enum Stage {
    /// The first frames, until there are enough to look at.
    Beginning(First),
    Counting(Box<(Pass, Survey)>),
}

/// Frames that are kept for the first look.
#[derive(Debug, Default)]
struct First {
    frames: Vec<Kept>,
    next: usize,
}

#[derive(Debug)]
struct Kept {
    point: PointId,
    time: Timestamp,
    wire_len: u32,
    link: LinkType,
    bytes: Vec<u8>,
}

/// How long the first look takes, from the first frame on.
const FIRST_LOOK: Nanos = Nanos::from_millis(1_000);
/// And at most so many frames.
const MOST_FIRST: usize = 20_000;

impl Live {
    /// For a case whose capture has just begun. A packet that was not seen further along within `patience` is lost;
    /// that is known about twice as long after it.
    pub fn new(mut case: Case, patience: Nanos) -> Self {
        for point in &mut case.points {
            if let Known::Read(coverage) = &mut point.state {
                coverage.stopped = None;
            }
        }
        let clock = case.clocks.iter().find(|clock| Some(&clock.node) == case.from.node.as_ref());
        let offset = clock.map_or(0, |clock| clock.offset);
        let settings =
            Settings { window: patience, disorder: Nanos::from_millis(500), ..Settings::default() };
        Self { case, settings, stage: Stage::Beginning(First::default()), offset }
    }

    /// Takes a frame, by the clock of its node.
    pub fn take(&mut self, point: PointId, frame: &Frame<'_>) {
        match &mut self.stage {
            Stage::Beginning(first) => {
                first.keep(point, frame);
                if first.is_enough() {
                    self.begin();
                }
            }
            Stage::Counting(counting) => counting.0.take(point, frame),
        }
    }

    /// All frames up to `time`, in nanoseconds by the tracing machine's clock, were taken.
    pub fn advance(&mut self, time: i64) {
        let time = Timestamp(time.saturating_add(self.offset));
        if let Stage::Beginning(first) = &self.stage
            && first.frames.first().is_some_and(|first| time - first.time > FIRST_LOOK)
        {
            self.begin();
        }
        if let Stage::Counting(counting) = &mut self.stage {
            counting.0.advance(time);
        }
    }

    /// What a point's capture lost by now, for want of buffer and at its interface.
    pub fn dropped(&mut self, id: &str, dropped: u64, dropped_interface: u64) {
        let point = self.case.points.iter_mut().find(|point| point.id == id);
        if let Some(Known::Read(coverage)) = point.map(|point| &mut point.state) {
            coverage.dropped = dropped;
            coverage.dropped_interface = dropped_interface;
        }
    }

    /// What was counted by now; without causes.
    pub fn snapshot(&self) -> Findings {
        match &self.stage {
            Stage::Counting(counting) => counting.0.so_far(&self.case, &counting.1),
            Stage::Beginning(_) => {
                // Nothing was counted yet: the findings of no frames at all.
                let survey = Survey::untaken(&self.case);
                Pass::new(&self.case, &survey, self.settings).so_far(&self.case, &survey)
            }
        }
    }

    /// When the first packet was lost that is known to be, by the tracing machine's clock; also a request that its
    /// end refused or never answered, about then.
    pub fn first_loss(&self) -> Option<i64> {
        let Stage::Counting(counting) = &self.stage else { return None };
        let so_far = self.snapshot();
        let lost = so_far.routes.iter().flat_map(|route| &route.stages).filter(|stage| stage.lost > 0);
        let at = lost.filter_map(|stage| stage.lost_time).map(|(first, _)| first).min();
        let silent =
            so_far.routes.iter().any(|route| route.unanswered.as_ref().is_some_and(|end| end.lost() > 0));
        let about = silent.then(|| counting.0.latest - super::correlate::answers::PATIENCE);
        at.into_iter().chain(about).min().map(|time| time.0.saturating_sub(self.offset))
    }

    /// The findings over the whole time: `evidence` has the case as it ended, and the texts. Its frames are not read.
    pub fn conclude(mut self, evidence: &Evidence<'_>) -> Findings {
        self.begin();
        let Stage::Counting(counting) = self.stage else { unreachable!("it has just begun") };
        let (mut pass, survey) = *counting;
        pass.end(evidence.case, &survey);
        pass.conclude(evidence, &survey).0
    }

    /// Looks at the first frames, and counts them.
    fn begin(&mut self) {
        let Stage::Beginning(first) = &mut self.stage else { return };
        let survey = Survey::take(&self.case, first);
        // Frames in memory are always read.
        let survey = survey.unwrap_or_else(|_| Survey::untaken(&self.case));
        let mut pass = Pass::new(&self.case, &survey, self.settings);
        for kept in &first.frames {
            pass.take(kept.point, &kept.frame());
        }
        self.stage = Stage::Counting(Box::new((pass, survey)));
    }
}

impl Pass {
    fn so_far(&self, case: &Case, survey: &Survey) -> Findings {
        let Self { answers, sift, cut, correlator, .. } = self;
        let counted = Counted { tally: &correlator.so_far(), answers, sift, nat: &correlator.nat, cut };
        findings(case, survey, &counted, self.frames.clone())
    }

    /// Time has gone that far.
    fn advance(&mut self, now: Timestamp) {
        self.pass_time(now);
        self.correlator.advance(self.latest);
    }

    /// The captures have ended: their edges and the translations are known now.
    fn end(&mut self, case: &Case, survey: &Survey) {
        self.set_edges(case, survey);
        self.read_connections(case, survey);
    }
}

impl First {
    fn keep(&mut self, point: PointId, frame: &Frame<'_>) {
        self.frames.push(Kept {
            point,
            time: frame.time,
            wire_len: frame.wire_len,
            link: frame.link,
            bytes: frame.bytes.to_vec(),
        });
    }

    fn is_enough(&self) -> bool {
        let lasted = self.frames.first().zip(self.frames.last()).map(|(first, last)| last.time - first.time);
        self.frames.len() >= MOST_FIRST || lasted.is_some_and(|lasted| lasted > FIRST_LOOK)
    }
}

impl Kept {
    fn frame(&self) -> Frame<'_> {
        Frame { time: self.time, wire_len: self.wire_len, link: self.link, bytes: &self.bytes }
    }
}

impl FrameSource for First {
    fn next_frame(&mut self) -> Result<Option<(PointId, Frame<'_>)>, CaptureError> {
        let kept = self.frames.get(self.next);
        self.next += 1;
        Ok(kept.map(|kept| (kept.point, kept.frame())))
    }
}
