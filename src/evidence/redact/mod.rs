//! A case that can be given away. In: the facts of a case, its texts, the cluster's objects and frames. Out: the same without
//! payloads, under other names and addresses, the same everywhere, so that the verdict is the same; lengths, sequence numbers,
//! ports, counters and times stay. Everything is turned by a key of 32 random bytes, which is nowhere kept: who has the redacted
//! case alone cannot turn it back.
//!
//! Nothing comes through for want of understanding: words of texts are held against a list of those that programs use, bytes of
//! frames against headers that are read; of objects, state and facts only fields that are known are written. What was left out or
//! widened for that is said by [`Redactor::notes`]. Reads and writes no file, and draws no key.

mod addresses;
mod chains;
mod checksum;
mod facts;
mod frame;
mod key;
mod names;
mod nft;
mod objects;
mod rules;
mod state;
mod texts;
mod vocabulary;
mod words;

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::evidence::calico::{PolicyName, vtep_mac};
use crate::evidence::case::Case;
use crate::evidence::cluster::Cluster;
use crate::evidence::host::Host;
use crate::evidence::netfilter::Ruleset;
use crate::evidence::texts::Texts;
use crate::packet::Frame;

use addresses::Addresses;
use frame::Frames;
use key::Key;
use names::{Class, Names};

/// Turns one case.
#[derive(Debug)]
pub struct Redactor {
    key: Key,
    names: Names,
    addresses: Addresses,
    frames: Frames,
    /// The cluster's policies.
    policies: Vec<PolicyName>,
    /// New names of policies' chains whose names were hashes.
    chains: HashMap<String, String>,
    /// Chains that the text at hand declares.
    declared: HashSet<String>,
    /// Sets whose members are sets.
    lists: HashSet<String>,
    notes: BTreeMap<&'static str, u64>,
    bytes: Vec<u8>,
}

impl Redactor {
    /// Learns the names and subnets of a case. `key` is to be random, and to be forgotten.
    #[must_use]
    pub fn new(key: &[u8; 32], cases: &[&Case], texts: &Texts, cluster: Option<&Cluster>) -> Self {
        let key = Key::new(key);
        let mut redactor = Self {
            names: Names::new(key.clone()),
            addresses: Addresses::new(key.clone()),
            frames: Frames::new(key.clone()),
            policies: Vec::new(),
            chains: HashMap::new(),
            declared: HashSet::new(),
            lists: HashSet::new(),
            notes: BTreeMap::new(),
            bytes: Vec::new(),
            key,
        };
        // What new names must not be, and how they must begin, before any is given.
        let read = || texts.0.iter().filter_map(|text| Some((text, text.content.read()?)));
        for (_, text) in read().filter(|(text, _)| texts::is_rules(&text.name)) {
            redactor.names.learn_beginnings(text);
        }
        redactor.learn_own(cases, cluster);
        redactor.learn_subnets(
            read().filter(|(text, _)| text.name.ends_with("state")).map(|(_, text)| text),
            cluster,
        );
        redactor.learn_names(cases, cluster);
        for (text, content) in read().filter(|(text, _)| texts::is_rules(&text.name)) {
            let nft = text.name.ends_with("nft");
            redactor.learn_chains(&if nft { Ruleset::parse_nft(content) } else { Ruleset::parse(content) });
        }
        redactor
    }

    /// A frame anew, until the next one.
    pub fn frame(&mut self, frame: &Frame<'_>) -> Frame<'_> {
        self.frames.redact(frame, &mut self.addresses, &mut self.bytes);
        Frame { bytes: &self.bytes, ..*frame }
    }

    /// What was left out or changed in its meaning, in words.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let counted = self.notes.iter().map(|(what, count)| (*what, *count));
        let unread = (self.frames.unread > 0).then_some((FRAMES, self.frames.unread));
        counted.chain(unread).map(|(what, count)| format!("redacted: {count} {what}")).collect()
    }

    fn note(&mut self, what: &'static str) {
        *self.notes.entry(what).or_default() += 1;
    }

    fn learn_own(&mut self, cases: &[&Case], cluster: Option<&Cluster>) {
        for case in cases {
            for name in
                case.nodes.iter().map(|node| &node.name).chain(case.points.iter().map(|point| &point.node))
            {
                self.names.own(name);
            }
            for name in [&case.from.name, &case.to.name] {
                name.split('/').for_each(|part| self.names.own(part));
            }
        }
        let Some(cluster) = cluster else { return };
        cluster.nodes.iter().for_each(|node| self.names.own(&node.name));
        for (namespace, name) in cluster.pods.iter().map(|pod| (&pod.namespace, &pod.name)) {
            self.names.own(namespace);
            self.names.own(name);
        }
        for (namespace, name) in cluster.services.iter().map(|service| (&service.namespace, &service.name)) {
            self.names.own(namespace);
            self.names.own(name);
        }
        for policy in &cluster.policies {
            policy.namespace.iter().for_each(|namespace| self.names.own(namespace));
            self.names.own(&policy.name);
        }
        cluster.pools.iter().for_each(|pool| self.names.own(&pool.name));
    }

    /// Of which the first and the last address must stay that.
    fn learn_subnets<'t>(&mut self, states: impl Iterator<Item = &'t String>, cluster: Option<&Cluster>) {
        for host in states.filter_map(|text| Host::parse(text).ok()) {
            for at in host.addresses {
                self.addresses.keep_ends(at.address.trunc());
            }
        }
        let Some(cluster) = cluster else { return };
        for net in cluster.nodes.iter().flat_map(|node| [node.ipv4, node.ipv6]).flatten() {
            self.addresses.keep_ends(net.trunc());
        }
        for net in cluster.ipam.blocks.iter().map(|block| block.cidr) {
            self.addresses.keep_ends(net.trunc());
        }
    }

    fn learn_names(&mut self, cases: &[&Case], cluster: Option<&Cluster>) {
        let nodes = cases.iter().flat_map(|case| case.nodes.iter().map(|node| node.name.clone()));
        let more = cluster.into_iter().flat_map(|cluster| cluster.nodes.iter().map(|node| node.name.clone()));
        for old in nodes.chain(more) {
            let new = self.names.node(&old);
            for v6 in [false, true] {
                self.addresses.derive(vtep_mac(&old, v6), vtep_mac(&new, v6));
            }
        }
        // The ends first: they are pod-1 and pod-2.
        for name in cases.iter().flat_map(|case| [&case.from.name, &case.to.name]) {
            if let Some((namespace, pod)) = name.split_once('/').filter(|(kind, _)| *kind != "node") {
                self.names.pod(namespace, pod);
            }
        }
        let Some(cluster) = cluster else { return };
        for pod in &cluster.pods {
            self.names.pod(&pod.namespace, &pod.name);
        }
        for service in &cluster.services {
            self.names.namespace(&service.namespace);
            self.names.within(Class::Service, &service.namespace, &service.name);
        }
        for policy in &cluster.policies {
            self.names.policy(policy.namespace.as_deref(), &policy.name);
        }
        self.policies = cluster.policies.iter().filter_map(PolicyName::of).collect();
    }
}

/// Notes, behind their number.
const FRAMES: &str = "frames hold something that is not understood: it was blanked";
const LINES: &str = "lines of texts are not understood: they were left out";

#[cfg(test)]
mod tests;
