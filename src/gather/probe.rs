//! Traffic of our own, sent from a pod's namespace: echo requests, TCP connections or UDP datagrams. Runs on the
//! calling thread (and threads it starts, which stay in its namespace) and gives what was sent, what was answered
//! and which errors the sockets met. Whether anything was lost is for the captures to say.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::evidence::case::ProbeFacts;
use crate::gather::clock::instant;
use crate::gather::stop::Stop;

/// What to send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Probe {
    /// Which kind.
    pub(crate) kind: ProbeKind,
    /// To whom: the other end, or the Service address by which it is reached.
    pub(crate) target: IpAddr,
    /// How many.
    pub(crate) count: u32,
    /// Bytes of payload of each.
    pub(crate) size: u32,
    /// Time from one to the next.
    pub(crate) interval: Duration,
}

/// Kinds of probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ProbeKind {
    /// Echo requests.
    Icmp,
    /// A connection each.
    Tcp(u16),
    /// A datagram each.
    Udp(u16),
}

impl fmt::Display for ProbeKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Icmp => out.write_str("icmp"),
            Self::Tcp(port) => write!(out, "tcp:{port}"),
            Self::Udp(port) => write!(out, "udp:{port}"),
        }
    }
}

/// The socket could not even be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot open a socket for the probe {kind} to {target}: {source}")]
pub(crate) struct ProbeError {
    kind: ProbeKind,
    target: IpAddr,
    source: io::Error,
}

/// Sends the probe; returns early when `stop` is set.
pub(crate) fn send(probe: &Probe, stop: &Stop) -> Result<ProbeFacts, ProbeError> {
    let tally = Tally::default();
    let done = match probe.kind {
        ProbeKind::Icmp => echo(probe, stop, &tally),
        ProbeKind::Tcp(port) => {
            connect(probe, SocketAddr::new(probe.target, port), stop, &tally);
            Ok(())
        }
        ProbeKind::Udp(port) => datagrams(probe, SocketAddr::new(probe.target, port), stop, &tally),
    };
    done.map_err(|source| ProbeError { kind: probe.kind, target: probe.target, source })?;
    Ok(tally.facts(probe.kind))
}

/// How long an answer to the last one is waited for.
const LAST_ANSWER: Duration = Duration::from_secs(1);
/// How long a connection may take: the first repetition of a SYN comes after one second.
const CONNECTING: Duration = Duration::from_millis(2500);
/// Beyond this many connections at once, the next one waits.
const CONNECTIONS: usize = 64;

#[derive(Debug, Default)]
struct Tally(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    sent: u64,
    answered: u64,
    errors: BTreeMap<String, u64>,
}

