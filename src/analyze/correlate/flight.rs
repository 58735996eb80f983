//! Packets under way: trails that some point has not seen yet. Takes each into a slot; gives those that bear one key, the
//! oldest first, and all of them in the order in which they came. Decides nothing about them.

use std::collections::VecDeque;
use std::hash::Hasher;
use std::ops::{Index, IndexMut};

use hashbrown::HashTable;
use rustc_hash::FxHasher;

use super::{NONE, Trail};

/// Trails by key and by age.
#[derive(Debug, Default)]
pub(super) struct Flight {
    slots: Vec<Trail>,
    free: Vec<u32>,
    heads: Heads,
    /// Those that came last, in that order: most have landed before they are old.
    young: VecDeque<Ticket>,
    /// Those before them, likewise.
    old: VecDeque<Ticket>,
}

/// A trail that may have landed since: its slot, and the slot's generation then.
#[derive(Debug, Clone, Copy)]
struct Ticket {
    slot: u32,
    generation: u32,
}

/// The oldest trail of each key. Young ones have a table of their own, which stays in the core's cache however many
/// packets wait for the end of the window.
#[derive(Debug, Default)]
struct Heads {
    young: HashTable<Head>,
    old: HashTable<Head>,
}

/// Half of the key stands beside the slot, since a look at the trail itself is dear.
#[derive(Debug, Clone, Copy)]
struct Head {
    half: u32,
    slot: u32,
}

/// Trails that are likely to land soon.
const MOST_YOUNG: usize = if cfg!(test) { 8 } else { 4_096 };
/// Of equal packets in flight so many are told apart.
const MOST_EQUAL: usize = 256;

impl Index<u32> for Flight {
    type Output = Trail;

    fn index(&self, slot: u32) -> &Trail {
        &self.slots[slot as usize]
    }
}

impl IndexMut<u32> for Flight {
    fn index_mut(&mut self, slot: u32) -> &mut Trail {
        &mut self.slots[slot as usize]
    }
}

impl Flight {
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// The oldest trail with that key; the next one is its `next`.
    #[inline]
    pub(super) fn first(&self, key: u64) -> Option<u32> {
        self.heads.find(key, &self.slots)
    }

    /// Takes a trail; whether it is `alone` with its key is known.
    pub(super) fn add(&mut self, trail: Trail, alone: bool) {
        let key = trail.print.key;
        let slot = if let Some(slot) = self.free.pop() {
            let generation = self[slot].generation;
            self[slot] = Trail { generation, ..trail };
            slot
        } else {
            self.slots.push(trail);
            u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 packets in flight")
        };
        match if alone { None } else { self.first(key) } {
            None => self.heads.add(key, slot, &self.slots),
            Some(first) => self.queue_up(first, slot),
        }
        self.young.push_back(Ticket { slot, generation: self[slot].generation });
        if self.young.len() > MOST_YOUNG
            && let Some(ticket) = self.young.pop_front()
            && self.flies(ticket)
        {
            self.old.push_back(ticket);
            self.heads.grow_old(ticket.slot, &self.slots);
        }
    }

    /// Puts a trail behind the others of its key.
    fn queue_up(&mut self, first: u32, slot: u32) {
        let (mut last, mut n_equal) = (first, 1);
        while self[last].next != NONE {
            last = self[last].next;
            n_equal += 1;
        }
        if n_equal >= MOST_EQUAL {
            self.unlink(NONE, first);
        }
        self[last].ambiguous = true;
        self[last].next = slot;
        self[slot].ambiguous = true;
    }

    /// Takes a trail out of those of its key, where it stands behind `before`: it is not found by it any more.
    pub(super) fn unlink(&mut self, before: u32, slot: u32) {
        let next = std::mem::replace(&mut self[slot].next, NONE);
        if before == NONE {
            self.heads.replace(self[slot].print.key, slot, next);
        } else {
            self[before].next = next;
        }
    }

    /// Forgets a trail.
    pub(super) fn land(&mut self, slot: u32) {
        let trail = &mut self[slot];
        trail.generation = trail.generation.wrapping_add(1);
        let (key, next) = (trail.print.key, std::mem::replace(&mut trail.next, NONE));
        self.free.push(slot);
        if self.heads.replace(key, slot, next) {
            return;
        }
        let mut before = self.first(key).unwrap_or(NONE);
        while before != NONE && self[before].next != slot {
            before = self[before].next;
        }
        if before != NONE {
            self[before].next = next;
        }
    }

    /// The trail that came first of all that still fly.
    pub(super) fn oldest(&mut self) -> Option<u32> {
        loop {
            let ticket = *self.old.front().or_else(|| self.young.front())?;
            if self.flies(ticket) {
                return Some(ticket.slot);
            }
            self.old.pop_front().or_else(|| self.young.pop_front());
        }
    }

    fn flies(&self, ticket: Ticket) -> bool {
        self[ticket.slot].generation == ticket.generation
    }
}

impl Heads {
    #[inline]
    fn find(&self, key: u64, slots: &[Trail]) -> Option<u32> {
        let (hash, is_it) = (spread(key), |head: &Head| head.bears(key, slots));
        let head = self.young.find(hash, is_it).or_else(|| self.old.find(hash, is_it))?;
        Some(head.slot)
    }

