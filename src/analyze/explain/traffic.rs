//! What the captures themselves tell of the reason: the underlay between two clean captures, the size at which packets
//! vanish, fragments, refusals and ICMP errors. Takes the counted routes; needs no state of the nodes, and uses it where
//! it was read to be surer.

use std::net::IpAddr;

use crate::analyze::Evidence;
use crate::analyze::findings::{Cause, Confidence, Findings, Proof, Route};
use crate::analyze::state::Way;
use crate::evidence::cluster::Cluster;
use crate::evidence::{Direction, StageKind};

use super::Scope;

/// Every cause that the traffic itself points at.
pub(super) fn explain(
    findings: &Findings,
    evidence: &Evidence<'_>,
    way: Option<&Way<'_>>,
    scope: &Scope,
) -> Vec<Cause> {
    let Some(route) = findings.routes.iter().find(|route| route.direction == scope.direction) else {
        return Vec::new();
    };
    let (source, destination) = ends(findings, scope.direction);
    let place = Place { findings, route, scope, source, destination };
    let all = [
        place.untranslated(evidence.cluster),
        place.fragments(),
        place.size(),
        place.underlay(way),
        place.ttl(way),
        place.too_big(),
        place.nobody_listens(way),
    ];
    all.into_iter().flatten().collect()
}

/// The nodes' names, where packets start and where they go.
fn ends(findings: &Findings, direction: Direction) -> (String, String) {
    let name = |node: &Option<String>| node.clone().unwrap_or_default();
    let (from, to) = (name(&findings.case.from.node), name(&findings.case.to.node));
    if direction == Direction::Forward { (from, to) } else { (to, from) }
}

struct Place<'f> {
    findings: &'f Findings,
    route: &'f Route,
    scope: &'f Scope,
    source: String,
    destination: String,
}

