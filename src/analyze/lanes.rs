//! Captures read side by side. Takes sources that are each in the order of time and reads each in a thread of its own, its
//! lane: there frames become sightings. Gives them to the pass in the order of time over all lanes, just as one source of
//! all frames would. What only the pass can judge, since it has to do with other frames (ARP, ICMP errors, fragments, ways
//! astray, frames cut too short), goes over as the frame itself; foreign packets do not go over at all. Each lane is a few
//! batches ahead at most.

use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use super::Pass;
use super::correlate::fingerprint::Depth;
use super::correlate::nat::Nat;
use super::correlate::sift::Members;
use super::correlate::{Brief, Sighting};
use crate::evidence::PointId;
use crate::evidence::capture_file::{CaptureError, FrameSource};
use crate::packet::{Frame, LinkType, Nanos, Network, Packet, Plain, Timestamp, Transport};

/// Reads all of `parts` into `pass`.
pub(super) fn read<'s>(
    parts: Vec<Box<dyn FrameSource + Send + 's>>,
    pass: &mut Pass,
) -> Result<(), CaptureError> {
    let look = Look { members: pass.sift.members().clone(), depth: pass.depth, shift: pass.shift.clone() };
    thread::scope(|scope| {
        let lanes = parts.into_iter().map(|mut source| {
            let (full, taken) = sync_channel(AHEAD);
            let (back, empty) = channel();
            let look = &look;
            scope.spawn(move || look.watch(source.as_mut(), &full, &empty));
            Lane { taken, back, batch: Batch::default(), next: 0, latest: None }
        });
        let mut lanes: Vec<Lane> = lanes.collect();
        merge(&mut lanes, pass)?;
        let latest = lanes.iter().filter_map(|lane| lane.latest).max();
        pass.pass_time(latest.unwrap_or(pass.latest));
        Ok(())
    })
}

/// Gives the pass what the lanes saw, in the order of time.
fn merge(lanes: &mut [Lane], pass: &mut Pass) -> Result<(), CaptureError> {
    let mut heads = Vec::new();
    for lane in &mut *lanes {
        heads.push(lane.refill(pass)?.unwrap_or(END));
    }
    loop {
        let (first, limit) = earliest(&heads);
        if heads[first] == END {
            return Ok(());
        }
        let lane = &mut lanes[first];
        // As long as no other lane is earlier; of equal times the lane that comes first has its turn.
        while heads[first] < limit.0 || (heads[first] == limit.0 && first < limit.1) {
            lane.give(pass);
            heads[first] = match lane.head() {
                Some(head) => head,
                None => lane.refill(pass)?.unwrap_or(END),
            };
            if heads[first] == END {
                break;
            }
        }
    }
}

/// The lane with the earliest head, and the earliest of the others.
fn earliest(heads: &[Timestamp]) -> (usize, (Timestamp, usize)) {
    let (mut first, mut second) = ((END, usize::MAX), (END, usize::MAX));
    for (lane, &head) in heads.iter().enumerate() {
        if (head, lane) < first {
            second = first;
            first = (head, lane);
        } else if (head, lane) < second {
            second = (head, lane);
        }
    }
    (first.1, second)
}

/// Where a lane stands that has ended.
const END: Timestamp = Timestamp(i64::MAX);
const LAST: Timestamp = Timestamp(i64::MAX - 1);
/// Batches that wait for the pass, at most.
const AHEAD: usize = 2;
/// What was seen, in one batch.
const MOST_SEEN: usize = 2_048;
/// Frames looked at for one batch: of foreign ones nothing is seen.
const MOST_FRAMES: u64 = 8_192;
/// Bytes of frames in one batch.
const MOST_BYTES: usize = 256 * 1024;

/// The merging end of a lane.
struct Lane {
    taken: Receiver<Message>,
    back: Sender<Batch>,
    batch: Batch,
    next: usize,
    /// Of all its frames, foreign ones too.
    latest: Option<Timestamp>,
}

