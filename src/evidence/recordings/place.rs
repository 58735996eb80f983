//! Where each lane was captured: takes lanes and the two ends, gives for each what kind of interface it is, on which end's
//! node, and by what that is known. What cannot be placed is said to be so and why. Guesses from packets first, then from
//! names: a name may be old, packets are not.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::evidence::{Direction, Role};

use super::ends::{Ends, Side, near};
use super::look::{Class, Lane, Says, Sight};
use super::mixed;
use super::name::{Told, usual_role};
use super::order::{self, First};

/// A lane and what is known or guessed of it.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) lane: Lane,
    pub(super) told: Told,
    /// The point that somebody said it is.
    pub(super) said: Option<(String, String)>,
    pub(super) role: Option<Role>,
    pub(super) side: Option<Side>,
    /// By what role and side are known.
    pub(super) because: Vec<&'static str>,
    /// Why it is of no use.
    pub(super) useless: Option<String>,
    /// A direction whose packets must have come by and are not in it.
    pub(super) lacks: Option<Direction>,
    content: Content,
}

/// What a lane shows of the traffic and of its own place.
#[derive(Debug, Clone, Default)]
struct Content {
    /// Packets of the two ends, and of these those in a tunnel.
    packets: usize,
    /// When the first and the last of them came by.
    span: Option<(i64, i64)>,
    /// By direction, without resets.
    ways: [usize; 2],
    /// Those that acknowledge something of the other direction.
    acknowledging: [usize; 2],
    tunnelled: usize,
    plain: usize,
    /// Frames from or to the host's side of a veth.
    gates: usize,
    /// Plain packets with addresses of VXLAN devices, and all plain ones.
    vteps: usize,
    plain_of_all: usize,
    bare: usize,
    /// Plain packets that went through the interface towards each end: the interface is on the other end's side of the node.
    near: [usize; 2],
    /// The same of those in a tunnel.
    near_tunnelled: [usize; 2],
    /// A TTL that no router has lowered yet.
    fresh: [usize; 2],
}

impl Draft {
    pub(super) fn new(lane: Lane, told: Told, said: Option<(String, String)>, ends: &Ends) -> Self {
        let content = Content::of(&lane, ends);
        Self {
            lane,
            told,
            said,
            role: None,
            side: None,
            because: Vec::new(),
            useless: None,
            lacks: None,
            content,
        }
    }

    /// The node's name, said or in the file's name.
    pub(super) fn node(&self) -> Option<&str> {
        self.said.as_ref().map(|(node, _)| node.as_str()).or(self.told.node.as_deref())
    }

    /// Whether it shows any packet of the two ends.
    pub(super) fn has_traffic(&self) -> bool {
        self.content.packets > 0
    }

    /// When it saw the first and the last packet of the two ends.
    pub(super) fn traffic(&self) -> Option<(i64, i64)> {
        self.content.span
    }

    /// How many packets of a direction it shows, resets not counted.
    pub(super) fn shows(&self, direction: Direction) -> usize {
        self.content.ways[direction as usize]
    }

    /// Whether it shows packets that are an answer to packets of a direction.
    pub(super) fn acknowledges(&self, direction: Direction) -> bool {
        let other = if direction == Direction::Forward { Direction::Reply } else { Direction::Forward };
        self.content.acknowledging[other as usize] >= 3
    }

    /// Whether it shows the traffic in a tunnel.
    pub(super) fn is_tunnelled(&self) -> bool {
        self.content.tunnelled > 0
    }

    /// Whether it is part of a capture of all interfaces of a node.
    pub(super) fn is_cooked(&self) -> bool {
        self.lane.is_cooked()
    }

    /// What the interface is called, if anything calls it.
    fn called(&self) -> Option<String> {
        match &self.said {
            Some((_, interface)) if interface != "any" => Some(interface.clone()),
            _ => self.lane.called(&self.told),
        }
    }

