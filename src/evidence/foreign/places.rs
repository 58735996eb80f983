//! Where the entries of a list stand, found by what they are instead of by a look at each: collections hold a million routes.
//! Takes hashes alone and holds no entry: the list itself is asked which of those with that hash is meant.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};

use smallvec::SmallVec;

/// The places of a list's entries.
#[derive(Debug, Default)]
pub(super) struct Places {
    hasher: RandomState,
    by_hash: HashMap<u64, SmallVec<[usize; 1]>>,
}

impl Places {
    /// The first place of an entry of this key that `is` the one.
    pub(super) fn find(&self, key: impl Hash, is: impl Fn(usize) -> bool) -> Option<usize> {
        let places = self.by_hash.get(&self.hasher.hash_one(key))?;
        places.iter().copied().filter(|at| is(*at)).min()
    }

    /// An entry of this key stands there.
    pub(super) fn note(&mut self, key: impl Hash, at: usize) {
        self.by_hash.entry(self.hasher.hash_one(key)).or_default().push(at);
    }

    /// The entry that stands there has this key no longer.
    pub(super) fn forget(&mut self, key: impl Hash, at: usize) {
        if let Some(places) = self.by_hash.get_mut(&self.hasher.hash_one(key)) {
            places.retain(|own| *own != at);
        }
    }
}
