//! Captures at one point: a thread of its own in the point's namespace, libpcap's ring, the filter in the kernel.
//! Gives frames in batches as they go over the wire, the ring's own loss counts, and the reason if it ends early.
//!
//! Nothing is lost silently: when the outlet does not take a batch the thread waits, the ring fills, and the kernel
//! counts what it drops; what the outlet never takes is counted here.

pub(crate) mod batch;
mod link;

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pcap::{Active, Capture, Precision};
use serde::{Deserialize, Serialize};

use link::Watched;

use crate::evidence::case::Coverage;
use crate::gather::clock::{instant, now};
use crate::gather::netns::{Located, NetnsError};
use crate::gather::privilege;
use crate::gather::stop::Stop;
use crate::packet::LinkType;

/// What to capture where.
#[derive(Debug)]
pub(crate) struct Order {
    /// The point's number, written into every batch.
    pub(crate) point: u16,
    /// Interface and namespace.
    pub(crate) at: Located,
    /// The filter, with and without Ethernet headers.
    pub(crate) filter: Filter,
    /// Ring and snap length.
    pub(crate) settings: Settings,
}

/// The filter's two forms: which one fits is known when the interface is open.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    /// For Ethernet interfaces.
    pub(crate) ethernet: String,
    /// For those whose frames begin with the IP header.
    pub(crate) bare: String,
}

/// How frames are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// Bytes of each frame.
    pub(crate) snaplen: u32,
    /// Bytes of the ring between kernel and thread.
    pub(crate) buffer: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { snaplen: 256, buffer: 32 << 20 }
    }
}

/// Where a capture's batches go. `offer` gives the batch back when there is no room.
pub(crate) trait Outlet: Send {
    /// Frames as [`batch`] lays them out.
    fn offer(&mut self, batch: Vec<u8>) -> Result<(), Vec<u8>>;
    /// What the capture has to say about itself.
    fn tell(&mut self, news: News);
}

/// What a capture says about itself.
#[derive(Debug)]
pub(crate) enum News {
    /// The filter is in the kernel and frames count from now on.
    Started {
        /// The node's clock, nanoseconds since 1970.
        time: i64,
        /// What a frame's first byte belongs to.
        link: LinkType,
    },
    /// How it goes, a few times a second.
    Counted(Counts),
    /// The interface went down or came up again; the capture goes on.
    Turned {
        /// Whether it is up now.
        up: bool,
    },
    /// It is over.
    Ended(Coverage),
    /// It could not begin.
    Refused(CaptureError),
}

/// A running capture's counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// Frames that passed the filter.
    pub(crate) received: u64,
    /// Of those, lost for want of room.
    pub(crate) dropped: u64,
    /// Frames that the interface lost.
    pub(crate) dropped_interface: u64,
    /// All frames up to this time (the node's clock) have been handed over.
    pub(crate) complete_until: i64,
}

/// Why a capture could not begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CaptureError {
    /// Its namespace.
    #[error(transparent)]
    Namespace(#[from] NetnsError),
    /// libpcap refused.
    #[error("cannot capture on {interface}: {why}{}", remedy(why))]
    Open {
        /// Interface.
        interface: String,
        /// What libpcap said.
        why: String,
    },
    /// The filter was refused.
    #[error("cannot set the capture filter on {interface}: {why}; the filter was: {filter}")]
    Filter {
        /// Interface.
        interface: String,
        /// What libpcap said.
        why: String,
        /// The text.
        filter: String,
    },
    /// No thread.
    #[error("cannot start the thread that captures on {interface}: {why}")]
    Thread {
        /// Interface.
        interface: String,
        /// What the system said.
        why: String,
    },
}

/// Starts the capture. It ends when `stop` is set, after what the ring still holds was handed over.
pub(crate) fn start(
    order: Order,
    stop: Arc<Stop>,
    mut outlet: impl Outlet + 'static,
) -> Result<JoinHandle<()>, CaptureError> {
    let interface = order.at.label();
    thread::Builder::new()
        .name(format!("capture {}", order.point))
        .spawn(move || match open(&order) {
            Ok((capture, link)) => {
                outlet.tell(News::Started { time: now(), link });
                Running::new(capture, &order, &stop, outlet).until_the_end();
            }
            Err(error) => outlet.tell(News::Refused(error)),
        })
        .map_err(|error| CaptureError::Thread { interface, why: error.to_string() })
}