impl Tally {
    fn with<T>(&self, change: impl FnOnce(&mut Counted) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    fn sent(&self) {
        self.with(|counted| counted.sent += 1);
    }

    fn answered(&self) {
        self.with(|counted| counted.answered += 1);
    }

    /// Counts an error by its name in errno.h.
    fn error(&self, error: &io::Error) {
        let name = match error.raw_os_error() {
            Some(number) => format!("{:?}", Errno::from_raw(number)),
            None => error.kind().to_string(),
        };
        self.with(|counted| *counted.errors.entry(name).or_default() += 1);
    }

    /// Whether nothing is left to wait for: everything was answered or met an error.
    fn settled(&self) -> bool {
        self.with(|counted| counted.answered + counted.errors.values().sum::<u64>() >= counted.sent)
    }

    fn facts(&self, kind: ProbeKind) -> ProbeFacts {
        self.with(|counted| ProbeFacts {
            kind: kind.to_string(),
            sent: counted.sent,
            answered: counted.answered,
            errors: std::mem::take(&mut counted.errors).into_iter().collect(),
        })
    }
}

/// Sends `one` for every number at its time, and takes what comes in between.
fn paced(
    probe: &Probe,
    stop: &Stop,
    tally: &Tally,
    mut one: impl FnMut(u32),
    mut take: impl FnMut(Duration),
) {
    let begin = instant();
    for number in 0..probe.count {
        let due = begin + probe.interval * number;
        loop {
            let left = due.saturating_duration_since(instant());
            if left.is_zero() || stop.is_said() {
                break;
            }
            take(left.min(Duration::from_millis(50)));
        }
        if stop.is_said() {
            break;
        }
        one(number);
    }
    let end = instant() + LAST_ANSWER;
    while instant() < end && !tally.settled() && !stop.is_said() {
        take(Duration::from_millis(50));
    }
}

/// ICMP echo over a raw socket. The identifier is the tail of a fresh random port's worth of bits, so that
/// several probes at once do not take each other's answers.
fn echo(probe: &Probe, stop: &Stop, tally: &Tally) -> io::Result<()> {
    let (domain, protocol) = match probe.target {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
    socket.connect(&SockAddr::from(SocketAddr::new(probe.target, 0)))?;
    let id = identifier();
    let mut answered = vec![false; probe.count as usize];
    let mut buffer = vec![0u8; 65_536];
    paced(
        probe,
        stop,
        tally,
        |number| {
            tally.sent();
            let request = echo_request(probe.target.is_ipv6(), id, low_bits(number), probe.size);
            if let Err(error) = socket.send(&request) {
                tally.error(&error);
            }
        },
        |time| match receive(&socket, time, &mut buffer) {
            Ok(length) => {
                let reply = echo_reply(probe.target.is_ipv6(), &buffer[..length]);
                let Some((_, seq)) = reply.filter(|(theirs, _)| *theirs == id) else { return };
                // A number comes round again after 65536 requests: the oldest unanswered one is meant.
                let slot = (usize::from(seq)..answered.len()).step_by(1 << 16).find(|slot| !answered[*slot]);
                if let Some(slot) = slot {
                    answered[slot] = true;
                    tally.answered();
                }
            }
            Err(error) => note(tally, &error),
        },
    );
    Ok(())
}

fn echo_request(v6: bool, id: u16, seq: u16, size: u32) -> Vec<u8> {
    let mut request = vec![if v6 { 128 } else { 8 }, 0, 0, 0];
    request.extend_from_slice(&id.to_be_bytes());
    request.extend_from_slice(&seq.to_be_bytes());
    request.extend((0..size).map(|byte| byte.to_le_bytes()[0]));
    if !v6 {
        // For ICMPv6 the kernel writes the checksum: it covers addresses that are not known here.
        let sum = checksum(&request);
        request[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    request
}

/// Identifier and sequence number of an echo reply. Raw IPv4 sockets give the IP header too.
fn echo_reply(v6: bool, bytes: &[u8]) -> Option<(u16, u16)> {
    let header = if v6 { 0 } else { usize::from(bytes.first()? & 0xf) * 4 };
    let icmp = bytes.get(header..)?.first_chunk::<8>()?;
    let is_reply = icmp[0] == if v6 { 129 } else { 0 };
    is_reply.then(|| (u16::from_be_bytes([icmp[4], icmp[5]]), u16::from_be_bytes([icmp[6], icmp[7]])))
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .fold(0, u32::wrapping_add);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

/// A TCP connection for every number, each on a thread of its own so that a slow one does not hold up the next.
/// With a size, as many bytes are written once connected.
fn connect(probe: &Probe, target: SocketAddr, stop: &Stop, tally: &Tally) {
    let open = std::sync::atomic::AtomicUsize::new(0);
    thread::scope(|scope| {
        let one = |_| {
            while open.load(Ordering::Relaxed) >= CONNECTIONS && !stop.is_said() {
                thread::sleep(Duration::from_millis(5));
            }
            tally.sent();
            open.fetch_add(1, Ordering::Relaxed);
            scope.spawn(|| {
                match connect_once(target, probe.size, stop) {
                    Ok(()) => tally.answered(),
                    Err(error) => tally.error(&error),
                }
                open.fetch_sub(1, Ordering::Relaxed);
            });
        };
        paced(probe, stop, tally, one, thread::sleep);
    });
}

/// One connection; gives up at once when `stop` is set.
fn connect_once(target: SocketAddr, size: u32, stop: &Stop) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::from(target)) {
        Err(error) if error.raw_os_error() != Some(Errno::EINPROGRESS as i32) => return Err(error),
        _ => {}
    }
    let end = instant() + CONNECTING;
    loop {
        let mut writable = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
        if poll(&mut writable, PollTimeout::from(50u8)).map_err(io::Error::from)? > 0 {
            break;
        }
        if instant() >= end || stop.is_said() {
            return Err(Errno::ETIMEDOUT.into());
        }
    }
    if let Some(error) = socket.take_error()? {
        return Err(error);
    }
    if size > 0 {
        socket.set_nonblocking(false)?;
        socket.set_write_timeout(Some(LAST_ANSWER))?;
        (&socket).write_all(&vec![b'.'; size as usize])?;
    }
    Ok(())
}

/// Numbered datagrams from one socket; every datagram that comes back counts as an answer.
fn datagrams(probe: &Probe, target: SocketAddr, stop: &Stop, tally: &Tally) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(target), Type::DGRAM, Some(Protocol::UDP))?;
    socket.connect(&SockAddr::from(target))?;
    let mut buffer = vec![0u8; 65_536];
    paced(
        probe,
        stop,
        tally,
        |number| {
            tally.sent();
            let mut payload = format!("trace-drop probe {number:08}").into_bytes();
            payload.resize(payload.len().max(probe.size as usize), b'.');
            if probe.size > 0 {
                payload.truncate(probe.size as usize);
            }
            if let Err(error) = socket.send(&payload) {
                note(tally, &error);
            }
        },
        |time| match receive(&socket, time, &mut buffer) {
            Ok(_) => tally.answered(),
            Err(error) => note(tally, &error),
        },
    );
    Ok(())
}

/// One message, or the error after `time`.
fn receive(mut socket: &Socket, time: Duration, buffer: &mut [u8]) -> io::Result<usize> {
    socket.set_read_timeout(Some(time.max(Duration::from_millis(1))))?;
    socket.read(buffer)
}

/// Counts an error unless it only says that nothing came.
fn note(tally: &Tally, error: &io::Error) {
    let nothing = [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut, io::ErrorKind::Interrupted];
    if !nothing.contains(&error.kind()) {
        tally.error(error);
    }
}

/// Sixteen bits that differ from one probe to the next.
fn identifier() -> u16 {
    use std::hash::{BuildHasher, RandomState};
    let random = RandomState::new().hash_one(std::process::id());
    u16::try_from(random & 0xffff).unwrap_or(0)
}

fn low_bits(number: u32) -> u16 {
    u16::try_from(number & 0xffff).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_carry_a_right_checksum_and_replies_are_told_apart() {
        let request = echo_request(false, 0x1234, 7, 33);
        assert_eq!(request.len(), 41);
        assert_eq!(checksum(&request), 0);
        let mut reply = vec![0x45; 20];
        reply.extend_from_slice(&request);
        assert_eq!(echo_reply(false, &reply), None, "our own request");
        reply[20] = 0;
        assert_eq!(echo_reply(false, &reply), Some((0x1234, 7)));
        assert_eq!(echo_reply(true, &[129, 0, 0, 0, 0x12, 0x34, 0, 9]), Some((0x1234, 9)));
        assert_eq!(echo_reply(true, &[129, 0, 0]), None);
        assert_eq!(echo_reply(false, &[]), None);
    }
}