    /// The interface's name in the report.
    pub(super) fn interface(&self) -> String {
        if let Some(called) = self.called().filter(|_| self.lane.class.is_none()) {
            return match self.role {
                Some(Role::Pod) if !called.starts_with("pod") => format!("pod:{called}"),
                _ => called,
            };
        }
        match self.role {
            Some(Role::Pod) => "pod",
            Some(Role::Veth) => "veth",
            Some(Role::Tunnel) => "tunnel",
            Some(Role::Nic) | None => "nic",
        }
        .to_owned()
    }

    /// Lanes of one group were captured on one node.
    fn group(&self, several: &BTreeSet<usize>) -> Option<String> {
        let file = self.lane.files.first()?;
        match self.node() {
            Some(node) => Some(format!("node {node}")),
            None => several.contains(file).then(|| format!("file {file}")),
        }
    }

    fn take_role(&mut self, role: Role, because: &'static str) {
        self.role = Some(role);
        self.because.push(because);
    }

    fn take_side(&mut self, side: Side, because: &'static str) {
        self.side = Some(side);
        self.because.push(because);
    }
}

impl Content {
    fn of(lane: &Lane, ends: &Ends) -> Self {
        let mut content = Self::default();
        for sight in &lane.sights {
            content.note(sight, ends);
        }
        content
    }

    fn note(&mut self, sight: &Sight, ends: &Ends) {
        if sight.tunnel.is_none() {
            self.plain_of_all += 1;
            self.vteps += usize::from(sight.vtep);
            self.gates += usize::from(sight.gate.is_some());
        }
        let Some(way) = ends.way(sight.src, sight.dst) else { return };
        self.packets += 1;
        let (first, last) = self.span.unwrap_or((sight.time, sight.time));
        self.span = Some((first.min(sight.time), last.max(sight.time)));
        self.ways[way as usize] += usize::from(sight.says != Says::Resets);
        self.acknowledging[way as usize] += usize::from(sight.says == Says::Acknowledges);
        self.bare += usize::from(sight.bare && sight.tunnel.is_none());
        self.fresh[way as usize] +=
            usize::from(matches!(sight.ttl, 64 | 128 | 255) && sight.tunnel.is_none());
        let near = near(way, sight.way);
        if sight.tunnel.is_some() {
            self.tunnelled += 1;
            self.near_tunnelled[0] += usize::from(near == Some(Side::From));
            self.near_tunnelled[1] += usize::from(near == Some(Side::To));
        } else {
            self.plain += 1;
            self.near[0] += usize::from(near == Some(Side::From));
            self.near[1] += usize::from(near == Some(Side::To));
        }
    }

    /// Which end the interface is nearer to than its node is.
    fn nearer(&self) -> Option<Side> {
        let counts = if self.tunnelled > 0 { self.near_tunnelled } else { self.near };
        match counts {
            [a, b] if a > b * 10 => Some(Side::From),
            [a, b] if b > a * 10 => Some(Side::To),
            _ => None,
        }
    }
}

/// Says of each draft where it is, as far as all of them together tell.
pub(super) fn place(drafts: &mut [Draft], ends: &Ends) {
    let said_all =
        drafts.iter().all(|draft| draft.said.as_ref().is_some_and(|(_, interface)| interface != "any"));
    for draft in drafts.iter_mut() {
        if mixed::is_inseparable(&draft.lane, ends) {
            draft.useless = Some(
                "packets come by it twice: captures of several places are mixed in one interface and cannot be told \
                 apart; give them as files of their own (`mergecap -I none` keeps them apart)"
                    .to_owned(),
            );
        }
    }
    roles(drafts);
    if said_all {
        return;
    }
    sides_by_packets(drafts, ends);
    sides_by_nodes(drafts);
    sides_by_addresses(drafts, ends);
    sides_by_nodes(drafts);
    sides_by_order(drafts, ends);
    sides_by_nodes(drafts);
    the_last_one(drafts);
    for draft in drafts.iter_mut().filter(|draft| draft.useless.is_none()) {
        if draft.role.is_none() || draft.side.is_none() {
            draft.useless = Some(if draft.lane.frames == 0 {
                "it holds no packet, and its name does not tell where it was taken".to_owned()
            } else if draft.has_traffic() {
                "neither its packets nor its name tell where it was taken".to_owned()
            } else {
                format!(
                    "no packet between {} and {} is in it, and its name does not tell where it was taken",
                    ends.from, ends.to
                )
            });
        }
    }
}

