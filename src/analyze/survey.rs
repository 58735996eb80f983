//! A first look at the captures, before packets are matched: how the nodes' clocks stand to each other, how deep
//! frames can be compared, and from when to when each point was listening. Reads the beginning of the frames only.

use crate::evidence::capture_file::{CaptureError, FrameSource};
use crate::evidence::{Case, Direction, PointId, Role};
use crate::packet::{Frame, Nanos, Packet, Timestamp, Transport, Tunnel};

use super::correlate::clocks::{ClockSurvey, Offset};
use super::correlate::fingerprint::{Depth, Fingerprint};
use super::correlate::sift::Sift;
use super::correlate::tally::Listening;
use super::findings::Clock;

/// What the first look showed.
pub(super) struct Survey {
    pub(super) depth: Depth,
    /// Frames of tunnels that the ends themselves have made: what is in them is between others.
    pub(super) own_tunnels: u64,
    offset: Option<Offset>,
    /// Taken off the times of the destination's node.
    applied: Nanos,
    source: String,
}

/// Frames looked at, and those of the trace among them.
const MOST: (usize, usize) = (200_000, 100_000);
/// Headers before the payload of the innermost packet, at most: on a NIC with VLAN, IPv6, UDP, VXLAN, Ethernet, IPv6,
/// TCP with options; elsewhere without the tunnel's.
const HEADERS: (usize, usize) = (14 + 4 + 40 + 8 + 8 + 14 + 40 + 60, 14 + 4 + 40 + 60);

impl Survey {
    /// Of a case without frames.
    pub(super) fn untaken(case: &Case) -> Self {
        let mut survey = Self {
            depth: Depth::default(),
            own_tunnels: 0,
            offset: None,
            applied: Nanos::default(),
            source: String::new(),
        };
        survey.decide(case);
        survey
    }

    pub(super) fn take(case: &Case, source: &mut dyn FrameSource) -> Result<Self, CaptureError> {
        let mut depth = Depth::default();
        for point in &case.points {
            let headers = if point.role == Role::Nic { HEADERS.0 } else { HEADERS.1 };
            if let Some(snaplen) = point.state.read().map(|coverage| coverage.snaplen as usize)
                && snaplen > 0
                && snaplen < headers + Depth::MOST
            {
                depth.payload = depth.payload.min(snaplen.saturating_sub(headers));
            }
        }
        let mut sift = Sift::new(case);
        let mut clocks = ClockSurvey::default();
        let on_from = case.points.iter().map(|point| case.from.node.as_ref() == Some(&point.node));
        let on_from: Vec<bool> = on_from.collect();
        let one_clock = on_from.iter().all(|on_from| *on_from) || !on_from.contains(&true);
        let (mut frames, mut own, mut own_tunnels) = (0, 0, 0);
        while frames < MOST.0 && own < MOST.1 {
            let Some((point, frame)) = source.next_frame()? else { break };
            let on_from = (!one_clock).then(|| on_from[point.index()]);
            frames += 1;
            let seen = (&mut sift, &mut clocks, &mut depth, &mut own_tunnels);
            own += usize::from(look(case, seen, (point, on_from), &frame));
        }
        let mut survey = Self {
            depth,
            own_tunnels,
            offset: clocks.offset(),
            applied: Nanos::default(),
            source: String::new(),
        };
        survey.decide(case);
        Ok(survey)
    }

    /// Packets in both directions tell the offset best; then what the agents measured; then one direction alone.
    fn decide(&mut self, case: &Case) {
        let fact = |node: &Option<String>| {
            let clock = case.clocks.iter().find(|clock| Some(&clock.node) == node.as_ref());
            clock.map(|clock| (clock.offset, clock.error))
        };
        let measured = match (fact(&case.from.node), fact(&case.to.node)) {
            (Some((from, from_error)), Some((to, to_error))) => {
                Some((Nanos(to.saturating_sub(from)), Nanos(from_error.saturating_add(to_error))))
            }
            _ => None,
        };
        let seen = self.offset.filter(|offset| offset.error.is_some());
        let (offset, source) = match (seen, measured, self.offset) {
            (Some(offset), _, _) => {
                (offset, format!("estimated from {} packets in both directions", offset.packets))
            }
            (None, Some((offset, error)), _) => (
                Offset { offset, error: Some(error), packets: 0 },
                "measured over the agents' pipes".to_owned(),
            ),
            (None, None, Some(bound)) => {
                (bound, format!("only bounded by {} packets in one direction", bound.packets))
            }
            (None, None, None) => return,
        };
        self.applied = offset.offset;
        self.offset = Some(offset);
        self.source = source;
    }

