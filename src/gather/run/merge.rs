//! One stream out of many: holds the batches of all points and gives their frames in the order of time, each node's
//! clock corrected. A frame goes out when every point that still captures has handed over all it saw until then,
//! or when too much is held; so little is left to do when capturing ends.

use std::collections::VecDeque;

use crate::gather::capture::batch::{self, Framed};

/// The batches of all points.
#[derive(Debug, Default)]
pub(super) struct Merge {
    lanes: Vec<Lane>,
    /// Bytes that wait.
    held: usize,
}

/// The batches of one point, in its own order.
#[derive(Debug)]
struct Lane {
    batches: VecDeque<Vec<u8>>,
    /// Bytes of the first batch that are gone.
    taken: usize,
    /// The first frame's time by the common clock.
    head: Option<i64>,
    /// The node's clock minus the common one.
    offset: i64,
    /// All frames up to here have come; None when no more will come.
    complete_until: Option<i64>,
}

/// More than this is not held back for the sake of order.
const MOST: usize = 192 << 20;

impl Merge {
    /// For that many points, which all may still send.
    pub(super) fn new(points: usize) -> Self {
        let lane = || Lane {
            batches: VecDeque::new(),
            taken: 0,
            head: None,
            offset: 0,
            complete_until: Some(i64::MIN),
        };
        Self { lanes: std::iter::repeat_with(lane).take(points).collect(), held: 0 }
    }

    /// The clock of a point's node; before the first batch.
    pub(super) fn set_offset(&mut self, point: usize, offset: i64) {
        if let Some(lane) = self.lanes.get_mut(point) {
            lane.offset = offset;
        }
    }

    /// A batch of one point. Batches of points that do not exist are refused.
    pub(super) fn push(&mut self, point: usize, frames: Vec<u8>) -> bool {
        let Some(lane) = self.lanes.get_mut(point) else { return false };
        if batch::first_time(&frames).is_none() {
            return true;
        }
        self.held += frames.len();
        lane.batches.push_back(frames);
        lane.look();
        true
    }

    /// Everything up to `time` (the node's clock) has been pushed.
    pub(super) fn complete(&mut self, point: usize, time: i64) {
        if let Some(lane) = self.lanes.get_mut(point) {
            lane.complete_until = lane.complete_until.map(|_| time.saturating_sub(lane.offset));
        }
    }

    /// Nothing more will be pushed.
    pub(super) fn close(&mut self, point: usize) {
        if let Some(lane) = self.lanes.get_mut(point) {
            lane.complete_until = None;
        }
    }

    /// Everything up to here has been pushed; None when every point is closed.
    pub(super) fn safe(&self) -> Option<i64> {
        self.lanes.iter().filter_map(|lane| lane.complete_until).min()
    }

    /// Gives out what is in order by now; all of it when every point is closed.
    pub(super) fn drain<E>(
        &mut self,
        mut give: impl FnMut(usize, Framed<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let safe = self.safe().unwrap_or(i64::MAX);
        loop {
            let earliest = self
                .lanes
                .iter()
                .enumerate()
                .filter_map(|(point, lane)| lane.head.map(|head| (head, point)))
                .min();
            let Some((head, point)) = earliest else { return Ok(()) };
            if head > safe && self.held <= MOST {
                return Ok(());
            }
            let second = self.earliest_but(point);
            let until = if self.held > MOST { second } else { second.min(safe) };
            self.held -= self.lanes[point].give_until(until, |frame| give(point, frame))?;
        }
    }

    /// The earliest frame of the other lanes.
    fn earliest_but(&self, point: usize) -> i64 {
        let others = self.lanes.iter().enumerate().filter(|(other, _)| *other != point);
        others.filter_map(|(_, lane)| lane.head).min().unwrap_or(i64::MAX)
    }
}

impl Lane {
    /// Gives the first frame and those after it that are no later than `until`; says how many bytes went.
    fn give_until<E>(
        &mut self,
        until: i64,
        mut give: impl FnMut(Framed<'_>) -> Result<(), E>,
    ) -> Result<usize, E> {
        let Some(first) = self.batches.front() else { return Ok(0) };
        let mut rest = first.get(self.taken..).unwrap_or_default();
        let before = rest.len();
        while let Some(frame) = batch::take(&mut rest) {
            give(frame)?;
            if batch::first_time(rest).is_none_or(|time| time.saturating_sub(self.offset) > until) {
                break;
            }
        }
        let mut gone = before - rest.len();
        self.taken += gone;
        if batch::first_time(rest).is_none() {
            gone += rest.len();
            self.batches.pop_front();
            self.taken = 0;
        }
        self.look();
        Ok(gone)
    }

    /// Finds the time of the first frame again.
    fn look(&mut self) {
        self.head = self
            .batches
            .front()
            .and_then(|first| batch::first_time(first.get(self.taken..).unwrap_or_default()))
            .map(|time| time.saturating_sub(self.offset));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn batch_of(times: &[i64]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for time in times {
            batch::put(&mut bytes, 0, *time, 60, &[7; 3]);
        }
        bytes
    }

    fn drained(merge: &mut Merge) -> Vec<(usize, i64)> {
        let mut out = Vec::new();
        merge
            .drain(|point, frame| {
                out.push((point, frame.time));
                Ok::<_, ()>(())
            })
            .unwrap();
        out
    }

    #[test]
    fn waits_for_the_slowest_point_and_corrects_clocks() {
        let mut merge = Merge::new(3);
        merge.set_offset(1, 1000);
        merge.push(0, batch_of(&[1, 4, 9]));
        merge.push(1, batch_of(&[1002, 1003]));
        assert_eq!(drained(&mut merge), []);
        merge.complete(0, 9);
        merge.complete(1, 1003);
        assert_eq!(drained(&mut merge), [], "the third point may still send earlier frames");
        merge.close(2);
        assert_eq!(drained(&mut merge), [(0, 1), (1, 1002), (1, 1003)]);
        merge.close(1);
        merge.close(0);
        merge.push(0, batch_of(&[12]));
        assert_eq!(drained(&mut merge), [(0, 4), (0, 9), (0, 12)]);
        assert_eq!(merge.held, 0);
        assert!(!merge.push(3, batch_of(&[1])));
    }

    proptest! {
        #[test]
        fn everything_comes_out_in_order(
            lanes in prop::collection::vec(prop::collection::vec(prop::collection::vec(0i64..50, 0..6), 0..5), 1..5)
        ) {
            let mut merge = Merge::new(lanes.len());
            let mut expected = Vec::new();
            for (point, batches) in lanes.iter().enumerate() {
                let mut time = 0;
                for steps in batches {
                    let times: Vec<i64> = steps.iter().map(|step| { time += step; time }).collect();
                    expected.extend(times.iter().copied());
                    merge.push(point, batch_of(&times));
                }
                merge.close(point);
            }
            expected.sort_unstable();
            let times: Vec<i64> = drained(&mut merge).into_iter().map(|(_, time)| time).collect();
            prop_assert_eq!(times, expected);
            prop_assert_eq!(merge.held, 0);
        }

        #[test]
        fn garbage_ends(batches in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..6)) {
            let mut merge = Merge::new(1);
            for bytes in batches {
                merge.push(0, bytes);
            }
            merge.close(0);
            drained(&mut merge);
            prop_assert_eq!(merge.held, 0);
        }
    }
}