enum Message {
    Batch(Batch),
    End(Result<(), CaptureError>),
}

/// A piece of a capture.
#[derive(Debug, Default)]
struct Batch {
    seen: Vec<Seen>,
    /// Of frames that are not common ones.
    sightings: Vec<Sighting>,
    /// Frames that go over as they are.
    bytes: Vec<u8>,
    /// Of the first frame of each point.
    links: Vec<(PointId, LinkType)>,
    /// Of all frames, by the aligned clock.
    latest: Option<Timestamp>,
    frames: u64,
}

/// What a frame is, as far as the lane can tell.
#[derive(Debug)]
struct Seen {
    /// By the clock of its node: what the order goes by.
    time: Timestamp,
    what: What,
}

#[derive(Debug)]
enum What {
    Brief(Brief),
    /// The one with that number in the batch.
    Sighting(PointId, u32),
    /// The bytes that begin there.
    Frame {
        point: PointId,
        at: u32,
        len: u32,
        wire_len: u32,
        link: LinkType,
    },
}

/// One line of the cache: a core takes it over from another as a whole.
const _: () = assert!(size_of::<Seen>() <= 64);

impl Lane {
    /// When the next frame was captured; None where the batch ends.
    #[inline]
    fn head(&self) -> Option<Timestamp> {
        self.batch.seen.get(self.next).map(|seen| seen.time.min(LAST))
    }

    /// Gives the pass what comes next.
    #[inline]
    fn give(&mut self, pass: &mut Pass) {
        let Some(Seen { time, what }) = self.batch.seen.get(self.next) else { return };
        self.next += 1;
        match *what {
            What::Brief(ref brief) => {
                let time = *time - pass.shift[brief.point.index()];
                pass.see(brief.point, &brief.sighting(time), brief.id_of_flow);
            }
            What::Sighting(point, number) => {
                pass.see(point, &self.batch.sightings[number as usize], None);
            }
            What::Frame { point, at, len, wire_len, link } => {
                let bytes = &self.batch.bytes[at as usize..(at + len) as usize];
                pass.take(point, &Frame { time: *time, wire_len, link, bytes });
            }
        }
    }

    /// The next batch with something in it; gives its first time, or None at the end.
    fn refill(&mut self, pass: &mut Pass) -> Result<Option<Timestamp>, CaptureError> {
        loop {
            let used = std::mem::take(&mut self.batch);
            self.latest = self.latest.max(used.latest);
            // A lane that has ended needs it no more.
            let _ = self.back.send(used);
            self.next = 0;
            match self.taken.recv() {
                Ok(Message::Batch(batch)) => {
                    self.batch = batch;
                    self.batch.look_up(&pass.correlator.nat);
                }
                Ok(Message::End(end)) => end?,
                // It says that it ends before it goes.
                Err(_) => return Ok(None),
            }
            for (point, link) in &self.batch.links {
                pass.links[point.index()].get_or_insert(*link);
            }
            if let Some(head) = self.head() {
                return Ok(Some(head));
            }
        }
    }
}

impl Batch {
    fn is_full(&self) -> bool {
        self.seen.len() >= MOST_SEEN || self.frames >= MOST_FRAMES || self.bytes.len() >= MOST_BYTES
    }

    /// Looks the flows up, all in a row: then the memory answers several questions at once, and with a million flows each
    /// answer comes from there. A new flow gets its number when its turn comes, but its place in the table is near by then.
    fn look_up(&mut self, nat: &Nat) {
        for seen in &mut self.seen {
            if let What::Brief(brief) = &mut seen.what {
                brief.look_up(nat);
            }
        }
    }

    /// Keeps a frame to go over as it is.
    fn keep(&mut self, point: PointId, frame: &Frame<'_>) -> What {
        let (at, len) = (small(self.bytes.len()), small(frame.bytes.len()));
        self.bytes.extend_from_slice(frame.bytes);
        What::Frame { point, at, len, wire_len: frame.wire_len, link: frame.link }
    }

