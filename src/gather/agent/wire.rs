//! The frames that the two ends of an agent's pipe exchange. Pure: bytes in, messages out; no bytes panic.
//!
//! First each end sends its greeting: eight bytes of magic, the version of this protocol (u16), and the length
//! (u16) and text of the program's version. Then frames follow: kind (u8), length (u32), payload; all numbers are
//! little-endian. A kind is either control (one JSON message) or a batch of captured frames
//! ([`crate::gather::capture::batch`]).

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::evidence::case::{Coverage, ProbeFacts};
use crate::evidence::plan::Find;
use crate::evidence::{Known, Role, Text};
use crate::gather::capture::{Counts, Settings};
use crate::gather::filter::Pair;
use crate::gather::probe::Probe;

/// The version of the protocol: raised with every change of a message.
pub(crate) const VERSION: u16 = 6;

/// Of so many pairs an agent listens to the kernel's drops: each takes a program there and 4 MiB.
pub(crate) const MOST_HEARD: usize = 4;

/// What the tracing side tells an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ToAgent {
    /// What time is it there?
    Ping(u64),
    /// What to capture. Comes once, when all nodes have answered their pings.
    Work(Work),
    /// Read texts once, say them, and leave: in the place of [`Work`](Self::Work).
    Read(Reading),
    /// All points of all nodes capture: send this now, from the first end of the pair with this number.
    Probe(u16, Probe),
    /// Nothing new: the tracing side is there.
    Alive,
    /// End capturing, read the texts again, say everything, and leave.
    Stop,
}

/// What an agent tells the tracing side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FromAgent {
    /// Answer to a ping, with the node's clock.
    Pong {
        /// The ping's number.
        ping: u64,
        /// Nanoseconds since 1970.
        time: i64,
    },
    /// Nothing new: the agent lives.
    Alive,
    /// What a program on the node printed.
    Text(Text),
    /// A point captures.
    Started {
        /// Its number.
        point: u16,
        /// The interface, `pod:eth0` for one inside a pod.
        interface: String,
        /// The link type's number.
        link: u16,
        /// Nanoseconds since 1970 by the node's clock.
        time: i64,
    },
    /// A point could not begin.
    Refused {
        /// Its number.
        point: u16,
        /// The interface, once it was found.
        interface: Option<String>,
        /// Why.
        why: String,
    },
    /// Every point has started or been refused.
    Ready,
    /// How a point goes.
    Counted {
        /// Its number.
        point: u16,
        /// So far.
        counts: Counts,
    },
    /// A point's interface went down, or came up again.
    Turned {
        /// Its number.
        point: u16,
        /// Whether it is up now.
        up: bool,
        /// Nanoseconds since 1970 by the node's clock.
        time: i64,
    },
    /// A point has ended, by itself or because it was stopped.
    Ended {
        /// Its number.
        point: u16,
        /// How it went.
        coverage: Coverage,
    },
    /// The probe of the pair with this number is through.
    Probed(u16, Result<ProbeFacts, String>),
    /// All was said.
    Done,
    /// The agent gives up, and why.
    Failed(String),
}

/// An agent's part of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Work {
    /// The node's name, for texts and messages.
    pub(crate) node: String,
    /// Whose traffic: pairs that pass this node, each by its number in the whole trace.
    pub(crate) pairs: Vec<(u16, Pair)>,
    /// The points of this node.
    pub(crate) points: Vec<WorkPoint>,
    /// Ring and snap length.
    pub(crate) settings: Settings,
    /// Whether to listen to the kernel's drops.
    pub(crate) kernel: bool,
}

/// What an agent reads when nothing is to be captured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reading {
    /// The node's name, for texts and messages.
    pub(crate) node: String,
    /// Pods of this node in whose namespaces is read too: the first is `pod:`, the second `pod2:`.
    pub(crate) pods: Vec<Find>,
    /// Whose connections; none of connection tracking without it.
    pub(crate) pair: Option<Pair>,
}

/// One point of an agent's work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WorkPoint {
    /// Its number in the whole trace.
    pub(crate) number: u16,
    /// The number of the pair whose traffic it captures.
    pub(crate) pair: u16,
    /// What kind of point.
    pub(crate) role: Role,
    /// How to find it.
    pub(crate) find: Find,
}

/// One frame as it came over the pipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Received<M> {
    /// A control message.
    Message(M),
    /// A batch of captured frames.
    Batch(Vec<u8>),
}

/// What is wrong with bytes from the other end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    /// Something other than an agent is at the other end.
    #[error("expected the greeting of a trace-drop agent, got: {0}")]
    Stranger(String),
    /// Another version.
    #[error(
        "the other end is trace-drop {program} and speaks protocol {theirs}, this one is trace-drop {} and speaks \
         {VERSION}: use the same version on all nodes",
        env!("CARGO_PKG_VERSION")
    )]
    Version {
        /// Its protocol.
        theirs: u16,
        /// Its program's version.
        program: String,
    },
    /// A kind of frame that does not exist.
    #[error("got a frame of unknown kind {0}")]
    Kind(u8),
    /// A frame longer than any can be.
    #[error("got a frame that claims {0} bytes, more than {LONGEST}")]
    Long(u32),
    /// A control message that cannot be read.
    #[error("got a message that cannot be read: {0}")]
    Message(String),
}

