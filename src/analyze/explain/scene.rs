//! Where packets met rules at the place of the verdict: takes the findings, gives the hosts to look into, which way packets
//! went through each and what is known of a lost one. Reads no rule.

use crate::analyze::findings::Findings;
use crate::evidence::netfilter::{Course, Meets};
use crate::evidence::{CapturePoint, Case, Direction, Path, PointId, Role, StageKind};
use crate::packet::Flow;

/// A host to look into: where, on which way through it, for which packet.
pub(super) struct Scene {
    pub(super) node: String,
    /// Put before the texts' names: `pod:` inside the pod.
    pub(super) inside: &'static str,
    pub(super) course: Course,
    pub(super) meets: Meets,
    pub(super) v6: bool,
    /// The lost packets began connections, as far as that can be told.
    pub(super) begins: bool,
}

/// The rulesets that a packet meets at the place of the verdict.
pub(super) fn scenes(findings: &Findings) -> Vec<Scene> {
    let case = &findings.case;
    let (Some(place), way) = (&findings.verdict.place, findings.verdict.direction) else { return Vec::new() };
    let from = &case.points[place.from.index()];
    let to = place.to.map(|to| &case.points[to.index()]);
    let inner = inner(findings, way);
    let outer = outer(case, way);
    let v6 = case.from.address.is_ipv6();
    let route = findings.routes.iter().find(|route| route.direction == way);
    let begins = way == Direction::Forward && route.is_some_and(|route| route.delivered == 0);
    let scene =
        |node: &str, course: Course, mut meets: Meets, inside, enters: Option<&str>, leaves: Option<&str>| {
            meets.in_interface = enters.map(str::to_owned);
            meets.out_interface = leaves.map(str::to_owned);
            if course != Course::Sent {
                meets.mark = Some(0);
            }
            Scene { node: node.to_owned(), inside, course, meets, v6, begins }
        };
    let path = case.paths.iter().find(|path| path.direction == way);
    let crosses = |end: &CapturePoint| end.role == Role::Nic;
    match place.kind {
        StageKind::Forward => {
            let leaves = expected_exit(case, path, place.from);
            let mut all = vec![scene(
                &from.node,
                Course::Forwarded,
                inner,
                "",
                Some(&from.interface),
                leaves.as_deref(),
            )];
            // Without a capture on the tunnel the outer packet may be what was lost.
            if path.is_some_and(|path| path.encapsulated) && to.is_some_and(crosses) {
                all.push(scene(
                    &from.node,
                    Course::Sent,
                    outer,
                    "",
                    None,
                    to.map(|to| to.interface.as_str()),
                ));
            }
            all
        }
        StageKind::Encapsulate => {
            vec![scene(&from.node, Course::Sent, outer, "", None, to.map(|to| to.interface.as_str()))]
        }
        StageKind::Decapsulate => {
            let node = to.map_or(&from.node, |to| &to.node);
            let mut all = vec![scene(node, Course::Received, outer, "", Some(&from.interface), None)];
            if let Some(veth) = to.filter(|to| to.role != Role::Tunnel) {
                all.push(scene(node, Course::Forwarded, inner, "", None, Some(&veth.interface)));
            }
            all
        }
        StageKind::Deliver => {
            let node = to.map_or(&from.node, |to| &to.node);
            vec![scene(
                node,
                Course::Forwarded,
                inner,
                "",
                Some(&from.interface),
                to.map(|to| to.interface.as_str()),
            )]
        }
        StageKind::Pod | StageKind::EnterPod => {
            let mut answer = inner.clone();
            std::mem::swap(&mut answer.src, &mut answer.dst);
            std::mem::swap(&mut answer.src_port, &mut answer.dst_port);
            let (inside, interface) = end(case, way, from);
            vec![
                scene(&from.node, Course::Received, inner, inside, interface, None),
                scene(&from.node, Course::Sent, answer, inside, None, interface),
            ]
        }
        StageKind::LeavePod | StageKind::Underlay => Vec::new(),
    }
}

/// Where the end of a direction is: inside its pod, or its node behind the interface that was captured last.
fn end<'c>(case: &Case, way: Direction, last: &'c CapturePoint) -> (&'static str, Option<&'c str>) {
    if case.end(way).is_node(&case.nodes) { ("", Some(&last.interface)) } else { ("pod:", None) }
}

/// Where a packet should leave the node that it was last seen entering.
fn expected_exit(case: &Case, path: Option<&Path>, from: PointId) -> Option<String> {
    let path = path?;
    let at = path.points.iter().position(|point| *point == from)?;
    let next = &case.points[path.points.get(at + 1)?.index()];
    (next.node == case.points[from.index()].node).then(|| next.interface.clone())
}

/// A lost packet as it stands inside the tunnel; its ports only when all that were kept agree.
fn inner(findings: &Findings, way: Direction) -> Meets {
    let route = findings.routes.iter().find(|route| route.direction == way);
    let stages = route.into_iter().flat_map(|route| &route.stages).filter(|stage| stage.lost > 0);
    let lost = stages.flat_map(|stage| stage.examples.iter().map(|packet| packet.flow));
    let unanswered =
        route.into_iter().filter_map(|route| route.unanswered.as_ref()).flat_map(|u| u.examples.clone());
    let flows: Vec<Flow> = lost.chain(unanswered).collect();
    let common = |field: &dyn Fn(&Flow) -> u16| {
        let mut values = flows.iter().map(field);
        let first = values.next()?;
        values.all(|value| value == first).then_some(first)
    };
    let protocol = flows.first().map(|flow| flow.protocol);
    let has_ports = matches!(protocol, Some(6 | 17 | 132));
    let (src, dst) = match way {
        Direction::Forward => (findings.case.from.address, findings.case.to.address),
        Direction::Reply => (findings.case.to.address, findings.case.from.address),
    };
    let translated = !findings.translations.is_empty();
    Meets {
        src: (!translated).then_some(src),
        dst: (!translated).then_some(dst),
        protocol: protocol.filter(|protocol| flows.iter().all(|flow| flow.protocol == *protocol)),
        src_port: common(&|flow| flow.src_port).filter(|_| has_ports && !translated),
        dst_port: common(&|flow| flow.dst_port).filter(|_| has_ports && !translated),
        ..Meets::default()
    }
}

/// The tunnel's outer packet.
fn outer(case: &Case, way: Direction) -> Meets {
    let address = |node: &Option<String>| {
        let facts = case.nodes.iter().find(|facts| Some(&facts.name) == node.as_ref())?;
        facts.addresses.iter().copied().find(|address| address.is_ipv6() == case.from.address.is_ipv6())
    };
    let (src, dst) = match way {
        Direction::Forward => (address(&case.from.node), address(&case.to.node)),
        Direction::Reply => (address(&case.to.node), address(&case.from.node)),
    };
    Meets { src, dst, protocol: Some(17), dst_port: Some(case.vxlan_port), ..Meets::default() }
}