    fn clear(&mut self) {
        self.seen.clear();
        self.sightings.clear();
        self.bytes.clear();
        self.links.clear();
        (self.latest, self.frames) = (None, 0);
    }

    #[inline]
    fn note(&mut self, point: PointId, link: LinkType) {
        self.frames += 1;
        if self.links.iter().all(|(known, _)| *known != point) {
            self.links.push((point, link));
        }
    }
}

/// Within a batch, which [`Batch::is_full`] bounds.
fn small(number: usize) -> u32 {
    u32::try_from(number).expect("frames of at most 16 MiB")
}

/// What a lane knows of the trace.
struct Look {
    members: Members,
    depth: Depth,
    shift: Vec<Nanos>,
}

impl Look {
    /// Reads a source to its end, unless the pass has failed.
    fn watch(&self, source: &mut dyn FrameSource, full: &SyncSender<Message>, empty: &Receiver<Batch>) {
        let _ = full.send(Message::End(self.fill(source, full, empty)));
    }

    fn fill(
        &self,
        source: &mut dyn FrameSource,
        full: &SyncSender<Message>,
        empty: &Receiver<Batch>,
    ) -> Result<(), CaptureError> {
        let mut batch = Batch::default();
        while let Some((point, frame)) = source.next_frame()? {
            self.add(&mut batch, point, &frame);
            if batch.is_full() {
                if full.send(Message::Batch(batch)).is_err() {
                    return Ok(());
                }
                batch = empty.try_recv().unwrap_or_default();
                batch.clear();
            }
        }
        let _ = full.send(Message::Batch(batch));
        Ok(())
    }

    fn add(&self, batch: &mut Batch, point: PointId, frame: &Frame<'_>) {
        batch.note(point, frame.link);
        let time = frame.time - self.shift[point.index()];
        batch.latest = batch.latest.max(Some(time));
        let (time, what) = (frame.time, self.what(point, frame, time));
        let what = match what {
            Known::Foreign => return,
            Known::Brief(brief) => What::Brief(brief),
            Known::Sighting(sighting) => {
                batch.sightings.push(sighting);
                What::Sighting(point, small(batch.sightings.len() - 1))
            }
            Known::Unclear => batch.keep(point, frame),
        };
        batch.seen.push(Seen { time, what });
    }

    #[inline]
    fn what(&self, point: PointId, frame: &Frame<'_>, time: Timestamp) -> Known {
        if let Some(plain) = Plain::find(frame) {
            let transport = plain.transport();
            return match self.members.place_plain(point, &plain, &transport) {
                Err(()) => Known::Unclear,
                Ok(None) => Known::Foreign,
                Ok(Some(sifted)) => Known::Brief(Brief::of(&plain, (point, &sifted), &transport, self.depth)),
            };
        }
        let packet = Packet::read(frame);
        if concerns_others(&packet) {
            return Known::Unclear;
        }
        let Some(sifted) = self.members.place(point, &packet) else { return Known::Foreign };
        let astray = self.members.astray(point, sifted.direction, &packet).is_some();
        let sighting = if astray { None } else { Sighting::of(&packet, &sifted, self.depth, time) };
        sighting.map_or(Known::Unclear, Known::Sighting)
    }
}

/// What a lane knows of a frame.
enum Known {
    /// Nothing to the trace.
    Foreign,
    Brief(Brief),
    Sighting(Sighting),
    /// The pass must look.
    Unclear,
}

/// Whether a packet must be looked at together with others.
fn concerns_others(packet: &Packet<'_>) -> bool {
    let own = packet.ip();
    matches!(packet.network, Network::Arp(_))
        || matches!(packet.transport, Transport::IcmpError(_))
        || own
            .into_iter()
            .chain(packet.tunnels.iter().map(|tunnel| &tunnel.outer))
            .any(|ip| ip.fragment.is_some())
}
