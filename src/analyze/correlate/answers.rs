//! Requests that reached the end of the path, and whether it answered: echo requests, TCP's SYN, and datagrams that
//! an ICMP error refused. Only what a kernel always answers is asked for; a silent UDP server proves nothing. So a flow
//! of datagrams is followed from its first refusal on; what came of it shortly before is told by the [`Arrivals`].

use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::hash::Hasher;
use std::net::IpAddr;

use rustc_hash::{FxHashMap, FxHasher};

use crate::evidence::Direction;
use crate::packet::{IcmpError, Nanos, Quoted, Tcp, Timestamp, Transport};

use super::Sighting;
use super::gist::Gist;
use super::nat::FlowId;

/// Requests waiting for their answer.
#[derive(Debug, Default)]
pub struct Answers {
    /// Refused flows of datagrams of each direction by themselves: every datagram asks whether it is of one.
    open: [FxHashMap<u64, Ask>; 3],
    /// Datagrams of each direction that came to its end.
    came: [Arrivals; 2],
    queue: VecDeque<(Timestamp, Key)>,
    /// What came of the requests of each direction.
    pub counts: [Answered; 2],
}

/// What came of the requests of one direction.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answered {
    /// Requests that reached the end of the path.
    pub arrived: u64,
    /// Of these, answered.
    pub answered: u64,
    /// Refused: a TCP reset, or an ICMP error from the end itself.
    pub refused: u64,
    /// Neither.
    pub silent: u64,
    /// Flows of requests refused or not answered, a few of them.
    pub examples: Vec<FlowId>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Ask {
    last: Timestamp,
    /// Which way it went and of which flow; None until it was seen itself.
    asked: Option<(Direction, FlowId)>,
    arrived: u32,
    answered: bool,
    refused: bool,
    /// A datagram is only judged when it was refused.
    must_answer: bool,
    refusals: Refusals,
}

/// Which datagrams of a flow were refused. The kernel may send no more than one error a second (`icmp_ratelimit`), but where all are
/// refused it sends that one: so those between two errors are refused too, and those after the last unless more came when the
/// next error was due.
#[derive(Debug, Default, Clone, Copy)]
struct Refusals {
    /// The last error.
    last: Option<Timestamp>,
    /// Datagrams that came since, before the next error was due.
    since: u32,
    /// Others came after that.
    overdue: bool,
    datagrams: u32,
}

/// The flows of datagrams that came to the end of one direction last: about as many as there are places, the older
/// ones giving theirs up.
#[derive(Debug, Default)]
struct Arrivals(Vec<Option<Arrival>>);

/// Datagrams of one flow, none of them long after the one before.
#[derive(Debug, Clone, Copy)]
struct Arrival {
    key: Key,
    flow: FlowId,
    count: u32,
    last: Timestamp,
    answered: bool,
}

/// What a request and its answer have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key(u64);

/// A kernel answers at once; this long covers a busy one.
pub const PATIENCE: Nanos = Nanos::from_millis(3_000);
/// Requests that came this close to the end of the capture are not judged.
const EDGE: Nanos = Nanos::from_millis(250);
const MOST_EXAMPLES: usize = 8;
/// When the next error is due, and some more.
const RATE: Nanos = Nanos::from_millis(1_100);
/// In the core's cache, all of them.
const MOST_ARRIVALS: usize = 4_096;
const UDP: u8 = 17;

impl Answers {
    /// A packet that was seen at the end of its path.
    pub fn arrived(&mut self, seen: &Sighting, flow: FlowId) {
        let Sighting { direction, time, .. } = *seen;
        let (key, must_answer) = match seen.gist {
            Gist::Echo { request: true, seq } => (echo(direction, seen.flow.src_port, seq), true),
            Gist::Tcp { flags, seq, .. } if flags & (Tcp::SYN | Tcp::ACK) == Tcp::SYN => {
                (syn(direction, seq), true)
            }
            Gist::Other(_) if seen.flow.protocol == UDP => {
                let key = datagram(direction, ports(seen));
                if !self.is_open(key) {
                    return self.came[direction as usize].note(key, flow, time);
                }
                (key, false)
            }
            _ => return,
        };
        let ask = self.open[key.table()].entry(key.0).or_default();
        if ask.arrived == 0 && !ask.answered && !ask.refused {
            self.queue.push_back((time, key));
        }
        ask.asked = Some((direction, flow));
        ask.arrived += 1;
        ask.must_answer = must_answer;
        ask.refusals.came(time);
        ask.last = ask.last.max(time);
    }