fn used(drafts: &mut [Draft]) -> impl Iterator<Item = &mut Draft> {
    drafts.iter_mut().filter(|draft| draft.useless.is_none())
}

fn roles(drafts: &mut [Draft]) {
    let any_tunnelled = drafts.iter().any(Draft::is_tunnelled);
    let any_tunnel = any_tunnelled || drafts.iter().any(|draft| draft.lane.tunnels);
    for draft in used(drafts) {
        let by_name = draft.called().as_deref().and_then(usual_role);
        let content = &draft.content;
        let clean = draft.lane.class.is_some_and(|class| class != Class::Plain);
        if let Some((_, interface)) =
            draft.said.as_ref().filter(|(_, interface)| interface != "any" && !clean)
        {
            let role = super::name::role(interface);
            draft.take_role(role, "so it was said");
        } else if content.tunnelled > 0 && content.plain <= content.tunnelled {
            draft.take_role(Role::Nic, "the packets are in a tunnel there");
        } else if content.gates > 0 {
            match by_name {
                Some(Role::Nic | Role::Pod) => {
                    draft.take_role(Role::Pod, "the other side has Calico's MAC address of veths, and its name is not one of a host's veth");
                }
                _ => draft.take_role(Role::Veth, "there is Calico's MAC address of veths"),
            }
        } else if content.plain > 0 && content.bare * 2 > content.plain {
            match by_name {
                Some(role) => draft.take_role(role, "it is named so"),
                None => draft.take_role(Role::Tunnel, "its frames have no MAC addresses"),
            }
        } else if content.vteps > 0 && content.vteps * 2 > content.plain_of_all {
            draft.take_role(Role::Tunnel, "the MAC addresses are of VXLAN devices");
        } else if let Some(role) = by_name {
            draft.take_role(role, "it is named so");
        } else if content.plain > 0 && content.fresh.iter().sum::<usize>() * 3 > content.plain {
            draft.take_role(Role::Veth, "no router has lowered the TTL yet");
        } else if content.plain > 0 && any_tunnelled && content.fresh.iter().sum::<usize>() == 0 {
            draft.take_role(
                Role::Tunnel,
                "a router has lowered the TTL, and the packets are in no tunnel yet",
            );
        } else if content.plain > 0 && !any_tunnel && content.fresh.iter().sum::<usize>() == 0 {
            draft.take_role(Role::Nic, "a router has lowered the TTL, and no capture shows a tunnel");
        } else if content.packets == 0 && draft.lane.tunnels {
            draft.take_role(Role::Nic, "packets of tunnels are in it");
        }
    }
}

/// Veths tell by the pod's address, cooked captures by which way packets go through the interface.
fn sides_by_packets(drafts: &mut [Draft], ends: &Ends) {
    for draft in used(drafts) {
        let owner = draft.lane.owner();
        if matches!(draft.role, Some(Role::Veth | Role::Pod)) && owner.is_some() {
            match owner.and_then(|owner| ends.side(owner)) {
                Some(Direction::Forward) => draft.take_side(Side::From, "the pod behind it has that address"),
                Some(Direction::Reply) => draft.take_side(Side::To, "the pod behind it has that address"),
                None if !draft.has_traffic() => {
                    draft.useless = owner.map(|owner| format!("it is the veth of another pod, {owner}"));
                }
                None => {}
            }
        }
        let nearer = draft.content.nearer();
        if draft.side.is_none()
            && let (Some(role), Some(nearer)) = (draft.role, nearer)
        {
            let outwards = matches!(role, Role::Tunnel | Role::Nic);
            let side = if (nearer == Side::To) == outwards { Side::From } else { Side::To };
            draft.take_side(side, "packets go through it that way");
        }
    }
    cooked_pairs(drafts);
}

