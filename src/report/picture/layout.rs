//! Where everything stands: the node that traffic starts from on the left, its points from the pod down to the NIC; the
//! wire below; the other node on the right, from the NIC up to the pod. Both pods on one node share its box. Nodes
//! between stand at the bottom. Takes a case; knows no counts.

use crate::evidence::{Case, Endpoint, PointId};

/// A rectangle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Box {
    pub(super) x: i64,
    pub(super) y: i64,
    pub(super) width: i64,
    pub(super) height: i64,
}

impl Box {
    fn around(center: i64, top: i64) -> Self {
        Self { x: center - BOX.0 / 2, y: top, width: BOX.0, height: BOX.1 }
    }

    /// The middle from left to right.
    pub(super) fn middle(&self) -> i64 {
        self.x + self.width / 2
    }

    /// And from top to bottom.
    pub(super) fn height_middle(&self) -> i64 {
        self.y + self.height / 2
    }
}

/// A node's box.
#[derive(Debug)]
pub(super) struct NodeBox {
    pub(super) name: String,
    pub(super) place: Box,
}

/// The whole picture.
#[derive(Debug)]
pub(super) struct Layout<'c> {
    pub(super) width: i64,
    pub(super) height: i64,
    pub(super) nodes: Vec<NodeBox>,
    /// The two ends; true for the first.
    pub(super) ends: Vec<(&'c Endpoint, Box, bool)>,
    /// Points in path order from the first end to the other.
    pub(super) points: Vec<(PointId, Box)>,
}

/// Width and height of a point.
const BOX: (i64, i64) = (180, 44);
/// Between two points of a column.
const GAP: i64 = 58;
/// Width of a column.
const COLUMN: i64 = 350;
/// Between two nodes.
const WIRE: i64 = 140;
/// Around everything.
const MARGIN: i64 = 10;
/// Below the last row, for what stands under the wire.
const BELOW: i64 = 50;
/// Above the first row of a node, for its name.
const NAME: i64 = 34;

impl<'c> Layout<'c> {
    pub(super) fn of(case: &'c Case) -> Self {
        let groups = groups(case);
        let (stacks, shared) = match groups.as_slice() {
            [(node, points)] => {
                let (left, right) = points.split_at(points.len().div_ceil(2));
                (vec![(node.as_str(), left.to_vec()), (node.as_str(), right.to_vec())], true)
            }
            _ => (groups.iter().map(|(node, points)| (node.as_str(), points.clone())).collect(), false),
        };
        let last = stacks.len().saturating_sub(1);
        let edge = |number: usize| number == 0 || number == last;
        let rows = stacks
            .iter()
            .enumerate()
            .map(|(number, (_, points))| if edge(number) { points.len().max(1) } else { 1 });
        let rows = i64::try_from(rows.max().unwrap_or(1)).unwrap_or(i64::MAX);
        let top = |row: i64| MARGIN + NAME + row * (BOX.1 + GAP);
        let height = top(rows) + BOX.1 + BELOW + MARGIN;
        let mut layout = Layout { width: 0, height, nodes: Vec::new(), ends: Vec::new(), points: Vec::new() };
        let mut x = MARGIN;
        for (number, (node, points)) in stacks.iter().enumerate() {
            let columns = if edge(number) { 1 } else { i64::try_from(points.len()).unwrap_or(1) };
            let width = COLUMN * columns;
            let n_points = i64::try_from(points.len()).unwrap_or(0);
            let own_end = if number == 0 { &case.from } else { &case.to };
            // An end that is not on this node stands above its box.
            let inside = edge(number) && own_end.node.as_deref().is_none_or(|own| own == *node);
            let first_row = if edge(number) { rows - n_points + i64::from(!inside) } else { rows };
            let first_row = if shared { 0 } else { first_row };
            let place =
                Box { x, y: top(first_row) - NAME, width, height: height - MARGIN - top(first_row) + NAME };
            for (index, id) in (0_i64..).zip(points) {
                let place = match number {
                    0 => Box::around(x + COLUMN / 2, top(rows - n_points + 1 + index)),
                    _ if number == last => Box::around(x + COLUMN / 2, top(rows - index)),
                    _ => Box::around(x + COLUMN / 2 + COLUMN * index, top(rows)),
                };
                layout.points.push((*id, place));
            }
            if edge(number) {
                let row = (rows - n_points).max(0);
                layout.ends.push((own_end, Box::around(x + COLUMN / 2, top(row)), number == 0));
            }
            match layout.nodes.last_mut().filter(|_| shared) {
                Some(node) => node.place.width += width,
                None => layout.nodes.push(NodeBox { name: (*node).to_owned(), place }),
            }
            x += width + if shared { 0 } else { WIRE };
        }
        layout.width = x + MARGIN - if shared { 0 } else { WIRE };
        layout
    }

    /// The place of an end.
    pub(super) fn end(&self, first: bool) -> Option<Box> {
        self.ends.iter().find(|(_, _, is_first)| *is_first == first).map(|(_, place, _)| *place)
    }

    /// Which of the points, counted from the first end.
    pub(super) fn number(&self, id: PointId) -> Option<usize> {
        self.points.iter().position(|(own, _)| *own == id)
    }
}

/// Points that are on a path, in path order, those of one node together.
fn groups(case: &Case) -> Vec<(String, Vec<PointId>)> {
    let mut groups: Vec<(String, Vec<PointId>)> = Vec::new();
    for (index, point) in case.points.iter().enumerate() {
        let Ok(id) = u8::try_from(index).map(PointId) else { break };
        if !case.paths.is_empty() && !case.paths.iter().any(|path| path.points.contains(&id)) {
            continue;
        }
        match groups.last_mut() {
            Some((node, points)) if *node == point.node => points.push(id),
            _ => groups.push((point.node.clone(), vec![id])),
        }
    }
    groups
}
