//! Links, addresses, routes, rules, neighbours, forwarding databases, queues and filters of the calling thread's namespace,
//! over rtnetlink. Turns messages into plain data and judges nothing.

use std::collections::BTreeMap;
use std::net::IpAddr;

use futures_util::{Stream, TryStreamExt};
use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::AddressAttribute;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp, Stats64,
    XdpAttached,
};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteNextHop, RouteNextHopFlags, RouteVia,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::tc::{TcAttribute, TcMessage, TcStats2};
use rtnetlink::{Handle, IpVersion};

use super::routes;
use crate::evidence::host::{
    Address, FdbEntry, Host, HostRoute, Link, Neighbour, Queue, RouteRule, TcFilter, Vxlan,
};
use crate::gather::netns::ask;

/// Adds what netlink says to what is known.
pub(super) fn read(host: &mut Host, ends: &[(IpAddr, IpAddr)]) {
    let asked = ask(async |handle| {
        gather(host, &handle, ends).await;
        Ok(())
    });
    if let Err(why) = asked {
        host.unread.push(format!("links, routes and neighbours over rtnetlink: {why}"));
    }
}

async fn gather(host: &mut Host, handle: &Handle, ends: &[(IpAddr, IpAddr)]) {
    let links = all(handle.link().get().execute(), "links", host).await;
    host.links = links.iter().map(link_of).collect();
    let names: BTreeMap<u32, String> =
        host.links.iter().map(|link| (link.index, link.name.clone())).collect();
    let name = |index: u32| names.get(&index).cloned();

    let addresses = all(handle.address().get().execute(), "addresses", host).await;
    host.addresses = addresses
        .iter()
        .filter_map(|message| {
            let pick =
                |wanted: fn(&AddressAttribute) -> Option<IpAddr>| message.attributes.iter().find_map(wanted);
            let own = pick(|attribute| match attribute {
                AddressAttribute::Local(address) => Some(*address),
                _ => None,
            });
            let any = pick(|attribute| match attribute {
                AddressAttribute::Address(address) => Some(*address),
                _ => None,
            });
            let address = IpNet::new(own.or(any)?, message.header.prefix_len).ok()?;
            Some(Address { link: name(message.header.index)?, address })
        })
        .collect();

    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut question = RouteMessage::default();
        question.header.address_family = family;
        let routes = all(handle.route().get(question).execute(), "routes", host).await;
        host.routes.extend(
            routes
                .iter()
                .filter(|route| !route.header.flags.contains(RouteFlags::Cloned))
                .filter_map(|route| route_of(route, &name)),
        );
        let version = if family == AddressFamily::Inet { IpVersion::V4 } else { IpVersion::V6 };
        let rules = all(handle.rule().get(version).execute(), "routing rules", host).await;
        host.rules.extend(rules.iter().map(|rule| rule_of(rule, family == AddressFamily::Inet6)));
    }

    for ends in ends {
        routes::ask(host, handle, *ends).await;
    }

    let neighbours = all(handle.neighbours().get().execute(), "neighbours", host).await;
    host.neighbours = neighbours.iter().filter_map(|message| neighbour_of(message, &name)).collect();
    let fdb = handle.neighbours().get().set_address_family(AddressFamily::Bridge).execute();
    let fdb = all(fdb, "forwarding databases", host).await;
    host.fdb = fdb.iter().filter_map(|message| fdb_of(message, &name)).collect();

    let queues = all(handle.qdisc().get().execute(), "queueing disciplines", host).await;
    host.queues = queues.iter().filter_map(|message| queue_of(message, &name)).collect();
    let with_filters: Vec<(i32, String)> = queues
        .iter()
        .filter_map(|message| {
            let (_, queue) = (message, queue_of(message, &name)?);
            matches!(queue.kind.as_str(), "clsact" | "ingress" | "prio" | "htb" | "hfsc")
                .then(|| (message.header.index, queue.link))
        })
        .collect();
    for (index, link) in with_filters {
        let hooks = [
            ("ingress", handle.traffic_filter(index).get().ingress()),
            ("egress", handle.traffic_filter(index).get().egress()),
            ("root", handle.traffic_filter(index).get().root()),
        ];
        for (hook, question) in hooks {
            // A link whose queue has no such hook answers with an error.
            let filters: Vec<TcMessage> = question.execute().try_collect().await.unwrap_or_default();
            host.filters.extend(filters.iter().filter_map(|message| {
                Some(TcFilter { link: link.clone(), hook: hook.to_owned(), kind: kind_of(message)? })
            }));
        }
    }
    host.filters.dedup();
}

/// All messages of an answer; a failure is noted.
async fn all<T>(
    answer: impl Stream<Item = Result<T, rtnetlink::Error>>,
    what: &str,
    host: &mut Host,
) -> Vec<T> {
    answer.try_collect().await.unwrap_or_else(|error| {
        host.unread.push(format!("{what} over rtnetlink: {error}"));
        Vec::new()
    })
}

