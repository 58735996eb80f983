//! What the kernel itself answered when asked for the route of a packet (`RTM_GETROUTE`, as `ip route get fibmatch`), held
//! against the lookup in the dump. Takes what was recorded; gives whether both say the same, and which route counts. An
//! answer is about one moment and carries no mark, as the lookup.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Host, HostRoute, Lookup, Question};

/// A question and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Where to.
    pub dst: IpAddr,
    /// Where from.
    pub src: Option<IpAddr>,
    /// Where it came in; none for packets of the host itself.
    pub iif: Option<String>,
    /// What the kernel said.
    pub said: Said,
}

/// What the kernel said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// The route that matches.
    Route(HostRoute),
    /// The number of an error: of a route that throws away, of no route, or of a packet that is not taken at all.
    Error(i32),
}

impl Host {
    /// The route of a packet: the lookup's, and where the kernel was asked the same and says otherwise, the kernel's.
    pub fn routed(&self, packet: &Question<'_>) -> Lookup<'_> {
        let found = self.lookup(packet);
        let asked = self.answers.iter().find(|answer| answer.question() == *packet);
        match asked.map(|answer| &answer.said) {
            Some(said) if found.certain && !agree(found.route, said, packet) => match said {
                Said::Route(route) => Lookup { route: Some(route), certain: true },
                Said::Error(number) => Lookup { route: None, certain: *number == ENETUNREACH },
            },
            _ => found,
        }
    }

    /// Where the kernel says otherwise than the lookup, one line each.
    pub fn disagreements(&self) -> Vec<String> {
        if self.routes.is_empty() || !self.has_read("routes") {
            return Vec::new();
        }
        let differ = self.answers.iter().filter_map(|answer| {
            let packet = answer.question();
            let found = self.lookup(&packet);
            (found.certain && !agree(found.route, &answer.said, &packet)).then(|| {
                let read =
                    found.route.map_or_else(|| "no route".to_owned(), |route| format!("`{}`", route.words()));
                format!(
                    "{}: the routes as read say {read}, the kernel says {}",
                    answer.words(),
                    answer.said.words()
                )
            })
        });
        differ.collect()
    }
}

impl Answer {
    /// The question.
    pub fn question(&self) -> Question<'_> {
        Question { dst: self.dst, src: self.src, iif: self.iif.as_deref() }
    }

    /// The question as one asks `ip`.
    fn words(&self) -> String {
        let from = self.src.map(|src| format!(" from {src}")).unwrap_or_default();
        let iif = self.iif.as_ref().map(|iif| format!(" iif {iif}")).unwrap_or_default();
        format!("`ip route get {}{from}{iif}`", self.dst)
    }
}

impl Said {
    fn words(&self) -> String {
        match self {
            Self::Route(route) => format!("`{}`", route.words()),
            Self::Error(ENETUNREACH) => "that the network is unreachable".to_owned(),
            Self::Error(number) => format!("no (error {number})"),
        }
    }
}

/// Whether the lookup and the kernel say the same. A packet that comes in may be refused for its source, or for where it
/// came in, before any table is asked: that is no word on the route.
fn agree(found: Option<&HostRoute>, said: &Said, packet: &Question<'_>) -> bool {
    match (found, said) {
        (Some(found), Said::Route(route)) => {
            (found.dst, &found.kind, &found.dev, found.via) == (route.dst, &route.kind, &route.dev, route.via)
        }
        (None, Said::Route(_)) => false,
        (None, Said::Error(number)) => matches!(*number, ENETUNREACH | EHOSTUNREACH),
        (Some(found), Said::Error(number)) => match found.kind.as_str() {
            "blackhole" => *number == EINVAL,
            "unreachable" => *number == EHOSTUNREACH,
            "prohibit" => *number == EACCES,
            _ => packet.iif.is_some() && matches!(*number, EXDEV | EINVAL | EHOSTUNREACH),
        },
    }
}

// Of include/uapi/asm-generic/errno.h; fib_props of net/ipv4/fib_semantics.c says which stands for which route.
const EACCES: i32 = 13;
const EXDEV: i32 = 18;
const EINVAL: i32 = 22;
const ENETUNREACH: i32 = 101;
const EHOSTUNREACH: i32 = 113;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::host::MAIN;

    fn route(dst: &str, kind: &str, dev: &str) -> HostRoute {
        HostRoute {
            dst: dst.parse().unwrap(),
            kind: kind.to_owned(),
            via: None,
            dev: (!dev.is_empty()).then(|| dev.to_owned()),
            table: MAIN,
            metric: 0,
            protocol: 0,
            onlink: false,
            dead: false,
            multipath: false,
        }
    }

    fn host(said: Said) -> Host {
        Host {
            routes: vec![route("10.244.2.0/26", "unicast", "eth0"), route("10.244.1.0/26", "blackhole", "")],
            answers: vec![Answer {
                dst: "10.244.2.2".parse().unwrap(),
                src: Some("10.244.1.2".parse().unwrap()),
                iif: Some("cali1".to_owned()),
                said,
            }],
            ..Host::default()
        }
    }

    fn dev(host: &Host) -> Option<String> {
        let found = host.routed(&host.answers[0].question());
        found.route.and_then(|route| route.dev.clone())
    }

    #[test]
    fn the_kernels_word_counts() {
        let same = host(Said::Route(route("10.244.2.0/26", "unicast", "eth0")));
        assert_eq!((dev(&same).as_deref(), same.disagreements().len()), (Some("eth0"), 0));
        let other = host(Said::Route(route("10.244.2.0/26", "unicast", "vxlan.calico")));
        assert_eq!(dev(&other).as_deref(), Some("vxlan.calico"));
        let told = other.disagreements().join(";");
        assert!(told.contains("dev eth0") && told.contains("dev vxlan.calico"), "{told}");
        let none = host(Said::Error(ENETUNREACH));
        let found = none.routed(&none.answers[0].question());
        assert_eq!((found.route, found.certain, none.disagreements().len()), (None, true, 1));
    }

    #[test]
    fn a_refused_source_is_no_word_on_the_route() {
        assert_eq!(host(Said::Error(EXDEV)).disagreements(), Vec::<String>::new());
        let mut thrown = host(Said::Error(EINVAL));
        thrown.answers[0].dst = "10.244.1.9".parse().unwrap();
        assert_eq!(thrown.disagreements(), Vec::<String>::new());
        // The host's own packet has no such excuse.
        let mut own = host(Said::Error(EINVAL));
        own.answers[0].iif = None;
        assert_eq!(own.disagreements().len(), 1);
    }

    #[test]
    fn a_case_without_answers_stays_as_it_was() {
        let host = Host::parse(r#"{"links": []}"#).unwrap();
        assert!(host.answers.is_empty());
    }
}