/// The kernel hands a block of frames over when it is full or this old.
const BLOCK_AGE: Duration = Duration::from_millis(20);
const BLOCK_NANOS: i64 = 20_000_000;
/// A batch goes out when it is this large or `BATCH_AGE` old.
const BATCH: usize = 64 << 10;
const BATCH_AGE: Duration = Duration::from_millis(40);
/// How often counts are told.
const COUNT_EVERY: Duration = Duration::from_millis(200);
/// How long a full outlet is waited for once the capture has been stopped.
const PATIENCE: Duration = Duration::from_millis(500);

fn open(order: &Order) -> Result<(Capture<Active>, LinkType), CaptureError> {
    order.at.namespace.enter()?;
    let interface = order.at.label();
    let refused =
        |error: pcap::Error| CaptureError::Open { interface: interface.clone(), why: plain(&error) };
    let mut capture = Capture::from_device(order.at.interface.as_str())
        .map_err(refused)?
        .promisc(false)
        .immediate_mode(false)
        .timeout(i32::try_from(BLOCK_AGE.as_millis()).unwrap_or(i32::MAX))
        .buffer_size(i32::try_from(order.settings.buffer).unwrap_or(i32::MAX))
        .snaplen(i32::try_from(order.settings.snaplen).unwrap_or(i32::MAX))
        .precision(Precision::Nano)
        .open()
        .and_then(Capture::setnonblock)
        .map_err(refused)?;
    let link = LinkType::from_number(u16::try_from(capture.get_datalink().0).unwrap_or(u16::MAX));
    let filter = if link == LinkType::Ethernet { &order.filter.ethernet } else { &order.filter.bare };
    capture.filter(filter, true).map_err(|error| CaptureError::Filter {
        interface: interface.clone(),
        why: plain(&error),
        filter: filter.clone(),
    })?;
    Ok((capture, link))
}

/// A capture under way.
struct Running<'a, O> {
    capture: Capture<Active>,
    outlet: O,
    stop: &'a Stop,
    point: u16,
    /// None where it cannot be asked.
    link: Option<Watched>,
    coverage: Coverage,
    /// libpcap's 32-bit counts when they were last read: they wrap.
    last: pcap::Stat,
    batch: Vec<u8>,
    batched: u64,
    batch_since: Instant,
    up: bool,
    /// Every frame up to this time has been read.
    read_until: i64,
    counted: Instant,
}

/// Why reading paused.
enum Pause {
    Empty,
    Full,
    Failed(String),
}

impl<'a, O: Outlet> Running<'a, O> {
    fn new(capture: Capture<Active>, order: &'a Order, stop: &'a Stop, outlet: O) -> Self {
        let coverage =
            Coverage { started: Some(now()), snaplen: order.settings.snaplen, ..Coverage::default() };
        Self {
            capture,
            outlet,
            stop,
            point: order.point,
            link: Watched::new(&order.at.interface).ok(),
            coverage,
            last: pcap::Stat { received: 0, dropped: 0, if_dropped: 0 },
            batch: Vec::with_capacity(BATCH + 2 * order.settings.snaplen as usize),
            batched: 0,
            batch_since: instant(),
            up: true,
            read_until: now(),
            counted: instant(),
        }
    }

    /// Captures until told to stop or until the interface fails.
    fn until_the_end(mut self) {
        let mut last_look: Option<Instant> = None;
        loop {
            if self.stop.is_said() && last_look.is_none() {
                self.coverage.stopped = Some(now());
                last_look = Some(instant() + 2 * BLOCK_AGE);
            }
            match self.read() {
                Pause::Failed(why) => {
                    self.coverage.stopped.get_or_insert_with(now);
                    self.coverage.failed = Some(why);
                    break;
                }
                Pause::Full => self.hand_over(),
                Pause::Empty => {
                    self.read_until = now() - 2 * BLOCK_NANOS;
                    if last_look.is_some_and(|end| instant() >= end) {
                        break;
                    }
                    if self.batch_since.elapsed() >= BATCH_AGE || last_look.is_some() {
                        self.hand_over();
                    }
                    self.wait(last_look);
                }
            }
            if self.counted.elapsed() >= COUNT_EVERY {
                self.count();
                self.look_whether_up();
                self.outlet.tell(News::Counted(self.counts()));
            }
        }
        self.hand_over();
        self.count();
        self.outlet.tell(News::Counted(self.counts()));
        self.outlet.tell(News::Ended(self.coverage));
    }