/// Of the interfaces of one cooked capture without any mark, the one beside a known NIC's side is the tunnel device and the
/// other the veth.
fn cooked_pairs(drafts: &mut [Draft]) {
    let nics: Vec<(usize, Side)> = drafts
        .iter()
        .filter(|draft| draft.role == Some(Role::Nic))
        .filter_map(|draft| Some((*draft.lane.files.first()?, draft.side?)))
        .collect();
    for draft in used(drafts) {
        let (None, Some(nearer)) = (draft.role, draft.content.nearer()) else { continue };
        let Some((_, node)) = nics.iter().find(|(file, _)| draft.lane.files.contains(file)) else { continue };
        let role = if nearer == *node { Role::Veth } else { Role::Tunnel };
        draft.take_role(role, "packets go through it that way");
        draft.side = Some(*node);
    }
}

/// Whether packets go from node to node in a tunnel. Nodes may have a tunnel device that this traffic does not take, as
/// with `vxlanMode: CrossSubnet`: where packets arrive without a tunnel, others' packets on it prove nothing, and it is no
/// place of the path. Packets that leave without one and do not arrive may have lost their way to it.
pub(super) fn encapsulated(drafts: &mut [Draft], said: bool) -> bool {
    let by_device =
        |draft: &Draft| draft.role == Some(Role::Tunnel) && draft.useless.is_none() && draft.has_traffic();
    if drafts.iter().any(|draft| draft.is_tunnelled() || by_device(draft)) {
        return true;
    }
    let is_nic =
        |draft: &Draft| draft.role == Some(Role::Nic) && draft.useless.is_none() && draft.has_traffic();
    let plain = drafts.iter().any(is_nic);
    let arrives = [Direction::Forward, Direction::Reply].into_iter().any(|way| {
        let nic = drafts.iter().any(|draft| is_nic(draft) && draft.shows(way) > 0);
        let (ends, last) = match way {
            Direction::Forward => (Side::To, drafts.last()),
            Direction::Reply => (Side::From, drafts.first()),
        };
        let at_end =
            |draft: &Draft| draft.useless.is_none() && draft.side == Some(ends) && draft.shows(way) > 0;
        // Those that were all said are in path order, and have no sides.
        nic && if said { last.is_some_and(|last| last.shows(way) > 0) } else { drafts.iter().any(at_end) }
    });
    if !arrives {
        let tunnel = used(drafts).any(|draft| draft.role == Some(Role::Tunnel));
        return tunnel || (!said && !plain && drafts.iter().any(|draft| draft.lane.tunnels));
    }
    for draft in used(drafts).filter(|draft| draft.role == Some(Role::Tunnel)) {
        draft.useless =
            Some("packets arrive, and no NIC shows them in a tunnel: they do not go that way".to_owned());
    }
    false
}

/// A capture of all interfaces of a node saw nothing where it shows no interface: places of the path that are in none of its
/// lanes, and where its filter would have let the traffic through.
pub(super) fn silent(drafts: &[Draft], encapsulated: bool) -> Vec<Draft> {
    let mut more: Vec<Draft> = Vec::new();
    for draft in drafts.iter().filter(|draft| draft.useless.is_none() && draft.is_cooked()) {
        let (Some(side), Some(file)) =
            (draft.side.filter(|side| *side != Side::Between), draft.lane.files.first())
        else {
            continue;
        };
        let there = |other: &&Draft| {
            other.useless.is_none() && (other.side == Some(side) || other.lane.files.contains(file))
        };
        let of_file: Vec<&Draft> = drafts.iter().filter(|other| other.lane.files.contains(file)).collect();
        let plain = of_file
            .iter()
            .any(|other| other.content.plain > 0 || other.content.gates > 0 || other.content.vteps > 0);
        let outwards = if encapsulated { Role::Tunnel } else { Role::Nic };
        for role in [Role::Veth, outwards] {
            let known = drafts.iter().filter(there).any(|other| other.role == Some(role));
            let made = more.iter().any(|other| other.side == Some(side) && other.role == Some(role));
            // Pods of one node: packets do not leave it.
            let both = drafts.iter().any(|other| {
                other.lane.files.contains(file) && other.side != Some(side) && other.role == Some(Role::Veth)
            });
            if !plain || known || made || (both && role != Role::Veth) {
                continue;
            }
            let mut lane = draft.lane.clone();
            (lane.index, lane.class, lane.name) = (None, Some(Class::Nothing), None);
            lane.sights.clear();
            let content = Content::default();
            let because = vec!["it saw nothing, although all interfaces of the node were captured"];
            more.push(Draft { lane, role: Some(role), because, content, ..draft.clone() });
        }
    }
    more
}