const MAGIC: [u8; 8] = *b"\x02td-wire";
const CONTROL: u8 = 1;
const BATCH: u8 = 2;
/// No frame is longer: a bound on what a broken or hostile other end can make us store.
const LONGEST: u32 = 64 << 20;
/// Bytes of a frame before its payload.
const HEAD: usize = 5;
/// Bytes that are taken from the pipe at once.
const ROOM: usize = 256 << 10;
/// A login shell may print a greeting of its own first: as much of it is passed over.
const FOREIGN: usize = 8 << 10;

/// This end's greeting.
pub(crate) fn greeting() -> Vec<u8> {
    let program = env!("CARGO_PKG_VERSION").as_bytes();
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&u16::try_from(program.len()).unwrap_or(0).to_le_bytes());
    bytes.extend_from_slice(program);
    bytes
}

/// A control frame.
pub(crate) fn control(message: &impl Serialize) -> Vec<u8> {
    // These types hold nothing that JSON cannot say; should one ever, the other end reports an unreadable message.
    frame(CONTROL, &serde_json::to_vec(message).unwrap_or_default())
}

/// What an agent says, as a control frame. A text that no frame can hold is said to be unreadable: the others come all the same.
pub(crate) fn said(message: &FromAgent) -> Vec<u8> {
    let bytes = control(message);
    match message {
        FromAgent::Text(text) if bytes.len() > HEAD + LONGEST as usize => {
            let why = format!(
                "its {} bytes are more than the {LONGEST} that are sent of one text",
                bytes.len() - HEAD
            );
            drop(bytes);
            let (node, name) = (text.node.clone(), text.name.clone());
            control(&FromAgent::Text(Text { node, name, when: text.when, content: Known::Unreadable(why) }))
        }
        _ => bytes,
    }
}

/// What goes before a batch of captured frames.
pub(crate) fn before_batch(frames: &[u8]) -> [u8; HEAD] {
    head(BATCH, frames)
}

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    [&head(kind, payload)[..], payload].concat()
}

fn head(kind: u8, payload: &[u8]) -> [u8; HEAD] {
    let [l0, l1, l2, l3] = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes();
    [kind, l0, l1, l2, l3]
}

/// Cuts what comes in into frames: push bytes as they come, then take frames until there is none.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    bytes: Vec<u8>,
    taken: usize,
    greeted: bool,
}

impl Decoder {
    /// More bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.room().extend_from_slice(bytes);
    }

    /// Where more bytes are to be appended.
    pub(crate) fn room(&mut self) -> &mut Vec<u8> {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        self.bytes.reserve(ROOM);
        &mut self.bytes
    }

    /// The next frame; None until more bytes come.
    pub(crate) fn next<M: DeserializeOwned>(&mut self) -> Result<Option<Received<M>>, WireError> {
        if !self.greeted && !self.greet()? {
            return Ok(None);
        }
        let rest = &self.bytes[self.taken..];
        let Some((kind, rest)) = rest.split_first() else { return Ok(None) };
        if ![CONTROL, BATCH].contains(kind) {
            return Err(WireError::Kind(*kind));
        }
        let Some((length, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length);
        if length > LONGEST {
            return Err(WireError::Long(length));
        }
        let Some(payload) = usize::try_from(length).ok().and_then(|length| rest.get(..length)) else {
            return Ok(None);
        };
        self.taken += HEAD + payload.len();
        if *kind == BATCH {
            return Ok(Some(Received::Batch(payload.to_vec())));
        }
        match serde_json::from_slice(payload) {
            Ok(message) => Ok(Some(Received::Message(message))),
            Err(error) => Err(WireError::Message(error.to_string())),
        }
    }

    /// Whether the greeting has come.
    pub(crate) fn greeted(&self) -> bool {
        self.greeted
    }

    /// What came instead of a greeting, as text.
    pub(crate) fn unread(&self) -> String {
        printable(&self.bytes[self.taken..])
    }

    /// Takes the greeting, and whatever a shell printed before it.
    fn greet(&mut self) -> Result<bool, WireError> {
        let bytes = &self.bytes[self.taken..];
        let Some(at) = bytes.windows(MAGIC.len()).position(|window| window == MAGIC) else {
            return if bytes.len() > FOREIGN {
                Err(WireError::Stranger(printable(bytes)))
            } else {
                Ok(false)
            };
        };
        let rest = &bytes[at + MAGIC.len()..];
        let Some((version, rest)) = rest.split_first_chunk::<2>() else { return Ok(false) };
        let Some((length, rest)) = rest.split_first_chunk::<2>() else { return Ok(false) };
        let length = usize::from(u16::from_le_bytes(*length));
        let Some(program) = rest.get(..length) else { return Ok(false) };
        let theirs = u16::from_le_bytes(*version);
        if theirs != VERSION {
            return Err(WireError::Version { theirs, program: printable(program) });
        }
        self.taken += at + MAGIC.len() + 4 + length;
        self.greeted = true;
        Ok(true)
    }
}