    /// Takes frames until the ring is empty or the batch full.
    fn read(&mut self) -> Pause {
        loop {
            match self.capture.next_packet() {
                Ok(frame) => {
                    if self.batched == 0 {
                        self.batch_since = instant();
                    }
                    // With nanosecond precision libpcap writes nanoseconds into the microsecond field.
                    let time = frame.header.ts.tv_sec * 1_000_000_000 + frame.header.ts.tv_usec;
                    batch::put(&mut self.batch, self.point, time, frame.header.len, frame.data);
                    self.batched += 1;
                    if self.batch.len() >= BATCH {
                        self.read_until = time;
                        return Pause::Full;
                    }
                }
                Err(pcap::Error::TimeoutExpired) => return Pause::Empty,
                Err(error) => return Pause::Failed(plain(&error)),
            }
        }
    }

    /// Sleeps until frames are there, at most until something is due.
    fn wait(&self, last_look: Option<Instant>) {
        let counts = COUNT_EVERY.saturating_sub(self.counted.elapsed());
        let batch = (self.batched > 0).then(|| BATCH_AGE.saturating_sub(self.batch_since.elapsed()));
        let end = last_look.map(|end| end.saturating_duration_since(instant()));
        let due = [Some(counts), batch, end].into_iter().flatten().min();
        self.stop.wait_or_read(&self.capture, due.unwrap_or_default());
    }

    /// Gives the batch to the outlet and waits for room if there is none, so that loss happens in the ring, where
    /// it is counted. After the stop the wait is short and what is left over counts as dropped.
    fn hand_over(&mut self) {
        if self.batched == 0 {
            return;
        }
        let room = self.batch.capacity();
        let mut batch = std::mem::replace(&mut self.batch, Vec::with_capacity(room));
        let mut give_up: Option<Instant> = None;
        while let Err(back) = self.outlet.offer(batch) {
            if self.stop.is_said() && instant() >= *give_up.get_or_insert_with(|| instant() + PATIENCE) {
                self.coverage.dropped += self.batched;
                break;
            }
            batch = back;
            thread::sleep(Duration::from_millis(2));
        }
        self.batched = 0;
    }

    /// Reads libpcap's counts, which are 32 bits wide and wrap.
    fn count(&mut self) {
        self.counted = instant();
        let Ok(stat) = self.capture.stats() else { return };
        self.coverage.received += u64::from(stat.received.wrapping_sub(self.last.received));
        self.coverage.dropped += u64::from(stat.dropped.wrapping_sub(self.last.dropped));
        self.coverage.dropped_interface += u64::from(stat.if_dropped.wrapping_sub(self.last.if_dropped));
        self.last = stat;
    }

    /// A capture survives that its interface is taken down, and libpcap says nothing of it; but it explains much.
    fn look_whether_up(&mut self) {
        let Some(up) = self.link.as_ref().and_then(Watched::is_up) else { return };
        if up != self.up {
            self.up = up;
            self.outlet.tell(News::Turned { up });
        }
    }

    fn counts(&self) -> Counts {
        let waiting = batch::first_time(&self.batch).map_or(i64::MAX, |first| first - 1);
        Counts {
            received: self.coverage.received,
            dropped: self.coverage.dropped,
            dropped_interface: self.coverage.dropped_interface,
            complete_until: self.read_until.min(waiting),
        }
    }
}

/// libpcap's own words, without the crate's "libpcap error:" before them.
fn plain(error: &pcap::Error) -> String {
    match error {
        pcap::Error::PcapError(text) => text.clone(),
        other => other.to_string(),
    }
}

fn remedy(why: &str) -> String {
    let why = why.to_ascii_lowercase();
    if why.contains("permi") {
        format!("; {}", privilege::remedy())
    } else if why.contains("not up") {
        "; bring it up (ip link set … up) or find out who took it down".to_owned()
    } else {
        String::new()
    }
}

#[cfg(test)]
mod tests;
