//! The way of a packet through a host's rules, as the kernel would walk them: hooks in order, the chains of each by
//! priority, jumps, gotos and returns, marks, sets, translated addresses, connection states.
//!
//! In: the rulesets of one host, its sets and state as far as they were read, and what is known of the packet. Out: the
//! rules that it fits on its ways, and what may become of it. A match that cannot be evaluated splits the way. All ways are
//! walked side by side: what differs between them are marks and addresses ([`State`]), and ways that no longer
//! differ are one again. The work is bounded; where it would not be, nothing is called certain.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use super::change::changed;
use super::hook::{Course, Hook, HookPoint};
use super::packet::{CtState, Meets};
use super::sets::{Found, VerdictMap};
use super::told::Told;
use super::view::{Fits, Sorted, View};
use super::ways::{Leads, State, States, together};
use super::world::{Ending, Place, Walked, World};
use super::{Policy, Table, Target};
use crate::evidence::host::Question;

/// Walks a packet through `world`.
pub fn walk(world: &World<'_>, course: Course, meets: &Meets) -> Walked {
    let mut walk = Walk::of(world, course, meets);
    let mut states = States::from([State::of(meets)]);
    for point in course.points() {
        states = walk.hook(*point, states);
        // What the host sends is routed again once it was translated (`nf_nat_ipv4_local_fn`).
        if matches!(point, HookPoint::Prerouting | HookPoint::Output) {
            states = walk.routed(states);
        }
    }
    if let Some(state) = states.iter().cloned().reduce(|one, other| one.common(&other)) {
        walk.told.walked.out = Meets {
            src: state.src,
            dst: state.dst,
            src_port: state.src_port,
            dst_port: state.dst_port,
            mark: (state.mark.known == u32::MAX).then_some(state.mark.value),
            ..meets.clone()
        };
        walk.told.end(Ending::Passes, None);
    }
    if walk.steps > MOST_STEPS {
        walk.told.doubt(TANGLED.to_owned());
    }
    walk.told.walked
}

/// A chain by the numbers of its ruleset, table and itself.
type ChainId = (usize, usize, usize);

/// What came out at the end of a chain.
#[derive(Debug, Clone)]
struct Passed {
    out: States,
    /// Nothing that came in ended on the way.
    whole: bool,
}

/// More ways than this at one rule are thrown together; what they differ in is unknown then.
const MOST_WAYS: usize = 48;
/// Rules looked at, over all ways, before the walk gives up.
const MOST_STEPS: usize = 4_000_000;
/// What is said then.
const TANGLED: &str = "the rules are too many and too tangled to follow all ways";
/// Jumps deeper than any ruleset that the kernel takes.
const DEEPEST: usize = 128;

struct Walk<'w> {
    world: &'w World<'w>,
    course: Course,
    meets: &'w Meets,
    chains: HashMap<(usize, usize, &'w str), usize>,
    told: Told,
    /// Ways that a rule of the base chain at hand accepted.
    accepted: States,
    /// Chains walked under the base chain at hand.
    memo: HashMap<(ChainId, bool), Vec<(States, Passed)>>,
    steps: usize,
}

impl<'w> Walk<'w> {
    fn of(world: &'w World<'w>, course: Course, meets: &'w Meets) -> Self {
        let mut walk = Self {
            world,
            course,
            meets,
            chains: HashMap::new(),
            told: Told::of(world.doubts()),
            accepted: States::new(),
            memo: HashMap::new(),
            steps: 0,
        };
        walk.index();
        walk
    }

    fn index(&mut self) {
        for (ruleset, (_, rules)) in self.world.rulesets.iter().enumerate() {
            for (number, table) in rules.tables.iter().enumerate() {
                for (at, chain) in table.chains.iter().enumerate() {
                    self.chains.entry((ruleset, number, &chain.name)).or_insert(at);
                }
            }
        }
    }

