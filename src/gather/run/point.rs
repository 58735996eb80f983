//! A point of the plan while it is gathered: how it stands, and what a case will say of it.

use crate::evidence::case::Coverage;
use crate::evidence::plan::{Find, Plan, PlannedPoint};
use crate::evidence::{Known, Role};
use crate::gather::capture::Counts;
use crate::packet::LinkType;

/// A point of the plan.
#[derive(Debug, Clone, Default)]
pub(super) struct Point {
    /// The number of its node.
    pub(super) node: usize,
    /// The number of its pair.
    pub(super) pair: usize,
    /// The interface, once found; `pod:eth0` for one inside a pod.
    pub(super) interface: Option<String>,
    /// What its frames begin with, once it captures.
    pub(super) link: Option<LinkType>,
    pub(super) counts: Counts,
    pub(super) state: State,
}

/// How a point stands.
#[derive(Debug, Clone, Default)]
pub(super) enum State {
    #[default]
    Awaited,
    /// Its node was lost before it could begin.
    Unreached,
    Capturing {
        since: i64,
    },
    Ended(Coverage),
    Refused(String),
}

impl Point {
    /// It will not capture any more: what is known of it by now becomes its end.
    pub(super) fn give_up(&mut self, why: &str, snaplen: u32) {
        match self.state {
            State::Capturing { since } => {
                self.state = State::Ended(Coverage {
                    guessed: false,
                    started: Some(since),
                    stopped: Some(self.counts.complete_until.max(since)),
                    snaplen,
                    received: self.counts.received,
                    dropped: self.counts.dropped,
                    dropped_interface: self.counts.dropped_interface,
                    failed: Some(why.to_owned()),
                });
            }
            State::Awaited => self.state = State::Refused(why.to_owned()),
            State::Unreached | State::Ended(_) | State::Refused(_) => {}
        }
    }

    /// The interface as a case names it, if the point is to be part of one: found, though perhaps not captured.
    pub(super) fn resolved(&self) -> Known<String> {
        match (&self.interface, &self.state) {
            (Some(interface), _) => Known::Read(interface.trim_start_matches("pod:").to_owned()),
            (None, State::Refused(why)) => Known::Unreadable(why.clone()),
            (None, _) => Known::NotAsked,
        }
    }

    /// How capturing went, for the case.
    pub(super) fn coverage(&self) -> Known<Coverage> {
        match &self.state {
            State::Ended(coverage) => Known::Read(coverage.clone()),
            State::Refused(why) => Known::Unreadable(why.clone()),
            State::Awaited | State::Unreached | State::Capturing { .. } => Known::NotAsked,
        }
    }
}

/// A point's id. When both pods live on one node and name their interfaces alike, the later one is told apart by
/// the host's end of its veth.
pub(super) fn id(plan: &Plan, points: &[Point], number: usize) -> String {
    let plain = |number: usize| {
        let planned = &plan.points[number];
        let interface = points[number].interface.clone().unwrap_or_else(|| expected_interface(planned));
        format!("{}/{interface}", planned.node)
    };
    let own = plain(number);
    match &plan.points[number].find {
        Find::InsidePod { veth, .. } if (0..number).any(|earlier| plain(earlier) == own) => {
            format!("{own}@{veth}")
        }
        _ => own,
    }
}

/// What to call the interface of a point that was never found.
fn expected_interface(planned: &PlannedPoint) -> String {
    match &planned.find {
        Find::Name(name) => name.clone(),
        Find::Holding(address) => format!("[{address}]"),
        Find::InsidePod { veth, .. } => format!("pod:[{veth}]"),
    }
}

/// A role, for messages.
pub(super) fn role_in_words(role: Role) -> &'static str {
    match role {
        Role::Pod => "the pod's own interface",
        Role::Veth => "the host's end of the pod's veth",
        Role::Tunnel => "the tunnel device",
        Role::Nic => "the node's own interface",
    }
}