    /// A packet that may answer one that went the other way.
    pub fn heard(&mut self, seen: &Sighting) {
        let back = seen.direction.back();
        let (key, refused) = match seen.gist {
            Gist::Echo { request: false, seq } => (echo(back, seen.flow.src_port, seq), false),
            Gist::Tcp { flags, ack, .. } if flags & Tcp::ACK != 0 && flags & (Tcp::SYN | Tcp::RST) != 0 => {
                (syn(back, ack.wrapping_sub(1)), flags & Tcp::RST != 0)
            }
            Gist::Other(_) if seen.flow.protocol == UDP => {
                let (src_port, dst_port) = ports(seen);
                let key = datagram(back, (dst_port, src_port));
                if !self.is_open(key) {
                    return self.came[back as usize].answer(key);
                }
                (key, false)
            }
            _ => return,
        };
        self.note(key, refused, seen.time);
    }

    /// An ICMP error of `direction` about a packet that went the other way. Only those by which an end refuses count: that a
    /// fragment was missing, or a router's time was over, is no refusal. `first`: where it was sent, each is counted once.
    pub fn heard_error(&mut self, error: &IcmpError, direction: Direction, first: bool, time: Timestamp) {
        let Some(quoted) = error.quoted.as_deref().filter(|quoted| is_refusal(error, quoted.ip.src)) else {
            return;
        };
        if let Some(key) = quoted_key(direction.back(), quoted) {
            if matches!(quoted.transport, Transport::Udp(_)) && !self.is_open(key) {
                self.follow(key, direction.back(), time);
            }
            self.note(key, true, time);
            if first && let Some(ask) = self.open[key.table()].get_mut(&key.0) {
                ask.refusals.heard(time);
            }
        }
    }

    fn is_open(&self, key: Key) -> bool {
        let table = &self.open[key.table()];
        !table.is_empty() && table.contains_key(&key.0)
    }

    /// A flow of datagrams is refused: what came of it until now counts.
    fn follow(&mut self, key: Key, direction: Direction, time: Timestamp) {
        let Some(came) = self.came[direction as usize].take(key, time) else { return };
        let Arrival { flow, count, last, answered, .. } = came;
        let asked = Some((direction, flow));
        let refusals = Refusals::default();
        let ask = Ask { last, asked, arrived: count, answered, refused: true, must_answer: false, refusals };
        self.open[key.table()].insert(key.0, ask);
        self.queue.push_back((time, key));
    }

    /// Captures may show an answer before its request: it waits for it.
    fn note(&mut self, key: Key, refused: bool, time: Timestamp) {
        let ask = self.open[key.table()].entry(key.0).or_insert_with(|| {
            self.queue.push_back((time, key));
            Ask { must_answer: true, ..Ask::default() }
        });
        ask.refused |= refused;
        ask.answered |= !refused;
    }

    /// Judges the requests that had time enough to be answered.
    #[inline]
    pub fn advance(&mut self, now: Timestamp) {
        if self.queue.front().is_some_and(|(time, _)| now - *time >= PATIENCE) {
            self.judge_due(now);
        }
    }

    fn judge_due(&mut self, now: Timestamp) {
        while let Some(&(time, key)) = self.queue.front() {
            if now - time < PATIENCE {
                break;
            }
            self.queue.pop_front();
            let Entry::Occupied(open) = self.open[key.table()].entry(key.0) else { continue };
            let ask = open.get();
            // A flow of datagrams is judged when it has been still for a while.
            if !ask.must_answer && now - ask.last < PATIENCE {
                self.queue.push_back((ask.last.max(time + EDGE), key));
            } else {
                let ask = open.remove();
                self.judge(&ask);
            }
        }
    }

    /// Judges what is left, but for requests too near to the end of the captures.
    pub fn finish(&mut self, stop: Timestamp) {
        while let Some((time, key)) = self.queue.pop_front() {
            if time + EDGE <= stop
                && let Some(ask) = self.open[key.table()].remove(&key.0)
            {
                self.judge(&ask);
            }
        }
    }

    fn judge(&mut self, ask: &Ask) {
        let Some((direction, flow)) = ask.asked else { return };
        if !ask.must_answer && (!ask.refused || ask.answered) {
            return;
        }
        let counts = &mut self.counts[direction as usize];
        let arrived =
            if ask.must_answer { ask.arrived } else { ask.refusals.all().clamp(1, ask.arrived.max(1)) };
        let arrived = u64::from(arrived);
        counts.arrived += arrived;
        if ask.answered {
            counts.answered += arrived;
            return;
        }
        if ask.refused {
            counts.refused += arrived;
        } else {
            counts.silent += arrived;
        }
        if counts.examples.len() < MOST_EXAMPLES {
            counts.examples.push(flow);
        }
    }
}