    /// All base chains of one place.
    fn hook(&mut self, point: HookPoint, mut states: States) -> States {
        let mut bases = Vec::new();
        for (ruleset, (_, rules)) in self.world.rulesets.iter().enumerate() {
            for (number, table) in rules.tables.iter().enumerate().filter(|(_, table)| self.sees(table)) {
                for (at, chain) in table.chains.iter().enumerate() {
                    if let Some(hook) = chain.hook.as_ref().filter(|hook| hook.point == point) {
                        bases.push((hook, (ruleset, number, at)));
                    }
                }
            }
        }
        // A stable sort: chains of equal priority stay in the order of the texts.
        bases.sort_by_key(|(hook, _)| hook.order());
        for (hook, id) in bases {
            if states.is_empty() {
                break;
            }
            if states.len() > MOST_WAYS {
                states = together(states);
            }
            let device = match point {
                HookPoint::Ingress => &self.meets.in_interface,
                HookPoint::Egress => &self.meets.out_interface,
                _ => {
                    states = self.base(hook, id, states, true);
                    continue;
                }
            };
            match device {
                Some(device) if hook.devices.contains(device) => states = self.base(hook, id, states, true),
                Some(_) if !hook.devices.is_empty() => {}
                // Some versions of nft do not print the device.
                _ => {
                    let through = self.base(hook, id, states.clone(), false);
                    states.extend(through);
                }
            }
        }
        states
    }

    /// Whether a table's chains are for packets of this family.
    fn sees(&self, table: &Table) -> bool {
        let v6 = self.meets.src.or(self.meets.dst).map(|address| address.is_ipv6());
        match table.family.as_deref() {
            None | Some("inet" | "netdev") => true,
            Some("ip") => v6 != Some(true),
            Some("ip6") => v6 != Some(false),
            Some(_) => false,
        }
    }

    /// One base chain; `surely`, when it is known that the packet comes there.
    fn base(&mut self, hook: &'w Hook, id: ChainId, states: States, surely: bool) -> States {
        let (asked, mut past) =
            if hook.nat { self.first_of_connection(hook, states) } else { (states, States::new()) };
        if hook.nat && self.meets.state == Some(CtState::Established) {
            past = self.as_its_first(hook, id, past);
        }
        if asked.is_empty() {
            return past;
        }
        self.forget();
        let certain = surely && self.told.walked.ends.is_empty() && past.is_empty();
        let Passed { out, whole } = self.chain(hook, id, &asked, certain, 0);
        past.append(&mut self.accepted);
        if out.is_empty() {
            return past;
        }
        let chain = &self.world.rulesets[id.0].1.tables[id.1].chains[id.2];
        if let Some(policy) = chain.policy {
            let place = Place { ruleset: id.0, table: id.1, chain: id.2, rule: None };
            self.told.meet(place.clone(), hook.point, Fits::Yes, certain && whole);
            if policy == Policy::Drop {
                self.told.end(Ending::Dropped, Some(place));
                return past;
            }
        }
        past.extend(out);
        past
    }

    /// Begins a base chain. A map that is emptied takes as long as it once was large.
    fn forget(&mut self) {
        self.memo = HashMap::new();
        self.accepted.clear();
    }

    /// Of the ways those on which a chain of type nat is asked, and those on which it may be passed over: it is for the first
    /// packet of a connection, and until an address was translated (`nf_nat_inet_fn`).
    fn first_of_connection(&self, hook: &Hook, states: States) -> (States, States) {
        let source = matches!(hook.point, HookPoint::Postrouting | HookPoint::Input);
        let (mut asked, mut past) = (States::new(), States::new());
        for state in states {
            let done = state.untracked || if source { state.snat } else { state.dnat };
            let (begins, goes_on) = match self.meets.state {
                _ if done => (false, true),
                Some(CtState::New) => (true, false),
                Some(CtState::Established | CtState::Invalid) => (false, true),
                Some(CtState::Related) | None => (true, true),
            };
            if begins {
                asked.insert(state.clone());
            }
            if goes_on {
                past.insert(state);
            }
        }
        (asked, past)
    }

