//! Which pairs of pods to trace when two names stand for several each: takes the cluster and the names, gives one plan
//! a pair. When there are more pairs than may be traced, those are chosen that spread over pairs of nodes first and
//! over pods then. Asks no node.

use std::collections::BTreeMap;

use super::ends::End;
use super::{Plan, PlanError, PlanOptions};
use crate::evidence::cluster::Cluster;

/// The pairs that are traced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pairs {
    /// One a pair; never empty.
    pub plans: Vec<Plan>,
    /// How many pairs there were, and what was left out, in words.
    pub notes: Vec<String>,
}

impl Pairs {
    /// Plans traces between all running pods of one name and all of another, at most `most`. A pod is not traced to
    /// itself.
    ///
    /// # Errors
    ///
    /// When an endpoint does not exist, or no two of their pods can be traced.
    pub fn make(
        cluster: &Cluster,
        (from, to): (&str, &str),
        options: &PlanOptions,
        most: usize,
    ) -> Result<Self, PlanError> {
        let mut notes = Vec::new();
        let sources = End::find_all(cluster, from, options, &mut notes)?;
        let targets = End::find_all(cluster, to, options, &mut notes)?;
        let mut refused = Refused::default();
        let mut spread = Spread::new(most.max(1));
        // Along the diagonals: any few that follow each other are of different pods.
        for place in 0..targets.len() {
            for (number, source) in sources.iter().enumerate() {
                let target = &targets[(number + place) % targets.len()];
                if source.name == target.name {
                    continue;
                }
                match End::addresses(source, target, options.family) {
                    Ok(_) => spread.offer(source, target),
                    Err(error) => refused.count(source, target, error),
                }
            }
        }
        notes.extend(refused.words());
        let all = spread.offered;
        if all == 0 {
            let alone = || PlanError::Alone { from: from.to_owned(), to: to.to_owned() };
            return Err(refused.first.map_or_else(alone, |(.., error)| error));
        }
        // A plan knows all nodes: only those are made that are traced.
        let plan = |(source, target): (&End, &End)| {
            Plan::between(cluster, source.clone(), target.clone(), options, Vec::new())
        };
        let mut plans = spread.chosen().map(plan).collect::<Result<Vec<Plan>, PlanError>>()?;
        plans.sort_by(|a, b| (&a.from.name, &a.to.name).cmp(&(&b.from.name, &b.to.name)));
        notes.push(words(from, sources.len(), to, targets.len()));
        if plans.len() < all {
            notes.push(format!(
                "{} of {all} pairs are traced, spread over all pairs of nodes; --max-pairs allows more",
                plans.len()
            ));
        }
        Ok(Self { plans, notes })
    }
}

fn words(from: &str, sources: usize, to: &str, targets: usize) -> String {
    let of = |name: &str, number: usize| match number {
        1 => name.to_owned(),
        number => format!("{number} of {name}"),
    };
    format!("pods traced: {} to {}", of(from, sources), of(to, targets))
}

/// Those pairs that cannot be traced.
#[derive(Debug, Default)]
struct Refused<'e> {
    number: usize,
    first: Option<(&'e End, &'e End, PlanError)>,
}

impl<'e> Refused<'e> {
    fn count(&mut self, source: &'e End, target: &'e End, error: PlanError) {
        self.number += 1;
        self.first.get_or_insert((source, target, error));
    }

    fn words(&self) -> Option<String> {
        let (source, target, error) = self.first.as_ref()?;
        let one = format!("{} to {}", source.name, target.name);
        Some(match self.number {
            1 => format!("{one} is not traced: {error}"),
            number => format!("{number} pairs are not traced, such as {one}: {error}"),
        })
    }
}

/// Chooses pairs: in turns one of each pair of nodes, within a turn as they were offered. Holds no more than it chooses.
#[derive(Debug)]
struct Spread<'e> {
    most: usize,
    offered: usize,
    turns: BTreeMap<(Option<&'e str>, Option<&'e str>), usize>,
    /// By turn, and by number within it.
    chosen: BTreeMap<(usize, usize), (&'e End, &'e End)>,
}

impl<'e> Spread<'e> {
    fn new(most: usize) -> Self {
        Self { most, offered: 0, turns: BTreeMap::new(), chosen: BTreeMap::new() }
    }

    fn offer(&mut self, source: &'e End, target: &'e End) {
        let turn = self.turns.entry((source.node.as_deref(), target.node.as_deref())).or_default();
        *turn += 1;
        self.offered += 1;
        self.chosen.insert((*turn, self.offered), (source, target));
        if self.chosen.len() > self.most {
            self.chosen.pop_last();
        }
    }