/// What was captured on one node is on one side; of two nodes one is the other.
fn sides_by_nodes(drafts: &mut [Draft]) {
    let several = files_of_one_node(drafts);
    let mut groups: BTreeMap<String, BTreeSet<Side>> = BTreeMap::new();
    for draft in drafts.iter().filter(|draft| draft.useless.is_none()) {
        if let Some(group) = draft.group(&several) {
            groups.entry(group).or_default().extend(draft.side);
        }
    }
    let sure = |sides: &BTreeSet<Side>| (sides.len() == 1).then(|| sides.first().copied()).flatten();
    let known: BTreeSet<Side> = groups.values().filter_map(sure).collect();
    let unknown: Vec<&String> =
        groups.iter().filter(|(_, sides)| sides.is_empty()).map(|(group, _)| group).collect();
    let other = match (known.len(), known.first(), unknown.as_slice()) {
        (1, Some(Side::From), [one]) => Some(((*one).clone(), Side::To)),
        (1, Some(Side::To), [one]) => Some(((*one).clone(), Side::From)),
        _ => None,
    };
    for draft in used(drafts).filter(|draft| draft.side.is_none()) {
        let Some(group) = draft.group(&several) else { continue };
        if let Some(side) = groups.get(&group).and_then(sure) {
            draft.take_side(side, "other captures of its node are there");
        } else if let Some((_, side)) = other.as_ref().filter(|(one, _)| *one == group) {
            draft.take_side(*side, "it is not of the other node");
        }
    }
}

/// Files whose lanes are of one node: cooked captures, and those with interfaces of different names that do not show both
/// ends' sides.
fn files_of_one_node(drafts: &[Draft]) -> BTreeSet<usize> {
    let mut files: BTreeMap<usize, Vec<&Draft>> = BTreeMap::new();
    for draft in drafts {
        if let Some(file) = draft.lane.files.first() {
            files.entry(*file).or_default().push(draft);
        }
    }
    let one_node = |drafts: &[&Draft]| {
        if drafts.iter().any(|draft| draft.is_cooked()) {
            return true;
        }
        let names: BTreeSet<_> = drafts.iter().map(|draft| draft.lane.name.as_ref()).collect();
        let sides: BTreeSet<_> = drafts.iter().filter_map(|draft| draft.side).collect();
        names.len() == drafts.len() && !names.contains(&None) && sides.len() < 2
    };
    files
        .into_iter()
        .filter(|(_, drafts)| drafts.len() > 1 && one_node(drafts))
        .map(|(file, _)| file)
        .collect()
}

/// The addresses that tunnels between the two nodes bear: who has packets of one of them with a third node is that one.
fn sides_by_addresses(drafts: &mut [Draft], ends: &Ends) {
    let Some((from, to)) = nodes(drafts, ends) else { return };
    for draft in used(drafts).filter(|draft| draft.side.is_none() && draft.role == Some(Role::Nic)) {
        let mut third = [0usize; 2];
        for sight in &draft.lane.sights {
            let (src, dst) = sight.tunnel.unwrap_or((sight.src, sight.dst));
            let has = |address: IpAddr| src == address || dst == address;
            third[0] += usize::from(has(from) && !has(to));
            third[1] += usize::from(has(to) && !has(from));
        }
        match third {
            [some, 0] if some > 0 => {
                draft.take_side(Side::From, "the node's address is in its other packets");
            }
            [0, some] if some > 0 => draft.take_side(Side::To, "the node's address is in its other packets"),
            _ => {}
        }
    }
}

/// The addresses of the two nodes, from the tunnel packets that they sent: what one sends bears its own address.
pub(super) fn nodes(drafts: &[Draft], ends: &Ends) -> Option<(IpAddr, IpAddr)> {
    let sender = |wanted: Direction| sender(drafts, ends, wanted);
    Some((sender(Direction::Forward)?, sender(Direction::Reply)?))
}