/// The beginning of some bytes, fit for a message.
fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let clean = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter });
    let words: String = clean.take(300).collect();
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::When;
    use proptest::prelude::*;

    fn all(decoder: &mut Decoder) -> Result<Vec<Received<ToAgent>>, WireError> {
        let mut all = Vec::new();
        while let Some(received) = decoder.next()? {
            all.push(received);
        }
        Ok(all)
    }

    #[test]
    fn a_shell_may_speak_before_the_agent() {
        let mut decoder = Decoder::default();
        decoder.push(b"Last login: yesterday\r\n");
        assert_eq!(all(&mut decoder), Ok(vec![]));
        assert_eq!((decoder.greeted(), decoder.unread().as_str()), (false, "Last login: yesterday"));
        decoder.push(&greeting());
        decoder.push(&control(&ToAgent::Ping(7)));
        assert_eq!(all(&mut decoder), Ok(vec![Received::Message(ToAgent::Ping(7))]));
        assert!(decoder.greeted());
    }

    #[test]
    fn another_version_is_called_by_name() {
        let mut other = greeting();
        other[8] = 99;
        let mut decoder = Decoder::default();
        decoder.push(&other);
        let text = all(&mut decoder).unwrap_err().to_string();
        assert!(text.contains("99") && text.contains(env!("CARGO_PKG_VERSION")), "{text}");
    }

    #[test]
    fn what_is_no_agent_is_quoted() {
        let mut decoder = Decoder::default();
        decoder.push(&b"bash: trace-drop: command not found\n".repeat(1000));
        let text = all(&mut decoder).unwrap_err().to_string();
        assert!(text.contains("command not found"), "{text}");
        let mut decoder = Decoder::default();
        decoder.push(&[&greeting()[..], &[9]].concat());
        assert_eq!(all(&mut decoder), Err(WireError::Kind(9)));
        let mut decoder = Decoder::default();
        decoder.push(&[&greeting()[..], &[CONTROL, 0xff, 0xff, 0xff, 0xff]].concat());
        assert_eq!(all(&mut decoder), Err(WireError::Long(u32::MAX)));
        let mut decoder = Decoder::default();
        decoder.push(&[greeting(), frame(CONTROL, b"{}")].concat());
        assert!(matches!(all(&mut decoder), Err(WireError::Message(_))));
    }

    #[test]
    fn a_text_longer_than_a_frame_costs_itself_alone() {
        let text = |content| {
            FromAgent::Text(Text {
                node: "n".to_owned(),
                name: "nft".to_owned(),
                when: When::Before,
                content,
            })
        };
        // JSON in JSON: each quote takes two bytes on the way.
        let quotes = "\"".repeat(LONGEST as usize / 2 + 1);
        let mut decoder = Decoder::default();
        decoder.push(&greeting());
        decoder.push(&said(&text(Known::Read(quotes))));
        decoder.push(&said(&text(Known::Read("rules".to_owned()))));
        let Ok(Some(Received::Message(FromAgent::Text(long)))) = decoder.next() else { panic!("a text") };
        let Known::Unreadable(why) = long.content else { panic!("unreadable") };
        assert!(long.name == "nft" && why.contains("more than the 67108864"), "{why}");
        assert_eq!(decoder.next(), Ok(Some(Received::Message(text(Known::Read("rules".to_owned()))))));
    }

    proptest! {
        #[test]
        fn frames_survive_any_cutting(
            pings in prop::collection::vec(any::<u64>(), 0..6),
            frames in prop::collection::vec(any::<u8>(), 0..300),
            cuts in prop::collection::vec(1usize..40, 1..60),
        ) {
            let mut bytes = greeting();
            for ping in &pings {
                bytes.extend(control(&ToAgent::Ping(*ping)));
            }
            bytes.extend(before_batch(&frames));
            bytes.extend(&frames);
            let mut decoder = Decoder::default();
            let mut received = Vec::new();
            let mut rest = bytes.as_slice();
            for cut in cuts.iter().cycle() {
                let (now, later) = rest.split_at(rest.len().min(*cut));
                decoder.push(now);
                received.extend(all(&mut decoder).unwrap());
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            let mut expected: Vec<_> =
                pings.iter().map(|ping| Received::Message(ToAgent::Ping(*ping))).collect();
            expected.push(Received::Batch(frames));
            prop_assert_eq!(received, expected);
        }

        #[test]
        fn any_bytes_are_borne(
            greeted in any::<bool>(),
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 0..6),
        ) {
            let mut decoder = Decoder::default();
            if greeted {
                decoder.push(&greeting());
            }
            for piece in pieces {
                decoder.push(&piece);
                if all(&mut decoder).is_err() {
                    break;
                }
            }
            decoder.unread();
        }
    }
}