impl Place<'_> {
    /// Whether the loss may lie between the nodes' cards.
    fn underlay_is_open(&self) -> bool {
        self.scope.kinds.contains(&StageKind::Underlay)
    }

    /// Whether it can lie nowhere else.
    fn underlay_alone(&self) -> bool {
        self.scope.kinds == [StageKind::Underlay]
    }

    /// Whether so many errors may be about most of what was lost.
    fn is_most(&self, errors: u64) -> bool {
        errors * 2 >= self.scope.lost
    }

    /// Whether who sent an error may be at the place of the loss: of the path's two nodes only the one at that end.
    fn may_drop(&self, by: IpAddr) -> bool {
        let node = self.findings.case.nodes.iter().find(|node| node.addresses.contains(&by));
        let of = |name: &str| node.is_some_and(|node| node.name == name);
        if self.source == self.destination {
            return true;
        }
        let near = self.scope.kinds.iter().any(|kind| *kind <= StageKind::Underlay);
        let far = self.scope.kinds.iter().any(|kind| *kind >= StageKind::Underlay);
        (near || !of(&self.source)) && (far || !of(&self.destination))
    }

    fn proof(detail: String) -> Proof {
        Proof { source: "capture", detail }
    }

    /// A Service's address that nothing translated: no node has it, so its packets lead nowhere.
    fn untranslated(&self, cluster: Option<&Cluster>) -> Option<Cause> {
        let case = &self.findings.case;
        if !self.scope.kinds.contains(&StageKind::Forward) || self.scope.direction != Direction::Forward {
            return None;
        }
        let stages = self.route.stages.iter().filter(|stage| stage.lost > 0);
        let mut flows = stages.flat_map(|stage| stage.examples.iter().map(|lost| lost.flow));
        let first = flows.next().filter(|flow| case.aliases.to.contains(&flow.dst))?;
        if !flows.all(|flow| (flow.dst, flow.dst_port) == (first.dst, first.dst_port)) {
            return None;
        }
        // It leads somewhere for other packets.
        let translated = self.findings.translations.iter().any(|translation| {
            (translation.before.dst, translation.before.dst_port) == (first.dst, first.dst_port)
        });
        if translated || self.route.of_others.iter().any(|(address, _)| *address == first.dst) {
            return None;
        }
        let service = cluster.and_then(|cluster| {
            cluster.services.iter().find(|service| service.addresses.contains(&first.dst))
        });
        let name =
            service.map_or_else(|| "a Service".to_owned(), |s| format!("Service {}/{}", s.namespace, s.name));
        let ports: Vec<String> = service
            .into_iter()
            .flat_map(|s| &s.ports)
            .map(|port| format!("{}/{}", port.port, port.protocol))
            .collect();
        let protocol = if first.protocol == 6 { "TCP" } else { "UDP" };
        let no_such_port = service.is_some() && !ports.contains(&format!("{}/{protocol}", first.dst_port));
        let mut evidence = vec![Self::proof(format!(
            "lost packets went to {} port {}, which is an address of {name}",
            first.dst, first.dst_port
        ))];
        if no_such_port {
            evidence
                .push(Proof { source: "cluster", detail: format!("ports of {name}: {}", ports.join(", ")) });
        }
        Some(Cause {
            kind: "service_no_endpoints",
            node: self.source.clone(),
            confidence: if no_such_port { Confidence::Confirmed } else { Confidence::Possible },
            summary: if no_such_port {
                format!(
                    "{name} has no {protocol} port {}: nothing leads these packets to a pod",
                    first.dst_port
                )
            } else {
                format!(
                    "nothing translated {name}'s address on {}: kube-proxy has no rule for it there, or its packets are not tracked",
                    self.source
                )
            },
            remedy: format!(
                "compare `kubectl get service,endpointslices` with the port that is used; on {}: `iptables-save -t nat | grep {}`",
                self.source, first.dst
            ),
            evidence,
        })
    }

    /// One lost fragment takes the whole packet with it.
    fn fragments(&self) -> Option<Cause> {
        let n = self.scope.fragmented;
        (n > 0 && n * 2 >= self.scope.lost).then(|| Cause {
            kind: "fragment_loss",
            node: self.source.clone(),
            confidence: if n == self.scope.lost { Confidence::Likely } else { Confidence::Possible },
            summary: format!("{n} of the {} lost packets had been sent in fragments, of which at least one vanished", self.scope.lost),
            remedy: "send packets that fit the MTU, or let every firewall and load balancer on the way pass fragments (they bear no ports)".to_owned(),
            evidence: vec![Self::proof(format!("{n} of {} lost packets were fragments", self.scope.lost))],
        })
    }

    /// Short packets arrive and long ones do not.
    fn size(&self) -> Option<Cause> {
        let (shortest, longest) = self.scope.lost_len?;
        if !self.underlay_is_open() || self.scope.fragmented > 0 {
            return None;
        }
        let arrived = self.route.longest_delivered;
        let whole = |proof: String, confidence, summary: String| Cause {
            kind: "underlay_mtu",
            node: self.source.clone(),
            confidence,
            summary,
            remedy: format!(
                "between {} and {}: `ping -M do -s SIZE` of their own addresses finds the MTU; then set Calico's MTU 50 bytes below it (70 with IPv6)",
                self.source, self.destination
            ),
            evidence: vec![Self::proof(proof)],
        };
        // No network takes less than this; and one lost packet that happens to be the longest tells nothing of its size.
        if arrived > 0 && shortest > arrived && shortest >= LONG && self.scope.lost >= FEW {
            let proof = format!(
                "lost packets had {shortest} to {longest} bytes, those that arrived at most {arrived}"
            );
            let confidence = if self.underlay_alone() { Confidence::Confirmed } else { Confidence::Likely };
            return Some(whole(
                proof,
                confidence,
                format!(
                    "packets of {shortest} bytes and more vanish between the nodes, those up to {arrived} arrive: the network between them takes less than the tunnel sends"
                ),
            ));
        }
        (arrived == 0 && shortest >= LONG).then(|| {
            whole(
                format!("lost packets had {shortest} to {longest} bytes; no shorter one was sent"),
                Confidence::Possible,
                format!("all packets were long ({shortest} bytes and more) and none arrived: short ones may; send some to tell (`--probe icmp`)"),
            )
        })
    }

    /// Between two clean captures lies nothing but the network.
    fn underlay(&self, way: Option<&Way<'_>>) -> Option<Cause> {
        if !self.underlay_is_open() {
            return None;
        }
        let node = &self.findings.case;
        let all = self.scope.all_lost() && self.route.delivered == 0;
        let nic_drops: Vec<String> = way
            .into_iter()
            .filter_map(|way| Some((way.to.host?, way.to.nic?)))
            .flat_map(|(seen, nic)| {
                ["rx_dropped", "rx_missed_errors", "rx_crc_errors", "rx_over_errors"]
                    .into_iter()
                    .map(move |name| (nic, name, seen.link_grown(nic, name)))
            })
            .filter(|(_, _, grown)| *grown > 0)
            .map(|(nic, name, grown)| format!("{name} of {nic} on {} grew by {grown}", self.destination))
            .collect();
        let long_only = self.scope.lost_len.is_some_and(|(shortest, _)| shortest >= LONG)
            && self.route.longest_delivered == 0;
        // XDP takes packets before the card's own capture sees them: they look as if the network had lost them.
        let xdp = way.and_then(|way| way.to.host?.after.link(way.to.nic?)).and_then(|nic| {
            Some(format!("XDP ({}) on {} of {}", nic.xdp.as_ref()?, nic.name, self.destination))
        });
        let confidence = match (self.underlay_alone(), long_only || xdp.is_some()) {
            (true, false) => Confidence::Likely,
            _ => Confidence::Possible,
        };
        let mut evidence = vec![Self::proof(format!(
            "{} of {} packets left {} and did not come to {}",
            self.scope.lost, self.scope.entered, self.source, self.destination
        ))];
        evidence.extend(
            xdp.map(|read| Proof { source: "link", detail: format!("{read} may be the reason as well") }),
        );
        evidence.extend(nic_drops.into_iter().map(|detail| Proof { source: "link", detail }));
        Some(if all {
            Cause {
                kind: "underlay_blocked",
                node: self.source.clone(),
                confidence,
                summary: format!(
                    "nothing of the tunnel from {} arrives at {}",
                    self.source, self.destination
                ),
                remedy: format!(
                    "let UDP port {} pass between the nodes: security groups, firewalls between them, the switch's port; then `tcpdump -ni NIC udp port {}` on both",
                    node.vxlan_port, node.vxlan_port
                ),
                evidence,
            }
        } else {
            Cause {
                kind: "underlay_loss",
                node: self.source.clone(),
                confidence,
                summary: format!("the network between {} and {} loses packets", self.source, self.destination),
                remedy: "look at error counters of both cards (`ethtool -S`) and of the switch's ports, at congestion and at policers between them".to_owned(),
                evidence,
            }
        })
    }

    /// Packets that came by a point again and again, or a router that said their time was over.
    fn ttl(&self, way: Option<&Way<'_>>) -> Option<Cause> {
        let told = self.findings.errors.iter().find(|error| {
            error.about == Some(self.scope.direction)
                && error.what.contains("TTL exceeded")
                && self.may_drop(error.by)
        });
        if self.route.looped == 0 && told.is_none() {
            return None;
        }
        let mut evidence = Vec::new();
        if self.route.looped > 0 {
            evidence.push(Self::proof(format!(
                "packets passed a point again {} times with a falling TTL",
                self.route.looped
            )));
        }
        if let Some(error) = told {
            evidence.push(Self::proof(format!("{} from {} ({} times)", error.what, error.by, error.count)));
        }
        let looped = self.route.looped > 0;
        // Two witnesses: the router's word, and its count (or the packets that came by again).
        let counted = way.map_or(0, |way| self.header_errors(way));
        if counted > 0 {
            evidence.push(Proof {
                source: "snmp",
                detail: format!("InHdrErrors grew by {counted} while {} packets were lost", self.scope.lost),
            });
        }
        let sure = if looped { told.is_some() } else { counted >= self.scope.lost };
        // Routers send few errors; but one for many lost packets may be about something else.
        let most =
            looped || counted >= self.scope.lost || told.is_some_and(|error| self.is_most(error.count));
        Some(Cause {
            kind: if looped { "wrong_route" } else { "ttl_expired" },
            node: self.source.clone(),
            confidence: match (sure, most) {
                (true, _) => Confidence::Confirmed,
                (false, true) => Confidence::Likely,
                (false, false) => Confidence::Possible,
            },
            summary: if looped {
                "a routing loop: packets go round between nodes until their TTL is used up".to_owned()
            } else {
                "packets start with a TTL too small for the way".to_owned()
            },
            remedy: if looped {
                "compare `ip route get` to the destination on both nodes: each sends these packets to the other".to_owned()
            } else {
                "find what sets so small a TTL in the sender (a socket option, net.ipv4.ip_default_ttl, a mangle rule)".to_owned()
            },
            evidence,
        })
    }

    /// Packets that the node at the place of the loss could not take for what stands in their headers; a used-up TTL
    /// is one (`ip_forward` of `net/ipv4/ip_forward.c`).
    fn header_errors(&self, way: &Way<'_>) -> u64 {
        let receiving = self.scope.kinds.iter().any(|kind| *kind >= StageKind::Decapsulate);
        let side = if receiving { &way.to } else { &way.from };
        let name = if way.dst.is_ipv6() { "Ip6InHdrErrors" } else { "Ip:InHdrErrors" };
        side.host.map_or(0, |seen| seen.grown(name))
    }

    /// A router that said what size it takes.
    fn too_big(&self) -> Option<Cause> {
        let error = self.findings.errors.iter().find(|error| {
            error.about == Some(self.scope.direction)
                && (error.what.contains("fragmentation needed") || error.what.contains("packet too big"))
                && self.may_drop(error.by)
        })?;
        // Those that fit were not refused for their size.
        if self.scope.lost_len.zip(error.mtu).is_some_and(|((_, longest), mtu)| longest <= mtu) {
            return None;
        }
        Some(Cause {
            kind: "mtu",
            node: self.source.clone(),
            confidence: if self.is_most(error.count) { Confidence::Likely } else { Confidence::Possible },
            summary: format!("{} refuses packets as too big ({})", error.by, error.what),
            remedy:
                "give pods the MTU that the whole path takes; let ICMP errors pass so that senders learn it"
                    .to_owned(),
            evidence: vec![Self::proof(format!("{} from {} ({} times)", error.what, error.by, error.count))],
        })
    }

    /// The pod itself refused.
    fn nobody_listens(&self, way: Option<&Way<'_>>) -> Option<Cause> {
        let unanswered = self.route.unanswered.as_ref().filter(|unanswered| unanswered.refused > 0)?;
        if !self.scope.kinds.contains(&StageKind::Pod) {
            return None;
        }
        let flow = unanswered.examples.first()?;
        let case = &self.findings.case;
        let (who, place) = if case.end(self.scope.direction).is_node(&case.nodes) {
            ("the node", format!("on {}", self.destination))
        } else {
            ("the pod", "in the pod".to_owned())
        };
        let pod = way.and_then(|way| way.to.pod);
        let listens = pod.map(|pod| {
            pod.after.listening.iter().any(|socket| {
                (socket.protocol, socket.port) == (flow.protocol, flow.dst_port)
                    && (socket.address.is_unspecified() || socket.address == flow.dst)
            })
        });
        let protocol = if flow.protocol == 6 { "TCP" } else { "UDP" };
        let mut evidence = vec![Self::proof(format!(
            "{} of {} requests were refused by {who} itself",
            unanswered.refused, unanswered.arrived
        ))];
        match listens {
            Some(true) => return None,
            Some(false) => evidence.push(Proof {
                source: "socket",
                detail: format!("no socket {place} listens on {protocol} port {}", flow.dst_port),
            }),
            None => {}
        }
        Some(Cause {
            kind: "no_listener",
            node: self.destination.clone(),
            confidence: if listens.is_some() { Confidence::Confirmed } else { Confidence::Likely },
            summary: format!("nothing {place} listens on {protocol} port {}: it refuses", flow.dst_port),
            remedy: format!(
                "is the program up, and does it listen on this port and on all addresses? `ss -lnt` {place}; compare the Service's targetPort"
            ),
            evidence,
        })
    }
}

/// Packets of this many bytes and more are called long.
const LONG: u32 = 1_000;
/// Fewer lost packets have nothing in common that could be told from chance.
const FEW: u64 = 3;
