//! What is the same in two cases under another name: the ends' addresses and their interfaces. Takes both cases; turns a
//! text of either into one in which these stand for their role, so that equal texts say the same.

use std::net::IpAddr;

use super::Side;
use crate::evidence::case::{CapturePoint, Case, Endpoint, Role};
use crate::evidence::cluster::Cluster;

/// The names of one role in both cases, where they differ.
#[derive(Debug, Default)]
pub(super) struct Alike {
    /// Before, after, and what stands for both.
    roles: Vec<(String, String, &'static str)>,
    /// Words that a text which bears on the traffic has, before and after.
    ours: [Vec<String>; 2],
}

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    Before,
    After,
}

impl Alike {
    pub(super) fn of(before: Side<'_>, after: Side<'_>) -> Self {
        let mut alike = Self::default();
        let (was_case, is_case) = (&before.findings.case, &after.findings.case);
        for second in [false, true] {
            let end = |case: &'_ Case| if second { case.to.clone() } else { case.from.clone() };
            let (was, is) = (end(was_case), end(is_case));
            if !is_the_same_pod((before.cluster, &was), (after.cluster, &is)) {
                continue;
            }
            let [v4, v6, interface] = if second {
                ["‹to, IPv4›", "‹to, IPv6›", "‹to's interface›"]
            } else {
                ["‹from, IPv4›", "‹from, IPv6›", "‹from's interface›"]
            };
            let (had, has) = (addresses(before.cluster, &was), addresses(after.cluster, &is));
            for (family, role) in [(false, v4), (true, v6)] {
                let of =
                    |all: &[IpAddr]| all.iter().find(|own| own.is_ipv6() == family).map(ToString::to_string);
                if let (Some(was), Some(is)) = (of(&had), of(&has)) {
                    alike.add(&was, &is, role);
                }
            }
            if let (Some(was), Some(is)) = (veth(was_case, &was, second), veth(is_case, &is, second)) {
                alike.add(was, is, interface);
            }
        }
        let ours = |case: &Case| {
            let links = case.points.iter().map(|point| point.interface.trim_start_matches("pod:").to_owned());
            let ends = [&case.from, &case.to].map(|end| end.address.to_string());
            links.chain(ends).collect()
        };
        alike.ours = [ours(was_case), ours(is_case)];
        alike
    }

    fn add(&mut self, was: &str, is: &str, role: &'static str) {
        if was != is {
            self.roles.push((was.to_owned(), is.to_owned(), role));
        }
    }

    /// The text with roles for names.
    pub(super) fn plain(&self, text: &str, when: When) -> String {
        let mut plain = text.to_owned();
        for (was, is, role) in &self.roles {
            plain = replaced(&plain, if when == When::Before { was } else { is }, role);
        }
        plain
    }

    /// Whether a text names an end's address or an interface of the path.
    pub(super) fn bears(&self, text: &str, when: When) -> bool {
        self.ours[usize::from(when == When::After)].iter().any(|word| !places(text, word).is_empty())
    }
}

/// Whether two ends are one pod, perhaps made anew: of one name, or of one workload.
fn is_the_same_pod(was: (Option<&Cluster>, &Endpoint), is: (Option<&Cluster>, &Endpoint)) -> bool {
    if was.1.name == is.1.name {
        return was.1.address.is_ipv6() == is.1.address.is_ipv6();
    }
    let workload = |(cluster, end): (Option<&Cluster>, &Endpoint)| {
        let (namespace, name) = end.name.split_once('/')?;
        let (kind, name) = cluster?.pod(namespace, name)?.workload()?;
        Some((namespace.to_owned(), kind, name.to_owned()))
    };
    workload(was).is_some_and(|own| Some(own) == workload(is))
}

/// All addresses of an end: a pod may have one of each family.
fn addresses(cluster: Option<&Cluster>, end: &Endpoint) -> Vec<IpAddr> {
    let pod = end.name.split_once('/').and_then(|(namespace, name)| cluster?.pod(namespace, name));
    let more = pod.map(|pod| pod.addresses.clone()).unwrap_or_default();
    std::iter::once(end.address).chain(more).collect()
}

/// The host's end of an end's veth.
fn veth<'c>(case: &'c Case, end: &Endpoint, second: bool) -> Option<&'c str> {
    let own = |point: &&CapturePoint| point.role == Role::Veth && Some(&point.node) == end.node.as_ref();
    let mut points = case.points.iter().filter(own);
    let point = if second { points.next_back() } else { points.next() };
    point.map(|point| point.interface.as_str())
}

fn replaced(text: &str, word: &str, role: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    for at in places(text, word) {
        out.push_str(&text[from..at]);
        out.push_str(role);
        from = at + word.len();
    }
    out.push_str(&text[from..]);
    out
}

/// Where a word stands by itself: not inside of a longer name or address.
fn places(text: &str, word: &str) -> Vec<usize> {
    if word.is_empty() {
        return Vec::new();
    }
    let part = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == ':' && word.contains(':');
    let alone = |at: &usize| {
        let (head, tail) = (&text[..*at], &text[at + word.len()..]);
        !head.chars().next_back().is_some_and(part) && !tail.chars().next().is_some_and(part)
    };
    text.match_indices(word).map(|(at, _)| at).filter(alone).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_words_are_taken() {
        assert_eq!(replaced("-s 10.0.0.1/32 -d 10.0.0.10 x", "10.0.0.1", "‹a›"), "-s ‹a›/32 -d 10.0.0.10 x");
        assert_eq!(replaced("cali-tw-calix1 calix12", "calix1", "‹v›"), "cali-tw-‹v› calix12");
        assert_eq!(replaced("fd00::1 fd00::1:2", "fd00::1", "‹a›"), "‹a› fd00::1:2");
    }
}