    /// A packet of a connection is translated as its first one was, without meeting the rules: taken to be these, as far as
    /// destinations go. Sources hang on marks that only the first packet bore, and replies are translated back.
    fn as_its_first(&mut self, hook: &'w Hook, id: ChainId, states: States) -> States {
        if self.meets.reply == Some(true) || !matches!(hook.point, HookPoint::Prerouting | HookPoint::Output)
        {
            return states;
        }
        // What its first packet met is not told of this one.
        let told = std::mem::take(&mut self.told);
        let mut all = States::new();
        for state in states {
            self.forget();
            let mut first = self.chain(hook, id, &States::from([state.clone()]), false, 0).out;
            first.append(&mut self.accepted);
            if self.meets.reply.is_none() || first.is_empty() {
                all.insert(state.clone());
            }
            all.extend(first.into_iter().map(|first| State {
                dst: first.dst,
                dst_port: first.dst_port,
                leads: first.leads,
                dnat: first.dnat,
                ..state.clone()
            }));
        }
        self.told = told;
        all
    }

    /// After the routing decision: a destination that was translated may lead another way.
    fn routed(&mut self, states: States) -> States {
        let mut stay = States::new();
        for state in states {
            let elsewhere = match state.leads {
                Leads::ToHost if self.course == Course::Received => None,
                Leads::ToHost => Some("redirected to the host itself".to_owned()),
                Leads::Anywhere => Some("translated to an address that is not known here".to_owned()),
                Leads::ToDestination => self
                    .strays(&state)
                    .map(|dst| format!("translated to {dst}, which the host routes another way")),
            };
            if elsewhere.is_none() || state.leads == Leads::Anywhere {
                stay.insert(state);
            }
            if let Some(words) = elsewhere {
                self.told.end(Ending::Elsewhere(words), None);
            }
        }
        stay
    }

    /// The destination that a packet was translated to, when the host routes it another way.
    fn strays(&mut self, state: &State) -> Option<IpAddr> {
        let dst = state.dst.filter(|dst| self.meets.dst.is_some_and(|meant| meant != *dst))?;
        let iif = self.meets.in_interface.as_deref();
        let Some(host) = self.world.host else {
            self.told.doubt(format!("translated to {dst}, and where the host routes that was not read"));
            return None;
        };
        let route = host.lookup(&Question { dst, src: state.src, iif }).route;
        let received = route.is_some_and(|route| route.kind == "local");
        (received != (self.course == Course::Received)).then_some(dst)
    }

    /// Walks one chain with all ways at once.
    fn chain(&mut self, hook: &'w Hook, id: ChainId, states: &States, certain: bool, depth: usize) -> Passed {
        let uncertain = Passed { out: states.clone(), whole: false };
        if self.steps > MOST_STEPS {
            self.told.doubt(TANGLED.to_owned());
            return uncertain;
        }
        if depth > DEEPEST {
            self.told.doubt("jumps lead deeper than the kernel allows".to_owned());
            return uncertain;
        }
        let known = self.memo.entry((id, certain)).or_default();
        if let Some((_, passed)) = known.iter().find(|(before, _)| before == states) {
            return passed.clone();
        }
        // Stands for the result while the chain is being walked: the kernel refuses loops, a text may hold one.
        known.push((states.clone(), uncertain));
        let at = known.len() - 1;
        let passed = self.rules(hook, id, states.clone(), certain, depth);
        if let Some(entry) = self.memo.get_mut(&(id, certain)).and_then(|known| known.get_mut(at)) {
            entry.1 = passed.clone();
        }
        passed
    }

