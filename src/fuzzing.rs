//! A door for the fuzz targets in tests/fuzz to what lies in private rooms: takes any bytes and holds the laws of
//! reading them. No program uses it.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::evidence::foreign;
use crate::evidence::netfilter::Filters;
use crate::gather::agent::wire::{self, Decoder, FromAgent, Received, ToAgent};
use crate::gather::capture::batch;

/// Reads what came over an agent's pipe as either end would, whole and in pieces of that size.
///
/// # Panics
///
/// When the pieces make a difference, or a message does not survive being sent again.
pub fn agent_frames(bytes: &[u8], piece: usize) {
    read::<FromAgent>(bytes, piece);
    read::<ToAgent>(bytes, piece);
}

/// Reads what tools printed on a node; what it comes to is a case's texts, which are read in turn.
pub fn collected(name: &str, printed: &str) {
    let texts = foreign::read(name, printed);
    let filters = Filters::read(&texts, "node", "", None);
    for v6 in [false, true] {
        let _world = filters.world(v6);
    }
}

fn read<M: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(bytes: &[u8], piece: usize) {
    for greeted in [false, true] {
        let begin = if greeted { wire::greeting() } else { Vec::new() };
        let whole = decoded::<M>([begin.as_slice(), bytes].into_iter());
        let pieces = decoded::<M>(std::iter::once(begin.as_slice()).chain(bytes.chunks(piece.max(1))));
        assert_eq!(whole, pieces);
        for received in whole {
            match received {
                Received::Message(message) => {
                    let (begin, again) = (wire::greeting(), wire::control(&message));
                    let again = decoded::<M>([begin.as_slice(), again.as_slice()].into_iter());
                    assert_eq!(again, [Received::Message(message)]);
                }
                Received::Batch(frames) => {
                    let (mut rest, mut again) = (frames.as_slice(), Vec::new());
                    while let Some(frame) = batch::take(&mut rest) {
                        batch::put(&mut again, frame.point, frame.time, frame.wire_len, frame.bytes);
                    }
                    assert_eq!(again, frames[..frames.len() - rest.len()]);
                }
            }
        }
    }
}

/// All messages up to the first that is wrong.
fn decoded<'b, M: DeserializeOwned>(pieces: impl Iterator<Item = &'b [u8]>) -> Vec<Received<M>> {
    let (mut decoder, mut all) = (Decoder::default(), Vec::new());
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.next() {
                Ok(Some(received)) => all.push(received),
                Ok(None) => break,
                Err(_) => return all,
            }
        }
    }
    all
}