/// Who sends the traffic's tunnel packets of one direction.
pub(super) fn sender(drafts: &[Draft], ends: &Ends, wanted: Direction) -> Option<IpAddr> {
    let mut counts: BTreeMap<IpAddr, usize> = BTreeMap::new();
    for sight in drafts.iter().flat_map(|draft| &draft.lane.sights) {
        if let (Some((src, _)), Some(way)) = (sight.tunnel, ends.way(sight.src, sight.dst))
            && way == wanted
        {
            *counts.entry(src).or_default() += 1;
        }
    }
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(address, _)| address)
}

/// Which of two like ones comes first; and the one beside a known one is the other.
fn sides_by_order(drafts: &mut [Draft], ends: &Ends) {
    for role in [Role::Nic, Role::Tunnel, Role::Veth, Role::Pod] {
        let of_role: Vec<usize> = (0..drafts.len())
            .filter(|index| drafts[*index].useless.is_none() && drafts[*index].role == Some(role))
            .collect();
        let [a, b] = of_role[..] else { continue };
        let first = || order::of(&drafts[a].lane, &drafts[b].lane, ends);
        let sides =
            match (drafts[a].side, drafts[b].side) {
                (None, None) => first().map(|first| {
                    if first == First::One { [Side::From, Side::To] } else { [Side::To, Side::From] }
                }),
                (Some(Side::From), None) | (None, Some(Side::To)) if first() != Some(First::Other) => {
                    Some([Side::From, Side::To])
                }
                (Some(Side::To), None) | (None, Some(Side::From)) if first() != Some(First::One) => {
                    Some([Side::To, Side::From])
                }
                _ => None,
            };
        for (index, side) in [a, b].into_iter().zip(sides.into_iter().flatten()) {
            if drafts[index].side.is_none() {
                drafts[index].take_side(side, "packets came by in that order");
            }
        }
    }
    for index in 0..drafts.len() {
        if drafts[index].useless.is_some()
            || drafts[index].side.is_some()
            || drafts[index].role != Some(Role::Tunnel)
        {
            continue;
        }
        // A tunnel device is before its own node's NIC, and behind the other node's.
        let mut nics = drafts.iter().filter(|draft| draft.role == Some(Role::Nic));
        let told = nics.find_map(|nic| match (nic.side?, order::of(&drafts[index].lane, &nic.lane, ends)?) {
            (Side::Between, _) => None,
            (_, First::One) => Some(Side::From),
            (_, First::Other) => Some(Side::To),
        });
        if let Some(side) = told {
            drafts[index].take_side(side, "packets came by in that order");
        }
    }
}

/// One NIC or tunnel device whose node is not known is between the veths all the same.
fn the_last_one(drafts: &mut [Draft]) {
    let open: Vec<usize> = (0..drafts.len())
        .filter(|index| {
            let draft = &drafts[*index];
            draft.useless.is_none() && draft.side.is_none() && draft.has_traffic()
        })
        .collect();
    let [one] = open[..] else { return };
    let role = drafts[one].role;
    let alone = drafts
        .iter()
        .filter(|draft| draft.useless.is_none())
        .filter(|draft| matches!(draft.role, Some(Role::Nic | Role::Tunnel)))
        .count()
        == 1;
    if alone && matches!(role, Some(Role::Nic | Role::Tunnel)) {
        drafts[one].take_side(Side::Between, "it shows the packets; on which of the two nodes is not known");
    }
}

/// A place of the path in words.
pub(super) fn words(side: Option<Side>, role: Option<Role>) -> String {
    let role = match role {
        Some(Role::Pod) => "the pod's own interface",
        Some(Role::Veth) => "the veth",
        Some(Role::Tunnel) => "the tunnel device",
        Some(Role::Nic) => "the NIC",
        None => "an interface",
    };
    match side {
        Some(Side::From) => format!("{role} where the traffic starts"),
        Some(Side::To) => format!("{role} where it goes"),
        Some(Side::Between) | None => format!("{role} between the two"),
    }
}