    fn rules(&mut self, hook: &'w Hook, id: ChainId, alive: States, certain: bool, depth: usize) -> Passed {
        let world = self.world;
        let table = &world.rulesets[id.0].1.tables[id.1];
        let chain = &table.chains[id.2];
        let view = View {
            meets: self.meets,
            course: self.course,
            hook,
            sets: [Some(&table.sets).filter(|sets| !sets.is_empty()), world.sets],
            host: world.host,
        };
        let mut way = Way { alive, certain, whole: true, out: States::new() };
        for (index, rule) in chain.rules.iter().enumerate() {
            if way.alive.is_empty() {
                break;
            }
            self.steps += way.alive.len();
            let Sorted { mut taken, rest, fits } = view.sort(rule, std::mem::take(&mut way.alive));
            way.alive = rest;
            if taken.is_empty() {
                continue;
            }
            let place = Place { ruleset: id.0, table: id.1, chain: id.2, rule: Some(index) };
            self.told.meet(place.clone(), hook.point, fits, way.certain);
            for action in &rule.before {
                taken = taken.into_iter().map(|state| changed(state, action)).collect();
            }
            self.follow(&At { view: &view, table, place, depth }, &rule.target, taken, &mut way);
            if way.alive.len() > MOST_WAYS {
                way.alive = together(way.alive);
            }
        }
        way.out.append(&mut way.alive);
        if way.out.len() > MOST_WAYS {
            way.out = together(way.out);
        }
        Passed { out: way.out, whole: way.whole }
    }

    /// What a target makes of the ways that were taken.
    fn follow(&mut self, at: &At<'_, 'w>, target: &'w Target, taken: States, way: &mut Way) {
        let place = || Some(at.place.clone());
        match target {
            Target::None | Target::Log(_) | Target::Mark(_) | Target::NoTrack => {
                way.alive.extend(taken.into_iter().map(|state| changed(state, target)));
            }
            Target::Return => {
                way.certain &= way.alive.is_empty();
                way.out.extend(taken);
            }
            Target::Jump(name) | Target::Goto(name) => {
                let (ruleset, table) = (at.place.ruleset, at.place.table);
                let Some(&chain) = self.chains.get(&(ruleset, table, name.as_str())) else {
                    self.told.doubt(format!("there is no chain {name} in table {}", at.table.name));
                    way.may_do_anything(taken);
                    return;
                };
                let surely = way.certain && way.alive.is_empty();
                let passed = self.chain(at.view.hook, (ruleset, table, chain), &taken, surely, at.depth + 1);
                way.whole &= passed.whole;
                if matches!(target, Target::Jump(_)) {
                    way.certain &= passed.whole;
                    way.alive.extend(passed.out);
                } else {
                    way.certain &= way.alive.is_empty();
                    way.out.extend(passed.out);
                }
            }
            Target::Map { name, fields } => self.look_up(at, (name, fields), taken, way),
            Target::Accept => {
                self.accepted.extend(taken);
                way.ends();
            }
            Target::Drop => {
                self.told.end(Ending::Dropped, place());
                way.ends();
            }
            Target::Reject(how) => {
                self.told.end(Ending::Rejected(how.clone()), place());
                way.ends();
            }
            Target::Dnat(_) | Target::Snat(_) | Target::Masquerade(_) => {
                self.accepted.extend(taken.into_iter().map(|state| changed(state, target)));
                way.ends();
            }
            Target::Other(text) => self.other(text, place(), taken, way),
        }
    }

    /// A verdict map: each way by the entry that it has.
    fn look_up(&mut self, at: &At<'_, 'w>, (name, fields): (&str, &[String]), taken: States, way: &mut Way) {
        let Some(map) = at.table.maps.get(name) else {
            self.told.doubt(format!("there is no map {name} in table {}", at.table.name));
            way.may_do_anything(taken);
            return;
        };
        let mut by_entry: BTreeMap<usize, States> = BTreeMap::new();
        for state in taken {
            let (entries, perhaps_none) = entries(map, fields, at.view, &state);
            way.certain &= entries.is_empty() || !perhaps_none;
            for entry in entries {
                by_entry.entry(entry).or_default().insert(state.clone());
            }
            if perhaps_none {
                way.alive.insert(state);
            }
        }
        way.certain &= by_entry.len() <= 1;
        for (entry, states) in by_entry {
            if let Some(verdict) = map.verdicts.get(entry) {
                self.follow(at, verdict, states, way);
            }
        }
    }