    fn add(&mut self, key: u64, slot: u32, slots: &[Trail]) {
        self.young.insert_unique(spread(key), Head { half: half(key), slot }, |head| head.hash(slots));
    }

    /// The first trail of a key is no longer that in `slot` but `next`, if there is one; false where it was not.
    #[inline]
    fn replace(&mut self, key: u64, slot: u32, next: u32) -> bool {
        let (hash, is_it) = (spread(key), |head: &Head| head.slot == slot);
        let young = self.young.find_entry(hash, is_it);
        let Ok(mut head) = young.or_else(|_| self.old.find_entry(hash, is_it)) else { return false };
        if next == NONE {
            head.remove();
        } else {
            head.get_mut().slot = next;
        }
        true
    }

    /// The trail in `slot` is not young any more; those behind it come along.
    fn grow_old(&mut self, slot: u32, slots: &[Trail]) {
        let hash = spread(slots[slot as usize].print.key);
        if let Ok(head) = self.young.find_entry(hash, |head| head.slot == slot) {
            let (head, _) = head.remove();
            self.old.insert_unique(hash, head, |head| head.hash(slots));
        }
    }
}

impl Head {
    fn bears(self, key: u64, slots: &[Trail]) -> bool {
        self.half == half(key) && slots[self.slot as usize].print.key == key
    }

    fn hash(self, slots: &[Trail]) -> u64 {
        spread(slots[self.slot as usize].print.key)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "half of it is meant")]
fn half(key: u64) -> u32 {
    key as u32
}

/// All bits of a key for a table.
fn spread(key: u64) -> u64 {
    let mut hash = FxHasher::default();
    hash.write_u64(key);
    hash.finish()
}

#[cfg(test)]
mod tests {
    use super::super::fingerprint::{Fingerprint, Span};
    use super::super::gist::Gist;
    use super::super::nat::Nat;
    use super::super::{Sighting, Trail};
    use super::*;
    use crate::evidence::Direction;
    use crate::packet::{Flow, Timestamp};
    use proptest::prelude::*;

    fn trail(key: u64, number: i64) -> Trail {
        let address = "10.244.1.2".parse().expect("an address");
        let flow = Flow { src: address, dst: address, protocol: 6, src_port: 1, dst_port: 2 };
        let sighting = Sighting {
            direction: Direction::Forward,
            position: 0,
            time: Timestamp(number),
            print: Fingerprint { key, span: Span::Whole },
            flow,
            gist: Gist::Other(0),
            ttl: 64,
            ip_len: 40,
            astray: None,
        };
        let mut nat = Nat::default();
        let id = nat.id(flow);
        Trail::new(&sighting, id, nat.small(id, &flow))
    }

    /// The trails of a key, by the numbers they came with.
    fn of_key(flight: &Flight, key: u64) -> Vec<i64> {
        let mut slot = flight.first(key).unwrap_or(NONE);
        let mut found = Vec::new();
        while slot != NONE {
            found.push(flight[slot].first.0);
            slot = flight[slot].next;
        }
        found
    }

    fn slot_of(flight: &Flight, number: i64) -> u32 {
        let flies = |slot: &u32| flight[*slot].first.0 == number && !flight.free.contains(slot);
        (0..u32::try_from(flight.slots.len()).expect("few")).find(flies).expect("it flies")
    }

    proptest! {
        /// Held against two lists: trails that are found by their key, and all that fly.
        #[test]
        fn a_flight_is_what_two_lists_say(steps in proptest::collection::vec((0_u8..4, 0_u64..5, any::<usize>()), 1..200)) {
            let mut flight = Flight::default();
            let (mut found, mut flying): (Vec<(u64, i64)>, Vec<i64>) = (Vec::new(), Vec::new());
            for (number, (what, key, pick)) in (0_i64..).zip(steps) {
                let of_it = |found: &[(u64, i64)], key| -> Vec<i64> {
                    found.iter().filter(|(own, _)| *own == key).map(|(_, number)| *number).collect()
                };
                match what {
                    0 if !flying.is_empty() => {
                        let landed = flying.remove(pick % flying.len());
                        found.retain(|(_, number)| *number != landed);
                        flight.land(slot_of(&flight, landed));
                    }
                    1 if !of_it(&found, key).is_empty() => {
                        let equal = of_it(&found, key);
                        let at = pick % equal.len();
                        let before = if at == 0 { NONE } else { slot_of(&flight, equal[at - 1]) };
                        flight.unlink(before, slot_of(&flight, equal[at]));
                        found.retain(|(_, number)| *number != equal[at]);
                    }
                    _ => {
                        let alone = of_it(&found, key).is_empty();
                        flight.add(trail(key, number), alone && pick % 2 == 0);
                        found.push((key, number));
                        flying.push(number);
                    }
                }
                for key in 0..5 {
                    prop_assert_eq!(of_key(&flight, key), of_it(&found, key));
                }
                prop_assert_eq!(flight.len(), flying.len());
                let oldest = flight.oldest().map(|slot| flight[slot].first.0);
                prop_assert_eq!(oldest, flying.first().copied());
            }
        }
    }
}
