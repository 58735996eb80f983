//! One reading of all frames: takes them in nearly the order of time, and counts. Whose packet a frame is, what it is
//! recognised by, whether it is a piece of another, whether it answers a request: each is asked of the room that knows.

use super::correlate::answers::Answers;
use super::correlate::fingerprint::Depth;
use super::correlate::nat::{FlowId, Nat};
use super::correlate::reassembly::OuterFragments;
use super::correlate::sift::{Sift, Sifted};
use super::correlate::tally::Tally;
use super::correlate::{Correlator, Settings, Sighting};
use super::survey::Survey;
use crate::evidence::case::MOST_CONNECTIONS;
use crate::evidence::{Case, Direction, PointId};
use crate::packet::{Frame, LinkType, Nanos, Packet, Timestamp, Transport};

/// One reading of all frames.
pub(super) struct Pass {
    pub(super) sift: Sift,
    pub(super) depth: Depth,
    /// Taken off each point's times.
    pub(super) shift: Vec<Nanos>,
    pub(super) correlator: Correlator,
    pub(super) fragments: OuterFragments,
    pub(super) answers: Answers,
    pub(super) frames: Vec<u64>,
    pub(super) links: Vec<Option<LinkType>>,
    /// Frames of which too little was kept to recognise them.
    pub(super) cut: Vec<u64>,
    /// The end of each direction's path.
    last: [u8; 2],
    pub(super) latest: Timestamp,
}

impl Pass {
    pub(super) fn new(case: &Case, survey: &Survey, settings: Settings) -> Self {
        let tally =
            Tally::new(survey.listening(case, Direction::Forward), survey.listening(case, Direction::Reply));
        let sift = Sift::new(case);
        let nat = Nat::between(case.from.address, case.to.address);
        let length = |direction| {
            let path = case.paths.iter().find(|path| path.direction == direction);
            path.map_or(0, |path| u8::try_from(path.points.len().saturating_sub(1)).unwrap_or(u8::MAX))
        };
        let mut pass = Self {
            sift,
            depth: survey.depth,
            shift: survey.shifts(case),
            correlator: Correlator::new(settings, nat, tally),
            fragments: OuterFragments::new(captured_by_us(case)),
            answers: Answers::default(),
            frames: vec![0; case.points.len()],
            links: vec![None; case.points.len()],
            cut: vec![0; case.points.len()],
            last: [length(Direction::Forward), length(Direction::Reply)],
            latest: Timestamp(i64::MIN),
        };
        pass.read_connections(case, survey);
        pass
    }

    /// What connection tracking said of the nodes.
    pub(super) fn read_connections(&mut self, case: &Case, survey: &Survey) {
        let Self { sift, correlator, .. } = self;
        for entry in &case.conntrack {
            correlator.nat.read_conntrack(&entry.text, |flow| sift.direction(flow));
        }
        let of_source = case.conntrack.iter().find(|entry| Some(&entry.node) == case.from.node.as_ref());
        let whole = of_source.is_some_and(|entry| entry.text.lines().count() < MOST_CONNECTIONS);
        if let (true, Some(end)) = (whole && captured_by_us(case), survey.stop(case)) {
            correlator.listed(end);
        }
    }

    /// Takes a frame: all that is known of it is read here.
    pub(super) fn take(&mut self, point: PointId, frame: &Frame<'_>) {
        self.links[point.index()].get_or_insert(frame.link);
        let packet = Packet::read(frame);
        let time = frame.time - self.shift[point.index()];
        self.pass_time(time);
        let sighting = match self.sift.sift(point, &packet) {
            Some(sifted) => {
                self.frames[point.index()] += 1;
                self.sighting(point, &packet, &sifted, time)
            }
            None => None,
        };
        let outer = packet.tunnels.first().map(|tunnel| &tunnel.outer);
        let outer = outer.or(packet.ip().filter(|_| packet.transport == Transport::LaterFragment));
        let sighting = match outer.filter(|outer| outer.fragment.is_some()) {
            // A fragment of the traced packet itself, not of a tunnel's.
            Some(_) if sighting.is_some() && packet.tunnels.is_empty() => sighting,
            Some(outer) => self.fragments.take(point, outer, time, sighting),
            None => sighting,
        };
        if let Some(sighting) = sighting {
            self.correlator.push(&sighting);
        }
    }

    /// Takes a frame of which a lane made a sighting: one that no fragment, way astray or ICMP error has to do
    /// with; and its flow, where that is known.
    #[inline]
    pub(super) fn see(&mut self, point: PointId, sighting: &Sighting, flow: Option<FlowId>) {
        self.pass_time(sighting.time);
        self.frames[point.index()] += 1;
        let flow = self.correlator.push_of(sighting, flow);
        if sighting.position == self.last[sighting.direction as usize] {
            self.answers.arrived(sighting, flow);
        }
        self.answers.heard(sighting);
    }

    /// Time has gone that far: what waited for too long is judged, before anything later is looked at.
    #[inline]
    pub(super) fn pass_time(&mut self, time: Timestamp) {
        self.latest = self.latest.max(time);
        let correlator = &mut self.correlator;
        self.fragments.advance(self.latest, |late| {
            correlator.push(&late);
        });
        self.answers.advance(self.latest);
    }

    fn sighting(
        &mut self,
        point: PointId,
        packet: &Packet<'_>,
        sifted: &Sifted,
        time: Timestamp,
    ) -> Option<Sighting> {
        packet.ip()?;
        let Some(sighting) = Sighting::of(packet, sifted, self.depth, time) else {
            self.cut[point.index()] += 1;
            return None;
        };
        let flow = self.correlator.nat.id(sifted.flow);
        if sifted.position == self.last[sifted.direction as usize] {
            self.answers.arrived(&sighting, flow);
        }
        self.answers.heard(&sighting);
        if let Transport::IcmpError(error) = &packet.transport {
            self.answers.heard_error(error, sifted.direction, sifted.position == 0, time);
        }
        Some(sighting)
    }

    /// The edges of the captures are known better now.
    pub(super) fn set_edges(&mut self, case: &Case, survey: &Survey) {
        for direction in [Direction::Forward, Direction::Reply] {
            self.correlator.tally.set_listening(direction, survey.listening(case, direction));
        }
    }
}

/// Whether the captures were made by this program, and so with one filter: only then their beginning is known.
fn captured_by_us(case: &Case) -> bool {
    case.points.iter().filter_map(|point| point.state.read()).all(|coverage| !coverage.guessed)
}
