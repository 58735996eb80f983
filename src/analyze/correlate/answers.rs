//! Requests that reached the end of the path, and whether it answered: echo requests, TCP's SYN, and datagrams that
//! an ICMP error refused. Only what a kernel always answers is asked for; a silent UDP server proves nothing.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};

use rustc_hash::{FxHashMap, FxHasher};

use crate::evidence::Direction;
use crate::packet::{Nanos, Packet, Quoted, Tcp, Timestamp, Transport};

use super::nat::FlowId;

/// Requests waiting for their answer.
#[derive(Debug, Default)]
pub struct Answers {
    open: FxHashMap<u64, Ask>,
    queue: VecDeque<(Timestamp, u64)>,
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
    direction: Option<Direction>,
    arrived: u32,
    answered: bool,
    refused: bool,
    /// A datagram is only judged when it was refused.
    must_answer: bool,
    last: Timestamp,
    flow: Option<FlowId>,
}

/// A kernel answers at once; this long covers a busy one.
pub const PATIENCE: Nanos = Nanos::from_millis(3_000);
/// Requests that came this close to the end of the capture are not judged.
const EDGE: Nanos = Nanos::from_millis(250);
const MOST_EXAMPLES: usize = 8;

impl Answers {
    /// A packet of `direction` that was seen at the end of its path.
    pub fn arrived(&mut self, packet: &Packet<'_>, direction: Direction, flow: FlowId, time: Timestamp) {
        let (key, must_answer) = match &packet.transport {
            Transport::Echo { request: true, id, seq } => (echo(direction, *id, *seq), true),
            Transport::Tcp(tcp) if tcp.has(Tcp::SYN) && !tcp.has(Tcp::ACK) => (syn(direction, tcp.seq), true),
            Transport::Udp(udp) => (datagram(direction, udp.src_port, udp.dst_port), false),
            _ => return,
        };
        let ask = self.open.entry(key).or_default();
        if ask.arrived == 0 && !ask.answered && !ask.refused {
            self.queue.push_back((time, key));
        }
        ask.direction = Some(direction);
        ask.arrived += 1;
        ask.must_answer = must_answer;
        ask.flow = Some(flow);
        ask.last = ask.last.max(time);
    }

    /// A packet of `direction` that may answer one that went the other way.
    pub fn heard(&mut self, packet: &Packet<'_>, direction: Direction, time: Timestamp) {
        let back = match direction {
            Direction::Forward => Direction::Reply,
            Direction::Reply => Direction::Forward,
        };
        let (key, refused) = match &packet.transport {
            Transport::Echo { request: false, id, seq } => (echo(back, *id, *seq), false),
            Transport::Tcp(tcp) if tcp.has(Tcp::ACK) && (tcp.has(Tcp::SYN) || tcp.has(Tcp::RST)) => {
                (syn(back, tcp.ack.wrapping_sub(1)), tcp.has(Tcp::RST))
            }
            Transport::Udp(udp) => (datagram(back, udp.dst_port, udp.src_port), false),
            Transport::IcmpError(error) => {
                match error.quoted.as_deref().and_then(|quoted| quoted_key(back, quoted)) {
                    Some(key) => (key, true),
                    None => return,
                }
            }
            _ => return,
        };
        let is_datagram = matches!(packet.transport, Transport::Udp(_));
        if is_datagram && !self.open.contains_key(&key) {
            return;
        }
        // Captures may show an answer before its request: it waits for it.
        let ask = self.open.entry(key).or_insert_with(|| {
            self.queue.push_back((time, key));
            Ask { must_answer: true, ..Ask::default() }
        });
        ask.refused |= refused;
        ask.answered |= !refused;
    }

    /// Judges the requests that had time enough to be answered.
    pub fn advance(&mut self, now: Timestamp) {
        while let Some(&(time, key)) = self.queue.front() {
            if now - time < PATIENCE {
                break;
            }
            self.queue.pop_front();
            match self.open.get(&key) {
                // A flow of datagrams is judged when it has been still for a while.
                Some(ask) if !ask.must_answer && now - ask.last < PATIENCE => {
                    self.queue.push_back((ask.last.max(time + EDGE), key));
                }
                _ => self.judge(key),
            }
        }
    }

    /// Judges what is left, but for requests too near to the end of the captures.
    pub fn finish(&mut self, stop: Timestamp) {
        while let Some((time, key)) = self.queue.pop_front() {
            if time + EDGE <= stop {
                self.judge(key);
            }
        }
    }

    fn judge(&mut self, key: u64) {
        let Some(ask) = self.open.remove(&key) else { return };
        let Some(direction) = ask.direction else { return };
        if !ask.must_answer && (!ask.refused || ask.answered) {
            return;
        }
        let counts = &mut self.counts[direction as usize];
        let arrived = u64::from(ask.arrived);
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
        if let Some(flow) = ask.flow
            && counts.examples.len() < MOST_EXAMPLES
        {
            counts.examples.push(flow);
        }
    }
}

fn quoted_key(direction: Direction, quoted: &Quoted) -> Option<u64> {
    match &quoted.transport {
        Transport::Udp(udp) => Some(datagram(direction, udp.src_port, udp.dst_port)),
        Transport::Tcp(tcp) => Some(syn(direction, tcp.seq)),
        Transport::Echo { request: true, id, seq } => Some(echo(direction, *id, *seq)),
        _ => None,
    }
}

fn echo(direction: Direction, id: u16, seq: u16) -> u64 {
    key(1, direction, u32::from(id) << 16 | u32::from(seq))
}

fn syn(direction: Direction, seq: u32) -> u64 {
    key(6, direction, seq)
}

fn datagram(direction: Direction, src_port: u16, dst_port: u16) -> u64 {
    key(17, direction, u32::from(src_port) << 16 | u32::from(dst_port))
}

fn key(protocol: u8, direction: Direction, what: u32) -> u64 {
    let mut hash = FxHasher::default();
    (protocol, direction as u8, what).hash(&mut hash);
    hash.finish()
}