fn link_of(message: &LinkMessage) -> Link {
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::LowerUp),
        arp: !flags.contains(LinkFlags::Noarp),
        ..Link::default()
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Address(mac) if !mac.is_empty() => link.mac = Some(mac_words(mac)),
            LinkAttribute::LinkInfo(infos) => about(&mut link, infos),
            LinkAttribute::Xdp(xdp) => link.xdp = xdp_of(xdp),
            LinkAttribute::Stats64(stats) => link.stats = stats_of(stats),
            _ => {}
        }
    }
    link
}

fn about(link: &mut Link, infos: &[LinkInfo]) {
    for info in infos {
        match info {
            LinkInfo::Kind(InfoKind::Other(kind)) => link.kind = Some(kind.clone()),
            LinkInfo::Kind(kind) => link.kind = Some(kind.to_string()),
            LinkInfo::Data(InfoData::Vxlan(attributes)) => {
                let mut vxlan = Vxlan::default();
                for attribute in attributes {
                    match attribute {
                        InfoVxlan::Id(vni) => vxlan.vni = *vni,
                        InfoVxlan::Port(port) => vxlan.port = *port,
                        InfoVxlan::Local(local) => vxlan.local = Some(IpAddr::from(*local)),
                        InfoVxlan::Local6(local) => vxlan.local = Some(IpAddr::from(*local)),
                        InfoVxlan::Learning(learning) => vxlan.learning = *learning,
                        _ => {}
                    }
                }
                link.vxlan = Some(vxlan);
            }
            _ => {}
        }
    }
}

fn xdp_of(xdp: &[LinkXdp]) -> Option<String> {
    xdp.iter().find_map(|attribute| match attribute {
        LinkXdp::Attached(XdpAttached::None) => None,
        LinkXdp::Attached(XdpAttached::Driver) => Some("driver".to_owned()),
        LinkXdp::Attached(XdpAttached::SocketBuffer) => Some("generic".to_owned()),
        LinkXdp::Attached(XdpAttached::Hardware) => Some("hardware".to_owned()),
        LinkXdp::Attached(_) => Some("several".to_owned()),
        _ => None,
    })
}

fn stats_of(stats: &Stats64) -> BTreeMap<String, u64> {
    let all = [
        ("rx_packets", stats.rx_packets),
        ("tx_packets", stats.tx_packets),
        ("rx_errors", stats.rx_errors),
        ("tx_errors", stats.tx_errors),
        ("rx_dropped", stats.rx_dropped),
        ("tx_dropped", stats.tx_dropped),
        ("rx_length_errors", stats.rx_length_errors),
        ("rx_over_errors", stats.rx_over_errors),
        ("rx_crc_errors", stats.rx_crc_errors),
        ("rx_frame_errors", stats.rx_frame_errors),
        ("rx_missed_errors", stats.rx_missed_errors),
        ("tx_carrier_errors", stats.tx_carrier_errors),
        ("rx_otherhost_dropped", stats.rx_otherhost_dropped),
    ];
    all.into_iter().filter(|(_, value)| *value > 0).map(|(name, value)| (name.to_owned(), value)).collect()
}

pub(super) fn route_of(message: &RouteMessage, name: &impl Fn(u32) -> Option<String>) -> Option<HostRoute> {
    let header = &message.header;
    let zero = IpAddr::from([0; 4]);
    let zero = if header.address_family == AddressFamily::Inet { zero } else { IpAddr::from([0; 16]) };
    let mut route = HostRoute {
        dst: IpNet::new(zero, header.destination_prefix_length).ok()?,
        kind: format!("{:?}", header.kind).to_lowercase(),
        via: None,
        dev: None,
        table: u32::from(header.table),
        metric: 0,
        protocol: u8::from(header.protocol),
        onlink: header.flags.contains(RouteFlags::Onlink),
        dead: header.flags.contains(RouteFlags::Dead),
        multipath: false,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => {
                route.dst = IpNet::new(ip_of(address)?, header.destination_prefix_length).ok()?;
            }
            RouteAttribute::MultiPath(hops) => {
                route.multipath = hops.len() > 1;
                if let Some(hop) = hops.iter().find(|hop| !hop.flags.contains(RouteNextHopFlags::Dead)) {
                    through(&mut route, hop, name);
                }
            }
            RouteAttribute::Oif(index) => route.dev = name(*index),
            RouteAttribute::Table(table) => route.table = *table,
            RouteAttribute::Priority(metric) => route.metric = *metric,
            other => route.via = route.via.or(gateway(other)),
        }
    }
    Some(route)
}