    /// Targets of extensions: most let the packet go on, some take it.
    fn other(&mut self, text: &str, place: Option<Place>, taken: States, way: &mut Way) {
        let name = text.split(' ').next().unwrap_or_default();
        let target = || Target::Other(text.to_owned());
        if TAKING.contains(&name) {
            self.told.end(Ending::Elsewhere(text.to_owned()), place);
            way.ends();
        } else if TRANSLATING.contains(&name) {
            self.accepted.extend(taken.into_iter().map(|state| changed(state, &target())));
            way.ends();
        } else if HARMLESS.contains(&name) {
            way.alive.extend(taken);
        } else if name == "CONNMARK" || name == "HMARK" {
            way.alive.extend(taken.into_iter().map(|state| changed(state, &target())));
        } else {
            // Dropping included.
            self.told.end(Ending::Elsewhere(text.to_owned()), place);
            way.may_do_anything(taken);
        }
    }
}

/// The entries of a verdict map that a way may have, and whether it may have none.
fn entries(map: &VerdictMap, fields: &[String], view: &View<'_>, state: &State) -> (Vec<usize>, bool) {
    if !map.conditions.is_empty() {
        let mut entries = Vec::new();
        for (entry, condition) in map.conditions.iter().enumerate() {
            let holds = view.holds(state, condition);
            if holds != Some(false) {
                entries.push(entry);
            }
            if holds == Some(true) {
                return (entries, false);
            }
        }
        return (entries, true);
    }
    let found: Vec<_> = fields.iter().map(|field| view.field(state, field)).collect();
    match map.keys.find(&found) {
        Found::In(entry) => (vec![entry as usize], false),
        Found::Out => (Vec::new(), true),
        Found::Unknown => {
            // A number drawn among as many as there are entries always has one.
            let drawn = fields.first().and_then(|field| field.strip_prefix("numgen ")?.rsplit(' ').next());
            let none = drawn.is_none_or(|number| number.parse() != Ok(map.verdicts.len()));
            ((0..map.verdicts.len()).collect(), none)
        }
    }
}

/// The rule at hand.
struct At<'v, 'w> {
    view: &'v View<'w>,
    table: &'w Table,
    place: Place,
    /// How many jumps led there.
    depth: usize,
}

/// The ways through one chain.
struct Way {
    /// Those that come to the next rule.
    alive: States,
    /// All that came in comes to the next rule.
    certain: bool,
    /// Nothing ended in this chain.
    whole: bool,
    /// What went back to the calling chain.
    out: States,
}

impl Way {
    /// Some of the ways ended; what is left comes to the next rule only by chance.
    fn ends(&mut self) {
        self.whole = false;
        self.certain &= self.alive.is_empty();
    }

    /// What became of some of the ways is not known: they may come to the next rule.
    fn may_do_anything(&mut self, taken: States) {
        (self.certain, self.whole) = (false, false);
        self.alive.extend(taken);
    }
}

/// Targets that take the packet out of these rules' hands.
const TAKING: &[&str] =
    &["QUEUE", "NFQUEUE", "TPROXY", "SYNPROXY", "STEAL", "TARPIT", "DELUDE", "CHAOS", "fwd", "queue"];
/// Targets that translate to an address that is not worked out here.
const TRANSLATING: &[&str] = &["REDIRECT", "NETMAP"];
/// Targets that change nothing that rules ask for, and let the packet go on.
const HARMLESS: &[&str] = &[
    "AUDIT",
    "CHECKSUM",
    "CLASSIFY",
    "CONNSECMARK",
    "CT",
    "DSCP",
    "ECN",
    "HL",
    "IDLETIMER",
    "LED",
    "NFLOG",
    "RATEEST",
    "SECMARK",
    "SET",
    "TCPMSS",
    "TCPOPTSTRIP",
    "TEE",
    "TOS",
    "TRACE",
    "TTL",
    "ULOG",
    "dup",
    "flow",
    "set",
];

#[cfg(test)]
mod tests;
