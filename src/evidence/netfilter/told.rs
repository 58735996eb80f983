//! What a walk tells: rules met, ends, doubts, each once and in the order in which it comes to them.

use std::collections::{HashMap, HashSet};

use super::hook::HookPoint;
use super::view::Fits;
use super::world::{End, Ending, Met, Place, Walked};

/// The walk's result as far as it has come.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) walked: Walked,
    places: HashMap<Place, usize>,
    ended: HashSet<End>,
    doubted: HashSet<String>,
}

impl Told {
    /// Before the first rule, with these doubts.
    pub(super) fn of(doubts: Vec<String>) -> Self {
        Self { walked: Walked { doubts, ..Walked::default() }, ..Self::default() }
    }

    pub(super) fn meet(&mut self, place: Place, point: HookPoint, fits: Fits, certain: bool) {
        if let Some(&at) = self.places.get(&place) {
            let met = &mut self.walked.met[at];
            if certain && !met.certain {
                (met.fits, met.certain) = (fits, true);
            }
            return;
        }
        self.places.insert(place.clone(), self.walked.met.len());
        self.walked.met.push(Met { place, point, fits, certain });
    }

    pub(super) fn end(&mut self, what: Ending, place: Option<Place>) {
        let end = End { what, place };
        if self.ended.insert(end.clone()) {
            self.walked.ends.push(end);
        }
    }

    pub(super) fn doubt(&mut self, why: String) {
        if self.doubted.insert(why.clone()) {
            self.walked.doubts.push(why);
        }
    }
}
