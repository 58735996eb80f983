//! What the nodes say, and what it changes of what is known: points that begin, fail and end, frames that come, probes that are
//! through. What is to be done next is decided elsewhere.

use super::{About, Session};
use crate::evidence::case::{Coverage, ProbeFacts};
use crate::gather::agent::wire::FromAgent;
use crate::gather::capture::batch;
use crate::gather::run::node::News;
use crate::gather::run::point::{Point, State, role_in_words};
use crate::gather::run::{Event, GatherError, case};
use crate::packet::LinkType;

impl Session<'_> {
    /// Takes one piece of news.
    pub(super) fn hear(&mut self, node: usize, news: News) -> Result<(), GatherError> {
        match news {
            News::Reached(clock) => {
                for (number, _) in self.points.iter().enumerate().filter(|(_, point)| point.node == node) {
                    self.merge.set_offset(number, clock.offset);
                }
                self.nodes[node].clock = Some(clock.clone());
                self.tell(Event::Reached(clock));
                self.set_to_work();
            }
            News::Frames(frames) => return self.take_frames(node, frames),
            News::Lost(error) => {
                self.nodes[node].orders = None;
                let why = error.to_string();
                for number in 0..self.points.len() {
                    if self.points[number].node == node {
                        if matches!(self.points[number].state, State::Awaited) {
                            self.points[number].state = State::Unreached;
                        }
                        self.fail(number, &why);
                    }
                }
                self.failures.push(why.clone());
                self.warn(About::Node(node), why);
                self.set_to_work();
                // Nobody is left to say how the probes from there went.
                for pair in 0..self.spans.len() {
                    if self.request.plan(pair).from.node.as_ref() == Some(&self.nodes[node].facts.name) {
                        self.probe_ended(pair);
                    }
                }
            }
            News::Said(message) => self.listen(node, message),
        }
        Ok(())
    }

    fn listen(&mut self, node: usize, message: FromAgent) {
        match message {
            FromAgent::Pong { .. } | FromAgent::Alive | FromAgent::Failed(_) => {}
            FromAgent::Text(text) => self.texts.push(text),
            FromAgent::Started { point, interface, link, time } => {
                if let Some(point) = self.own(node, point) {
                    point.interface = Some(interface);
                    point.link = Some(LinkType::from_number(link));
                    point.state = State::Capturing { since: time };
                }
            }
            FromAgent::Refused { point, interface, why } => self.refuse(node, point, interface, &why),
            FromAgent::Ready => {
                self.nodes[node].ready = true;
                for number in 0..self.points.len() {
                    if self.points[number].node == node && matches!(self.points[number].state, State::Awaited)
                    {
                        self.fail(number, "the capture did not begin in time");
                    }
                }
            }
            FromAgent::Counted { point, counts } => {
                if let Some(own) = self.own(node, point) {
                    own.counts = counts;
                    self.merge.complete(usize::from(point), counts.complete_until);
                }
            }
            FromAgent::Turned { point, up, time } => {
                if self.own(node, point).is_some() {
                    let (id, way) = (self.id(usize::from(point)), if up { "came up" } else { "went down" });
                    let seconds = time.saturating_sub(self.begun) / 1_000_000_000;
                    let pair = About::Pair(self.points[usize::from(point)].pair);
                    self.warn(pair, format!("{id} {way} about {seconds} s after capturing had begun"));
                }
            }
            FromAgent::Ended { point, coverage } => self.end(node, point, coverage),
            FromAgent::Probed(pair, result) => self.probed(usize::from(pair), result),
            FromAgent::Done => self.nodes[node].orders = None,
        }
    }

    fn probed(&mut self, pair: usize, result: Result<ProbeFacts, String>) {
        let Some(place) = self.probes.get_mut(pair) else { return };
        match result {
            Ok(facts) => *place = Some(facts),
            Err(why) => self.warn(About::Pair(pair), why),
        }
        self.probe_ended(pair);
    }

    fn refuse(&mut self, node: usize, point: u16, interface: Option<String>, why: &str) {
        let Some(own) = self.own(node, point) else { return };
        let found = interface.is_some();
        own.interface = interface;
        let number = usize::from(point);
        self.fail(number, why);
        let (name, role) = (&self.nodes[node].facts.name, self.planned(number).role);
        let text = format!("{name}: no capture at {}: {why}", role_in_words(role));
        // Several pairs may meet the same interface.
        let known = self.failures.contains(&text);
        if !known {
            self.failures.push(text.clone());
        }
        if found {
            self.warn(About::Pair(self.points[number].pair), text);
        } else if !known {
            // The case names the points that were not found by itself.
            self.tell(Event::Warning(text));
        }
    }

    fn end(&mut self, node: usize, point: u16, coverage: Coverage) {
        let Some(own) = self.own(node, point) else { return };
        let failed = coverage.failed.clone();
        own.state = State::Ended(coverage);
        self.merge.close(usize::from(point));
        if let Some(why) = failed {
            let id = self.id(usize::from(point));
            let pair = About::Pair(self.points[usize::from(point)].pair);
            self.warn(pair, format!("capturing at {id} ended early: {why}"));
        }
    }

    /// A point that will not capture any more, for a reason that its agent could not give itself.
    fn fail(&mut self, number: usize, why: &str) {
        self.merge.close(number);
        self.points[number].give_up(why, self.request.settings.snaplen);
    }

    /// Points whose end was not heard of.
    pub(super) fn end_points(&mut self, why: &str) {
        for number in 0..self.points.len() {
            self.fail(number, why);
        }
    }

    fn take_frames(&mut self, node: usize, frames: Vec<u8>) -> Result<(), GatherError> {
        let mut rest = frames.as_slice();
        let Some(first) = batch::take(&mut rest) else { return Ok(()) };
        let number = usize::from(first.point);
        if self.own(node, first.point).is_none() {
            return Ok(());
        }
        let pair = self.points[number].pair;
        // Before all capture, a packet counts for nobody.
        let counts = self.request.count.is_some() && !self.drafts.is_empty();
        if counts && self.first_open(pair) == Some(number) {
            let link = self.points[number].link.unwrap_or(LinkType::Ethernet);
            self.counted += case::forward_packets(&frames, link, self.request.plan(pair));
        }
        self.merge.push(number, frames);
        self.write_frames()
    }

    pub(super) fn write_frames(&mut self) -> Result<(), GatherError> {
        let Self { drafts, merge, points, spans, .. } = self;
        if drafts.is_empty() {
            return Ok(());
        }
        merge.drain(|point, frame| {
            let pair = points[point].pair;
            drafts[pair].put(point - spans[pair].start, &frame)
        })?;
        let told: Vec<_> = self.drafts.iter_mut().filter_map(|draft| draft.told(self.merge.safe())).collect();
        for frames in told {
            self.tell(Event::Frames(frames));
        }
        Ok(())
    }

    /// A point by the number that its own node gives; nobody speaks for another node's points.
    fn own(&mut self, node: usize, point: u16) -> Option<&mut Point> {
        self.points.get_mut(usize::from(point)).filter(|point| point.node == node)
    }
}