    /// What is taken off each point's times, so that all are by the clock of the source's node.
    pub(super) fn shifts(&self, case: &Case) -> Vec<Nanos> {
        let shift = |node: &String| match &case.from.node {
            Some(from) if from == node => Nanos::default(),
            _ if case.to.node.as_ref() == Some(node) => self.applied,
            _ => Nanos::default(),
        };
        case.points.iter().map(|point| shift(&point.node)).collect()
    }

    /// When the positions of a direction's path were listening, by the aligned clock.
    pub(super) fn listening(&self, case: &Case, direction: Direction) -> Vec<Listening> {
        let shifts = self.shifts(case);
        let path = case.paths.iter().find(|path| path.direction == direction);
        let points = path.map(|path| path.points.as_slice()).unwrap_or_default();
        let listening = points.iter().map(|point| {
            let shift = shifts[point.index()];
            let coverage = case.points[point.index()].state.read();
            let at = |time: Option<i64>, else_: Timestamp| time.map_or(else_, |time| Timestamp(time) - shift);
            Listening {
                start: at(coverage.and_then(|c| c.started), Listening::EVER.start),
                stop: at(coverage.and_then(|c| c.stopped), Listening::EVER.stop),
            }
        });
        listening.collect()
    }

    /// When the first capture ended, as far as that is known.
    pub(super) fn stop(&self, case: &Case) -> Option<Timestamp> {
        let ends =
            [Direction::Forward, Direction::Reply].into_iter().flat_map(|way| self.listening(case, way));
        ends.map(|listening| listening.stop).min().filter(|stop| *stop < Listening::EVER.stop)
    }

    /// How wrong times between the two nodes may be; None when that is not known.
    pub(super) fn clock_error(&self, case: &Case) -> Option<Nanos> {
        if case.from.node == case.to.node {
            return Some(Nanos::default());
        }
        self.offset.and_then(|offset| offset.error)
    }

    pub(super) fn clock(&self, case: &Case) -> Option<Clock> {
        let offset = self.offset.filter(|_| case.from.node != case.to.node)?;
        Some(Clock {
            node: case.to.node.clone().unwrap_or_else(|| case.to.name.clone()),
            offset: offset.offset,
            error: offset.error,
            source: self.source.clone(),
        })
    }
}

/// Looks at a frame; whether it is of the trace.
fn look(
    case: &Case,
    (sift, clocks, depth, own_tunnels): (&mut Sift, &mut ClockSurvey, &mut Depth, &mut u64),
    (point, on_from): (PointId, Option<bool>),
    frame: &Frame<'_>,
) -> bool {
    let packet = Packet::read(frame);
    let Some(sifted) = sift.sift(point, &packet) else {
        let between = |tunnel: &Tunnel| sift.is_between(tunnel.outer.src, tunnel.outer.dst);
        *own_tunnels += u64::from(packet.tunnels.iter().any(between));
        return false;
    };
    if sifted.flow.src != case.from.address {
        depth.client_port = false;
    }
    let is_tcp = matches!(packet.transport, Transport::Tcp(_));
    let was_cut = (frame.bytes.len() as u64) < u64::from(frame.wire_len);
    if was_cut && !is_tcp && packet.payload.len() < packet.payload_len as usize {
        depth.payload = depth.payload.min(packet.payload.len());
    }
    if was_cut && is_tcp && packet.stopped.is_some() {
        depth.timestamps = false;
    }
    // Compared without payload: how deep frames can be compared is only known at the end.
    let shallow = Depth { payload: 0, timestamps: false, client_port: false };
    if let Some(on_from) = on_from
        && let Some(print) = Fingerprint::of(&packet, sifted.direction, &sifted.flow, shallow)
        && sifted.astray.is_none()
    {
        clocks.note(print.key, sifted.direction, sifted.position, on_from, frame.time);
    }
    true
}