fn through(route: &mut HostRoute, hop: &RouteNextHop, name: &impl Fn(u32) -> Option<String>) {
    route.dev = name(hop.interface_index);
    route.via = hop.attributes.iter().find_map(gateway);
    route.onlink = hop.flags.contains(RouteNextHopFlags::Onlink);
}

fn gateway(attribute: &RouteAttribute) -> Option<IpAddr> {
    match attribute {
        RouteAttribute::Gateway(address) => ip_of(address),
        RouteAttribute::Via(RouteVia::Inet(address)) => Some(IpAddr::from(*address)),
        RouteAttribute::Via(RouteVia::Inet6(address)) => Some(IpAddr::from(*address)),
        _ => None,
    }
}

fn ip_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::from(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::from(*address)),
        _ => None,
    }
}

fn rule_of(message: &RuleMessage, v6: bool) -> RouteRule {
    let mut rule = RouteRule {
        v6,
        table: u32::from(message.header.table),
        action: match message.header.action {
            RuleAction::ToTable => "table".to_owned(),
            other => format!("{other:?}").to_lowercase(),
        },
        ..RouteRule::default()
    };
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(priority) => rule.priority = *priority,
            RuleAttribute::Table(table) => rule.table = *table,
            RuleAttribute::Source(address) => rule.src = IpNet::new(*address, message.header.src_len).ok(),
            RuleAttribute::Destination(address) => {
                rule.dst = IpNet::new(*address, message.header.dst_len).ok();
            }
            RuleAttribute::Iifname(name) => rule.iif = Some(name.clone()),
            RuleAttribute::FwMark(mark) => rule.mark = Some(*mark),
            // -1 means that nothing is suppressed.
            RuleAttribute::Protocol(_)
            | RuleAttribute::FwMask(_)
            | RuleAttribute::SuppressPrefixLen(u32::MAX)
            | RuleAttribute::SuppressIfGroup(u32::MAX) => {}
            _ => rule.other = true,
        }
    }
    rule
}

fn neighbour_of(message: &NeighbourMessage, name: &impl Fn(u32) -> Option<String>) -> Option<Neighbour> {
    let address = message.attributes.iter().find_map(destination)?;
    Some(Neighbour {
        link: name(message.header.ifindex)?,
        address,
        mac: message.attributes.iter().find_map(mac_of),
        state: format!("{:?}", message.header.state).to_lowercase(),
    })
}

fn fdb_of(message: &NeighbourMessage, name: &impl Fn(u32) -> Option<String>) -> Option<FdbEntry> {
    Some(FdbEntry {
        link: name(message.header.ifindex)?,
        mac: message.attributes.iter().find_map(mac_of)?,
        dst: message.attributes.iter().find_map(destination),
        state: format!("{:?}", message.header.state).to_lowercase(),
    })
}

fn destination(attribute: &NeighbourAttribute) -> Option<IpAddr> {
    match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some(IpAddr::from(*address)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => Some(IpAddr::from(*address)),
        // In a forwarding database the family is AF_BRIDGE, and the address comes as bytes.
        NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => {
            let four = <[u8; 4]>::try_from(bytes.as_slice()).map(IpAddr::from);
            four.or_else(|_| <[u8; 16]>::try_from(bytes.as_slice()).map(IpAddr::from)).ok()
        }
        _ => None,
    }
}

fn mac_of(attribute: &NeighbourAttribute) -> Option<String> {
    match attribute {
        NeighbourAttribute::LinkLayerAddress(mac) if mac.len() == 6 => Some(mac_words(mac)),
        _ => None,
    }
}

fn mac_words(mac: &[u8]) -> String {
    mac.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

fn kind_of(message: &TcMessage) -> Option<String> {
    message.attributes.iter().find_map(|attribute| match attribute {
        TcAttribute::Kind(kind) => Some(kind.clone()),
        _ => None,
    })
}

/// Queues without a name of their own and without drops are left out.
fn queue_of(message: &TcMessage, name: &impl Fn(u32) -> Option<String>) -> Option<Queue> {
    let index = u32::try_from(message.header.index).ok()?;
    let kind = kind_of(message)?;
    let counts = message.attributes.iter().find_map(|attribute| match attribute {
        TcAttribute::Stats2(stats) => stats.iter().find_map(|stats| match stats {
            TcStats2::Queue(queue) => Some((u64::from(queue.drops), u64::from(queue.overlimits))),
            _ => None,
        }),
        _ => None,
    });
    let (drops, overlimits) = counts.unwrap_or_default();
    if kind == "noqueue" && drops == 0 {
        return None;
    }
    let parent = message.header.parent;
    Some(Queue {
        link: name(index)?,
        kind,
        parent: format!("{:x}:{:x}", parent.major, parent.minor),
        drops,
        overlimits,
    })
}