impl Refusals {
    fn came(&mut self, time: Timestamp) {
        if let Some(last) = self.last {
            let soon = time - last <= RATE;
            self.since += u32::from(soon);
            self.overdue |= !soon;
        }
    }

    fn heard(&mut self, time: Timestamp) {
        let soon = self.last.is_some_and(|last| time - last <= RATE);
        let datagrams = self.datagrams + if soon { self.since.max(1) } else { 1 };
        *self = Self { last: Some(time), datagrams, ..Self::default() };
    }

    fn all(&self) -> u32 {
        self.datagrams + if self.overdue { 0 } else { self.since }
    }
}

impl Arrivals {
    fn place(&mut self, key: Key) -> Option<&mut Option<Arrival>> {
        let number = (key.0 >> 2) as usize % MOST_ARRIVALS;
        self.0.get_mut(number)
    }

    fn note(&mut self, key: Key, flow: FlowId, time: Timestamp) {
        if self.0.is_empty() {
            self.0.resize(MOST_ARRIVALS, None);
        }
        match self.place(key) {
            Some(Some(known)) if known.is_of(key, time) => {
                known.count += 1;
                known.last = known.last.max(time);
            }
            Some(place) => *place = Some(Arrival { key, flow, count: 1, last: time, answered: false }),
            None => {}
        }
    }

    fn answer(&mut self, key: Key) {
        if let Some(Some(known)) = self.place(key)
            && known.key == key
        {
            known.answered = true;
        }
    }

    /// What came of a flow lately.
    fn take(&mut self, key: Key, time: Timestamp) -> Option<Arrival> {
        self.place(key)?.take_if(|known| known.is_of(key, time))
    }
}

impl Arrival {
    /// Whether it is of that flow, which has not been still since.
    fn is_of(&self, key: Key, time: Timestamp) -> bool {
        self.key == key && time - self.last < PATIENCE
    }
}

impl Key {
    /// Which of the tables, in the lowest bits.
    fn table(self) -> usize {
        (self.0 & 3) as usize
    }
}

/// "Unreachable", of a protocol, a port, or because it is forbidden (RFC 792, RFC 1812 5.2.7.1, RFC 4443 3.1).
fn is_refusal(error: &IcmpError, about: IpAddr) -> bool {
    match about {
        IpAddr::V4(_) => error.kind == 3 && matches!(error.code, 2 | 3 | 9 | 10 | 13),
        IpAddr::V6(_) => error.kind == 1 && matches!(error.code, 1 | 4),
    }
}

fn quoted_key(direction: Direction, quoted: &Quoted) -> Option<Key> {
    match &quoted.transport {
        Transport::Udp(udp) => Some(datagram(direction, (udp.src_port, udp.dst_port))),
        Transport::Tcp(tcp) => Some(syn(direction, tcp.seq)),
        Transport::Echo { request: true, id, seq } => Some(echo(direction, *id, *seq)),
        _ => None,
    }
}

fn echo(direction: Direction, id: u16, seq: u16) -> Key {
    key(1, direction, u32::from(id) << 16 | u32::from(seq))
}

fn syn(direction: Direction, seq: u32) -> Key {
    key(6, direction, seq)
}

/// Source and destination port as the packet itself bore them.
fn ports(seen: &Sighting) -> (u16, u16) {
    match seen.direction {
        Direction::Forward => (seen.flow.src_port, seen.flow.dst_port),
        Direction::Reply => (seen.flow.dst_port, seen.flow.src_port),
    }
}

fn datagram(direction: Direction, (src_port, dst_port): (u16, u16)) -> Key {
    key(UDP, direction, u32::from(src_port) << 16 | u32::from(dst_port))
}