    fn chosen(&self) -> impl Iterator<Item = (&'e End, &'e End)> {
        self.chosen.values().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three nodes with as many pods of one `StatefulSet` each, and one pod that does not run.
    fn cluster(pods: usize) -> Cluster {
        let pod = |name: &str, node: usize, status: &str| {
            format!(
                "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop, ownerReferences: [{{controller: true, \
                 kind: StatefulSet, name: web}}]}}\nspec: {{nodeName: n{node}}}\nstatus: {{{status}}}\n"
            )
        };
        let mut objects = vec![pod("web-0", 1, "phase: Pending")];
        for node in 1..=3 {
            objects.push(format!(
                "---\napiVersion: v1\nkind: Node\nmetadata: {{name: n{node}}}\nstatus: {{addresses: [{{type: InternalIP, \
                 address: 192.168.0.{node}}}]}}\n"
            ));
            for number in 0..pods {
                let status = format!("phase: Running, podIPs: [{{ip: 10.0.{node}.{number}}}]");
                objects.push(pod(&format!("web-{node}-{number}"), node, &status));
            }
        }
        Cluster::parse(&objects.concat()).unwrap().0
    }

    fn options() -> PlanOptions {
        PlanOptions { namespace: "shop".to_owned(), in_pod: true, ..PlanOptions::default() }
    }

    #[test]
    fn all_running_pods_but_none_to_itself() {
        let pairs = Pairs::make(&cluster(2), ("sts/web", "sts/web"), &options(), 64).unwrap();
        assert_eq!(pairs.plans.len(), 30, "six pods to five others each");
        assert!(pairs.plans.iter().all(|plan| plan.from.name != plan.to.name));
        assert!(pairs.plans.iter().all(|plan| plan.from.name != "shop/web-0"), "one that does not run");
        assert_eq!(pairs.notes, ["pods traced: 6 of sts/web to 6 of sts/web"]);
        let one = Pairs::make(&cluster(2), ("web-1-0", "sts/web"), &options(), 64).unwrap();
        assert_eq!(one.plans.len(), 5);
    }

    #[test]
    fn a_few_are_spread_over_nodes_and_pods() {
        let pairs = Pairs::make(&cluster(4), ("sts/web", "sts/web"), &options(), 9).unwrap();
        assert_eq!(pairs.plans.len(), 9);
        let mut nodes: Vec<_> =
            pairs.plans.iter().map(|p| (p.from.node.clone(), p.to.node.clone())).collect();
        nodes.sort();
        nodes.dedup();
        assert_eq!(nodes.len(), 9, "each pair of nodes once");
        assert!(pairs.notes[1].starts_with("9 of 132 pairs"), "{:?}", pairs.notes);
    }

    #[test]
    fn those_that_cannot_be_traced_are_counted() {
        let mut cluster = cluster(2);
        for (number, pod) in cluster.pods.iter_mut().filter(|pod| pod.name.starts_with("web-3")).enumerate() {
            pod.addresses = vec![format!("fd00::3:{number}").parse().unwrap()];
        }
        let pairs = Pairs::make(&cluster, ("sts/web", "sts/web"), &options(), 64).unwrap();
        assert_eq!(pairs.plans.len(), 14, "four of IPv4 and two of IPv6, each among themselves");
        assert_eq!(pairs.notes.len(), 2, "{:?}", pairs.notes);
        assert!(
            pairs.notes[0].starts_with("16 pairs are not traced, such as shop/web-"),
            "{:?}",
            pairs.notes
        );
        assert!(pairs.notes[0].ends_with("have no IP address in common"), "{:?}", pairs.notes);
        let one = Pairs::make(&cluster, ("web-1-0", "web-3-0"), &options(), 64).unwrap_err();
        assert!(matches!(one, PlanError::NoFamily { .. }), "{one}");
    }

    /// So many plans would need gigabytes.
    #[test]
    fn a_few_of_very_many() {
        let pairs = Pairs::make(&cluster(250), ("sts/web", "sts/web"), &options(), 9).unwrap();
        assert_eq!(pairs.plans.len(), 9);
        assert!(pairs.notes[1].starts_with("9 of 561750 pairs"), "{:?}", pairs.notes);
    }

    #[test]
    fn a_pod_alone_has_no_pair() {
        let error = Pairs::make(&cluster(1), ("web-1-0", "web-1-0"), &options(), 9).unwrap_err();
        assert!(matches!(error, PlanError::Alone { .. }), "{error}");
        let error = Pairs::make(&cluster(1), ("sts/web", "sts/wep"), &options(), 9).unwrap_err();
        assert!(error.to_string().contains("did you mean web"), "{error}");
    }
}
