//! The case itself. In: the facts of a case. Out: the same with other names and addresses; times, counts, ports and numbers stay.

use crate::evidence::bundle::More;
use crate::evidence::case::{Aliases, CapturePoint, Case, ConntrackText, Endpoint, NodeFacts, ProbeFacts};
use crate::evidence::known::Known;

use super::Redactor;
use super::names::Class;

impl Redactor {
    /// The case anew.
    #[must_use]
    pub fn case(&mut self, case: &Case) -> Case {
        let mut clocks = case.clocks.clone();
        for clock in &mut clocks {
            clock.node = self.names.node(&clock.node);
        }
        let conntrack = case.conntrack.iter();
        Case {
            from: self.end(&case.from),
            to: self.end(&case.to),
            aliases: Aliases {
                from: case.aliases.from.iter().map(|address| self.addresses.ip(*address)).collect(),
                to: case.aliases.to.iter().map(|address| self.addresses.ip(*address)).collect(),
            },
            nodes: case.nodes.iter().map(|facts| self.facts(facts)).collect(),
            points: case.points.iter().map(|point| self.point(point)).collect(),
            paths: case.paths.clone(),
            vxlan_port: case.vxlan_port,
            window: case.window.clone(),
            clocks,
            only: case.only,
            probe: case.probe.as_ref().map(|probe| self.probe(probe)),
            conntrack: conntrack
                .map(|ConntrackText { node, text }| ConntrackText {
                    node: self.names.node(node),
                    text: self.connections(text),
                })
                .collect(),
            warnings: case.warnings.iter().map(|words| self.sentence(words)).collect(),
        }
    }

    /// Further pairs' cases and notes.
    #[must_use]
    pub fn more(&mut self, more: &More) -> More {
        More {
            cases: more.cases.iter().map(|case| self.case(case)).collect(),
            notes: more.notes.iter().map(|words| self.sentence(words)).collect(),
        }
    }

    fn facts(&mut self, facts: &NodeFacts) -> NodeFacts {
        NodeFacts {
            name: self.names.node(&facts.name),
            addresses: facts.addresses.iter().map(|address| self.addresses.ip(*address)).collect(),
            on_path: facts.on_path,
        }
    }

    fn end(&mut self, end: &Endpoint) -> Endpoint {
        Endpoint {
            name: self.end_name(&end.name),
            address: self.addresses.ip(end.address),
            node: end.node.as_ref().map(|node| self.names.node(node)),
        }
    }

    /// `node/NAME`, `namespace/pod`, or an address.
    fn end_name(&mut self, name: &str) -> String {
        if let Some(address) = self.address(name) {
            return address;
        }
        match name.split_once('/') {
            Some(("node", node)) => format!("node/{}", self.names.node(node)),
            Some((namespace, pod)) => {
                format!("{}/{}", self.names.namespace(namespace), self.names.pod(namespace, pod))
            }
            None => self.names.of(Class::Word, name),
        }
    }

    fn point(&mut self, point: &CapturePoint) -> CapturePoint {
        let node = self.names.node(&point.node);
        let place = point.id.strip_prefix(point.node.as_str()).and_then(|rest| rest.strip_prefix('/'));
        let id = match place {
            Some(place) => format!("{node}/{}", self.place(place)),
            None => format!("{node}/{}", self.names.of(Class::Word, &point.id)),
        };
        CapturePoint {
            id,
            interface: self.place(&point.interface),
            role: point.role,
            state: match point.state.clone() {
                Known::Read(mut coverage) => {
                    coverage.failed = coverage.failed.map(|why| self.sentence(&why));
                    Known::Read(coverage)
                }
                other => self.reason(other),
            },
            node,
        }
    }

    /// `eth0`, `pod:eth0`, `pod:eth0@cali1`, `[10.0.0.1]`, `pod:[cali1]`.
    fn place(&mut self, place: &str) -> String {
        if let Some(rest) = place.strip_prefix("pod:") {
            return format!("pod:{}", self.place(rest));
        }
        if let Some((interface, veth)) = place.split_once('@') {
            return format!("{}@{}", self.names.interface(interface), self.names.interface(veth));
        }
        if let Some(inside) = place.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let inside = self.address(inside).unwrap_or_else(|| self.names.interface(inside));
            return format!("[{inside}]");
        }
        self.names.interface(place)
    }

    fn probe(&mut self, probe: &ProbeFacts) -> ProbeFacts {
        let errno = |name: &str| {
            name.len() <= 20 && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
        };
        let errors = probe.errors.iter();
        let kind = match probe.kind.split_once(':') {
            Some((protocol, port)) => format!("{}:{}", self.word(protocol), self.port(port)),
            None => self.word(&probe.kind),
        };
        ProbeFacts {
            kind,
            errors: errors
                .map(|(name, count)| (if errno(name) { name.clone() } else { self.sentence(name) }, *count))
                .collect(),
            ..probe.clone()
        }
    }

    /// Why something is not known, in words.
    pub(super) fn reason<T>(&mut self, known: Known<T>) -> Known<T> {
        match known {
            Known::Unreadable(why) => Known::Unreadable(self.sentence(&why)),
            other => other,
        }
    }
}