fn key(protocol: u8, direction: Direction, what: u32) -> Key {
    let mut hash = FxHasher::default();
    hash.write_u64(u64::from(protocol) << 40 | (direction as u64) << 32 | u64::from(what));
    let table = if protocol == UDP { 1 + direction as u64 } else { 0 };
    Key(hash.finish() & !3 | table)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::super::fingerprint::{Fingerprint, Span};
    use super::super::nat::Nat;
    use super::*;
    use crate::packet::{Flow, Ip, Udp};

    const CLIENT: &str = "10.244.1.2";
    const SERVER: &str = "10.244.2.2";

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn flow(src_port: u16) -> Flow {
        Flow { src: address(CLIENT), dst: address(SERVER), protocol: UDP, src_port, dst_port: 53 }
    }

    fn seen(direction: Direction, src_port: u16, time: Nanos) -> Sighting {
        Sighting {
            direction,
            position: 0,
            time: Timestamp(time.0),
            print: Fingerprint { key: 1, span: Span::Whole },
            flow: flow(src_port),
            gist: Gist::Other(12),
            ttl: 64,
            ip_len: 40,
            astray: None,
        }
    }

    /// Datagrams to port 53 from each of the ports given, at the given milliseconds.
    fn arrive(answers: &mut Answers, ports: &[u16], millis: i64) {
        for port in ports {
            let id = Nat::default().id(flow(*port));
            answers.arrived(&seen(Direction::Forward, *port, Nanos::from_millis(millis)), id);
        }
    }

    fn refuse(answers: &mut Answers, src_port: u16, millis: i64) {
        told(answers, (3, 3), src_port, millis);
    }

    fn told(answers: &mut Answers, (kind, code): (u8, u8), src_port: u16, millis: i64) {
        let quoted = Quoted {
            ip: Ip {
                src: address(CLIENT),
                dst: address(SERVER),
                protocol: UDP,
                ttl: 62,
                traffic_class: 0,
                id: Some(7),
                dont_fragment: true,
                fragment: None,
                payload_len: 20,
                checksum_ok: Some(true),
            },
            transport: Transport::Udp(Udp { src_port, dst_port: 53, len: 20, checksum: 0 }),
        };
        let error = IcmpError { kind, code, mtu: None, quoted: Some(Box::new(quoted)) };
        for first in [true, false] {
            answers.heard_error(&error, Direction::Reply, first, Timestamp(Nanos::from_millis(millis).0));
        }
    }

    fn counted(mut answers: Answers) -> [u64; 3] {
        answers.finish(Timestamp(Nanos::from_millis(60_000).0));
        let Answered { arrived, refused, silent, .. } = answers.counts[0];
        [arrived, refused, silent]
    }

    #[test]
    fn as_many_datagrams_are_refused_as_errors_say() {
        let mut answers = Answers::default();
        arrive(&mut answers, &[4000, 4000, 4000], 10);
        refuse(&mut answers, 4000, 11);
        arrive(&mut answers, &[4000, 4001], 20);
        refuse(&mut answers, 4000, 21);
        // Had these been refused, the next one would have been told of.
        arrive(&mut answers, &[4000; 20], 30);
        arrive(&mut answers, &[4000], 2_000);
        assert_eq!(counted(answers), [2, 2, 0]);
    }

    /// Six errors come at once, then one a second.
    #[test]
    fn between_the_errors_that_the_kernel_spares_all_datagrams_are_refused() {
        let mut answers = Answers::default();
        for datagram in 0..25 {
            let millis = datagram * 100;
            arrive(&mut answers, &[4000], millis);
            if datagram < 6 || datagram % 10 == 0 {
                refuse(&mut answers, 4000, millis + 1);
            }
        }
        assert_eq!(counted(answers), [25, 25, 0]);
    }

    #[test]
    fn an_error_of_another_kind_refuses_nothing() {
        let mut answers = Answers::default();
        arrive(&mut answers, &[4000], 10);
        for error in [(11, 1), (11, 0), (3, 4), (3, 1), (12, 0)] {
            told(&mut answers, error, 4000, 11);
        }
        assert_eq!(counted(answers), [0, 0, 0]);
    }

    #[test]
    fn a_refusal_may_be_seen_before_what_it_refuses() {
        let mut answers = Answers::default();
        refuse(&mut answers, 4000, 10);
        arrive(&mut answers, &[4000], 11);
        assert_eq!(counted(answers), [1, 1, 0]);
    }

    #[test]
    fn datagrams_that_were_answered_or_came_long_ago_are_not_refused() {
        let mut answers = Answers::default();
        arrive(&mut answers, &[4000, 4001], 10);
        answers.heard(&seen(Direction::Reply, 4000, Nanos::from_millis(11)));
        refuse(&mut answers, 4000, 12);
        refuse(&mut answers, 4001, 4_000);
        assert_eq!(counted(answers), [0, 0, 0]);
    }

    #[test]
    fn nothing_is_said_of_silence() {
        let mut answers = Answers::default();
        let ports: Vec<u16> = (0..60_000).collect();
        arrive(&mut answers, &ports, 10);
        assert_eq!(counted(answers), [0, 0, 0]);
    }
}
