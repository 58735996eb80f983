//! The stages between points in path order, for both directions.

use crate::evidence::Known;
use crate::evidence::case::{CapturePoint, Direction, Path, PointId, Role, StageKind};

/// The paths over points given in order from source to destination, but those that could not be captured. Where a
/// point of the full path is missing, the stages on its two sides are one, named after the first.
pub fn paths(points: &[CapturePoint], encapsulated: bool) -> Vec<Path> {
    let captured =
        points.iter().enumerate().filter(|(_, point)| !matches!(point.state, Known::Unreadable(_)));
    let ids: Vec<PointId> =
        captured.map(|(index, _)| PointId(u8::try_from(index).unwrap_or(u8::MAX))).collect();
    let path = |direction, ids: Vec<PointId>| Path {
        direction,
        stages: ids.windows(2).map(|pair| stage(points, &ids, pair[0], pair[1], encapsulated)).collect(),
        points: ids,
        encapsulated,
        open_end: false,
    };
    let back = ids.iter().rev().copied().collect();
    vec![path(Direction::Forward, ids), path(Direction::Reply, back)]
}

/// The stage that begins at `from`.
fn stage(
    points: &[CapturePoint],
    order: &[PointId],
    from: PointId,
    to: PointId,
    encapsulated: bool,
) -> StageKind {
    let (here, there) = (&points[from.index()], &points[to.index()]);
    let first_node = order.first().map(|id| &points[id.index()].node);
    let leaving = Some(&here.node) == first_node && !arrived(points, order, from);
    match (here.role, leaving) {
        (Role::Pod, true) => StageKind::LeavePod,
        (Role::Veth, true) => StageKind::Forward,
        (Role::Tunnel, true) => StageKind::Encapsulate,
        (Role::Nic, true) => StageKind::Underlay,
        (Role::Nic, false) if encapsulated && there.role != Role::Nic => StageKind::Decapsulate,
        (Role::Nic | Role::Tunnel, false) => StageKind::Deliver,
        (Role::Veth, false) => StageKind::EnterPod,
        (Role::Pod, false) => StageKind::Pod,
    }
}

/// Whether a packet at `at` has come down the path to its destination: on one node, after the first veth.
fn arrived(points: &[CapturePoint], order: &[PointId], at: PointId) -> bool {
    let position = order.iter().position(|id| *id == at).unwrap_or(0);
    let role = points[at.index()].role;
    let here = &points[at.index()].node;
    order[..position].iter().any(|id| {
        let before = &points[id.index()];
        before.node != *here || before.role == role
    })
}
