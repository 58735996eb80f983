use serde_json::json;

use super::*;
use crate::analyze::explain::merge;
use crate::analyze::findings::{Route, Verdict};
use crate::evidence::capture_file::CaptureError;
use crate::evidence::kernel::{Icmp, Outer};
use crate::evidence::{Known, Text, Texts};

/// Two nodes, two pods, eight points: `a` sends to `b`.
fn case() -> Case {
    let point = |node: &str, interface: &str, role: &str| json!({"id": format!("{node}/{interface}"), "node": node, "interface": interface, "role": role});
    let stages = ["leave_pod", "forward", "encapsulate", "underlay", "decapsulate", "deliver", "enter_pod"];
    let text = json!({
        "from": {"name": "default/a", "address": "10.244.1.2", "node": "n1"},
        "to": {"name": "default/b", "address": "10.244.2.2", "node": "n2"},
        "nodes": [
            {"name": "n1", "addresses": ["192.168.50.11"], "on_path": true},
            {"name": "n2", "addresses": ["192.168.50.12"], "on_path": true},
        ],
        "points": [
            point("n1", "pod:eth0", "pod"), point("n1", "cali1", "veth"), point("n1", "vxlan.calico", "tunnel"),
            point("n1", "eth0", "nic"), point("n2", "eth0", "nic"), point("n2", "vxlan.calico", "tunnel"),
            point("n2", "cali2", "veth"), point("n2", "pod:eth0", "pod"),
        ],
        "paths": [
            {"direction": "forward", "points": [0, 1, 2, 3, 4, 5, 6, 7], "stages": stages, "encapsulated": true},
            {"direction": "reply", "points": [7, 6, 5, 4, 3, 2, 1, 0], "stages": stages, "encapsulated": true},
        ],
    });
    serde_json::from_value(text).unwrap()
}

/// Ten packets lost after this point of the way there; after the last one, unanswered.
fn findings(from: u8, kind: StageKind) -> Findings {
    let to = (from < 7).then(|| PointId(from + 1));
    Findings {
        case: case(),
        frames: vec![],
        routes: vec![],
        verdict: Verdict {
            outcome: Outcome::Dropped,
            direction: Direction::Forward,
            place: Some(Place { from: PointId(from), to, kind }),
            sent: 10,
            lost: 10,
            confidence: Confidence::Confirmed,
            doubts: vec![],
        },
        causes: vec![],
        translations: vec![],
        errors: vec![],
        clock: None,
        warnings: vec![],
        account: crate::analyze::findings::Account::default(),
    }
}

fn event(reason: &str, function: &str, callers: &[&str], interface: &str) -> GivenUp {
    GivenUp {
        reason: reason.to_owned(),
        function: function.to_owned(),
        callers: callers.iter().map(|name| (*name).to_owned()).collect(),
        within: Within::Node,
        interface: Some(interface.to_owned()),
        source: "10.244.1.2".parse().unwrap(),
        destination: "10.244.2.2".parse().unwrap(),
        protocol: 1,
        ports: None,
        icmp: Some(Icmp { kind: 8, id: 1, numbers: (0, 9) }),
        outer: None,
        fragment: false,
        length: (84, 84),
        ttl: 63,
        events: 10,
        packets: 10,
        first: 0,
        last: 1,
        late: false,
    }
}

fn in_pod(event: GivenUp) -> GivenUp {
    GivenUp { within: Within::Pod, ..event }
}

fn tunnelled(event: GivenUp, destination: &str) -> GivenUp {
    let (source, destination) = ("192.168.50.11".parse().unwrap(), destination.parse().unwrap());
    GivenUp { outer: Some(Outer { source, destination, vni: 4096 }), ..event }
}

/// What comes of events that a node heard.
fn explained(
    findings: &Findings,
    node: &str,
    events: &[GivenUp],
    more: &[(&str, Known<String>)],
) -> (Vec<Cause>, Vec<Proof>) {
    let (causes, beside) = supported(findings, node, events, more, &[]);
    (causes.into_iter().map(|(_, cause)| cause).collect(), beside)
}

fn supported(
    findings: &Findings,
    node: &str,
    events: &[GivenUp],
    more: &[(&str, Known<String>)],
    ruled: &[Ruled],
) -> (Vec<(Option<usize>, Cause)>, Vec<Proof>) {
    let word = KernelWord { given_up: events.to_vec(), ..KernelWord::default() };
    let text = |name: &str, content| Text {
        node: node.to_owned(),
        name: name.to_owned(),
        when: When::After,
        content,
    };
    let mut texts = vec![text(KERNEL, Known::Read(word.to_text().unwrap()))];
    texts.extend(more.iter().map(|(name, content)| text(name, content.clone())));
    let frames =
        || Err(CaptureError::Open { file: String::new(), source: std::io::ErrorKind::NotFound.into() });
    explain(
        findings,
        &Evidence { case: &findings.case, texts: &Texts(texts), cluster: None, frames: &frames },
        ruled,
    )
}

fn kinds(causes: &[Cause]) -> Vec<(&str, &str, Confidence)> {
    causes.iter().map(|cause| (cause.kind, cause.node.as_str(), cause.confidence)).collect()
}

/// What real faults gave: the node and the point after which packets vanished, the stage, the event (reason,
/// function and callers, interface, `pod` or the tunnel's destination), and what it means.
const FAULTS: &str = "
n1 0 leave_pod   NOT_SPECIFIED       veth_xdp_rcv_skb<veth_poll                      cali1 -             early_hook        confirmed
n1 0 leave_pod   NOT_SPECIFIED       __dev_forward_skb2<veth_xmit                    eth0  pod           mtu               likely
n1 1 forward     IP_RPFILTER         ip_rcv_finish_core<ip_rcv                       cali1 -             reverse_path      confirmed
n1 1 forward     IP_INNOROUTES       ip_error<ip_rcv                                 cali1 -             no_route          confirmed
n1 1 forward     IP_INADDRERRORS     ip_error<ip_rcv                                 cali1 -             ip_forward_off    confirmed
n1 1 forward     IP_INHDR            ip_forward                                      cali1 -             ttl_expired       confirmed
n1 1 forward     PKT_TOO_BIG         ip_forward                                      cali1 -             mtu               confirmed
n1 1 forward     TC_INGRESS          __netif_receive_skb_core                        cali1 -             tc_filter         confirmed
n1 1 forward     NEIGH_FAILED        neigh_invalidate                                vxlan.calico -      neighbour_missing confirmed
n1 1 forward     NEIGH_FAILED        neigh_invalidate                                eth0  -             no_route          likely
n1 1 forward     NOT_SPECIFIED       neigh_invalidate<neigh_timer_handler            vxlan.calico -      neighbour_missing confirmed
n1 1 forward     NETFILTER_DROP      nft_do_chain<nft_do_chain_netdev<nf_hook_slow<__netif_receive_skb_core.constprop.0 cali1 - early_hook confirmed
n1 1 forward     NETFILTER_DROP      nft_do_chain<nft_do_chain_inet<nf_hook_slow<ip_forward cali1 -      host_firewall     confirmed
n1 1 forward     NETFILTER_DROP      nft_do_chain<nft_do_chain_ipv4<nf_hook_slow<ip_forward cali1 -      host_firewall     likely
n1 2 encapsulate NO_TX_TARGET        vxlan_xmit                                      vxlan.calico -      fdb_missing       likely
n1 2 encapsulate NEIGH_FAILED        neigh_invalidate                                eth0  192.168.50.99 fdb_wrong         confirmed
n1 2 encapsulate NEIGH_FAILED        neigh_invalidate                                eth0  192.168.50.12 underlay_blocked  likely
n1 2 encapsulate QDISC_DROP          __dev_queue_xmit                                eth0  192.168.50.12 queue_overflow    confirmed
n2 3 underlay    NOT_SPECIFIED       do_xdp_generic                                  eth0  192.168.50.12 early_hook        confirmed
n2 3 underlay    FRAG_REASM_TIMEOUT  ip_expire                                       vxlan.calico -      fragment_loss     confirmed
n2 4 decapsulate VXLAN_VNI_NOT_FOUND vxlan_rcv                                       eth0  192.168.50.12 tunnel_mismatch   confirmed
n2 4 decapsulate NO_SOCKET           __udp4_lib_rcv                                  eth0  192.168.50.12 tunnel_down       likely
n2 4 decapsulate LOCAL_MAC           vxlan_rcv                                       vxlan.calico -      tunnel_mismatch   confirmed
n2 4 decapsulate UDP_CSUM            __udp4_lib_rcv                                  eth0  192.168.50.12 checksum          confirmed
n2 5 deliver     OTHERHOST           ip_rcv_core<ip_rcv                              vxlan.calico -      neighbour_wrong   confirmed
n2 5 deliver     NOT_SPECIFIED       ip_error<ip_rcv                                 vxlan.calico -      blackhole_route   likely
n2 6 enter_pod   NOT_SPECIFIED       __dev_forward_skb2<veth_xmit                    cali2 -             mtu               likely
n2 7 pod         OTHERHOST           ip_rcv_core<ip_rcv                              eth0  pod           neighbour_wrong   confirmed
n2 7 pod         NO_SOCKET           __udp4_lib_rcv                                  eth0  pod           no_listener       confirmed
n2 7 pod         SOCKET_RCVBUFF      udp_queue_rcv_one_skb                           eth0  pod           socket_overflow   confirmed
n2 7 pod         NETFILTER_DROP      nft_do_chain<nft_do_chain_ipv4<ip_local_deliver eth0  pod           pod_firewall      confirmed
";

#[test]
fn reasons_become_causes() {
    for line in FAULTS.lines().filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [node, from, stage, reason, chain, interface, mark, kind, confidence] = words[..] else {
            panic!("{line}")
        };
        let stage: StageKind = serde_json::from_value(json!(stage)).unwrap();
        let chain: Vec<&str> = chain.split('<').collect();
        let event = event(reason, chain[0], &chain[1..], interface);
        let event = match mark {
            "-" => event,
            "pod" => in_pod(event),
            address => tunnelled(event, address),
        };
        let confidence = if confidence == "likely" { Confidence::Likely } else { Confidence::Confirmed };
        let (causes, _) = explained(&findings(from.parse().unwrap(), stage), node, &[event], &[]);
        assert_eq!(kinds(&causes), [(kind, node, confidence)], "{line}");
    }
}

#[test]
fn what_happens_elsewhere_or_to_others_is_no_cause() {
    let forward = findings(1, StageKind::Forward);
    let rule = event("IP_RPFILTER", "ip_rcv_finish_core", &["ip_rcv"], "cali1");
    let reply = GivenUp { source: rule.destination, destination: rule.source, ..rule.clone() };
    let foreign = GivenUp { source: "10.244.1.9".parse().unwrap(), ..rule.clone() };
    let late = GivenUp { late: true, ..rule.clone() };
    let noise = event("NO_SOCKET", "ping_rcv", &["icmp_rcv"], "cali1");
    let released = event("NOT_SPECIFIED", "skb_release", &["packet_release"], "cali1");
    let encapsulated = tunnelled(event("QDISC_DROP", "__dev_queue_xmit", &[], "eth0"), "192.168.50.12");
    for other in [reply, foreign, late, noise, released, encapsulated] {
        let (causes, beside) = explained(&forward, "n1", std::slice::from_ref(&other), &[]);
        assert_eq!(kinds(&causes), [], "{other:?}");
        assert!(beside[0].detail.contains("told of none"), "{beside:?}");
    }
    let (causes, _) = explained(&findings(5, StageKind::Deliver), "n1", std::slice::from_ref(&rule), &[]);
    assert_eq!(kinds(&causes), []);
    // Where no point was captured between, the stages are one.
    let mut wide = findings(1, StageKind::Forward);
    wide.verdict.place = Some(Place { from: PointId(1), to: Some(PointId(3)), kind: StageKind::Forward });
    let queue = tunnelled(event("QDISC_DROP", "__dev_queue_xmit", &[], "eth0"), "192.168.50.12");
    assert_eq!(kinds(&explained(&wide, "n1", &[queue], &[]).0)[0].0, "queue_overflow");
}

#[test]
fn a_cause_is_as_sure_as_its_number() {
    let confidence = |events| {
        let one =
            GivenUp { events, packets: events, ..event("IP_RPFILTER", "ip_rcv_finish_core", &[], "cali1") };
        explained(&findings(1, StageKind::Forward), "n1", &[one], &[]).0[0].confidence
    };
    assert_eq!(
        [10, 5, 40, 4].map(confidence),
        [Confidence::Confirmed, Confidence::Likely, Confidence::Likely, Confidence::Possible]
    );
}

#[test]
fn the_number_that_is_told_is_the_one_that_agrees() {
    let told = |(events, packets), unjudged| {
        let one = GivenUp { events, packets, ..event("IP_RPFILTER", "ip_rcv_finish_core", &[], "cali1") };
        let mut findings = findings(1, StageKind::Forward);
        findings.routes.push(Route {
            direction: Direction::Forward,
            path: Vec::new(),
            sent: 10,
            delivered: 0,
            stages: Vec::new(),
            unjudged,
            doubtful: 0,
            looped: 0,
            unanswered: None,
            longest_delivered: 0,
            not_followed: 0,
            of_others: Vec::new(),
            perhaps_of_others: Vec::new(),
            beyond: None,
        });
        let cause = explained(&findings, "n1", &[one], &[]).0.remove(0);
        (cause.confidence, cause.summary.split(':').next().unwrap().to_owned())
    };
    let all = "the kernel gave up 10 packets, as many as were lost";
    // Large frames; what was lost as such.
    for numbers in [(10, 10), (1, 10), (10, 30)] {
        assert_eq!(told(numbers, 0), (Confidence::Confirmed, all.to_owned()), "{numbers:?}");
    }
    let some = |number| format!("the kernel gave up {number} packets, while 10 were lost");
    assert_eq!(told((2, 12), 2), (Confidence::Confirmed, some(12)));
    assert_eq!(told((2, 13), 2), (Confidence::Likely, some(13)));
    assert_eq!(told((1, 4), 0), (Confidence::Possible, some(4)));
    // Numbers of a text may be anything.
    assert_eq!(told((u64::MAX, u64::MAX), u64::MAX), (Confidence::Confirmed, some(u64::MAX)));
}

#[test]
fn a_rules_drop_supports_the_rule_that_its_counter_gave_away() {
    let mut findings = findings(5, StageKind::Deliver);
    let proof = Proof { source: "iptables", detail: "counted 12 packets while 10 were lost".to_owned() };
    findings.causes.push(Cause {
        kind: "network_policy",
        node: "n2".to_owned(),
        confidence: Confidence::Likely,
        summary: "no policy accepted them".to_owned(),
        remedy: String::new(),
        evidence: vec![proof],
    });
    let drop = event(
        "NETFILTER_DROP",
        "nft_do_chain",
        &["nft_do_chain_ipv4", "nf_hook_slow", "ip_forward"],
        "vxlan.calico",
    );
    let ruled = Ruled { point: HookPoint::Forward, fewer: None };
    let (causes, _) = supported(&findings, "n2", &[drop], &[], &[ruled]);
    merge(&mut findings.causes, causes);
    assert_eq!(kinds(&findings.causes), [("network_policy", "n2", Confidence::Confirmed)]);
    assert_eq!(findings.causes[0].summary, "no policy accepted them");
    assert_eq!(
        findings.causes[0].evidence.iter().map(|proof| proof.source).collect::<Vec<_>>(),
        ["iptables", "kernel"]
    );
}

/// Two rules took half of the packets each: neither is the cause alone, and each has its own hook's word.
#[test]
fn a_rule_that_counted_too_few_is_not_confirmed() {
    let mut findings = findings(5, StageKind::Deliver);
    for kind in ["host_firewall", "network_policy"] {
        findings.causes.push(Cause {
            kind,
            node: "n2".to_owned(),
            confidence: Confidence::Possible,
            summary: String::new(),
            remedy: String::new(),
            evidence: Vec::new(),
        });
    }
    let drop = |from| GivenUp {
        events: 5,
        packets: 5,
        ..event(
            "NETFILTER_DROP",
            "nft_do_chain",
            &["nft_do_chain_ipv4", "nf_hook_slow", from],
            "vxlan.calico",
        )
    };
    let ruled = [HookPoint::Prerouting, HookPoint::Forward].map(|point| Ruled { point, fewer: Some(5) });
    let (causes, _) = supported(&findings, "n2", &[drop("ip_rcv"), drop("ip_forward")], &[], &ruled);
    merge(&mut findings.causes, causes);
    let found: Vec<_> =
        findings.causes.iter().map(|cause| (cause.confidence, cause.evidence.len())).collect();
    assert_eq!(found, [(Confidence::Likely, 1), (Confidence::Likely, 1)]);
}

#[test]
fn what_no_chain_dropped_was_connection_tracking_unless_there_may_be_legacy_rules() {
    let findings = findings(1, StageKind::Forward);
    let drop = event("NETFILTER_DROP", "nf_hook_slow", &["ip_rcv", "__netif_receive_skb_one_core"], "cali1");
    // As iptables 1.8.9 prints them.
    let saved = |by: &str, rules: &str| {
        Known::Read(format!(
            "# Generated by {by} on Mon Nov 30 07:47:56 2026\n*raw\n:PREROUTING ACCEPT [0:0]\n\
             :OUTPUT ACCEPT [0:0]\n{rules}COMMIT\n# Completed on Mon Nov 30 07:47:56 2026\n"
        ))
    };
    let (legacy, nft) = ("iptables-save v1.8.9", "iptables-save v1.8.9 (nf_tables)");
    let rule = "[0:0] -A PREROUTING -s 10.0.0.1/32 -j DROP\n";
    let late = Known::Unreadable("ip6tables-legacy-save: no end after 10 s".to_owned());
    let said = |name: &str, content: Known<String>| {
        let (causes, _) = explained(&findings, "n1", std::slice::from_ref(&drop), &[(name, content)]);
        assert_eq!(causes[0].confidence, Confidence::Likely);
        (causes[0].kind, causes[0].summary.split_once(": ").unwrap().1.to_owned())
    };
    for (name, content) in [
        ("iptables-legacy-save", saved(legacy, "")),
        ("iptables-nft-save", saved("iptables-nft-save v1.8.9 (nf_tables)", rule)),
        ("iptables-save", saved(legacy, "")),
        ("iptables-save", saved(nft, rule)),
        ("ip6tables-save", saved("ip6tables-save v1.8.9 (nf_tables)", rule)),
    ] {
        let (kind, why) = said(name, content);
        assert_eq!(kind, "conntrack_full", "{name}");
        assert!(why.starts_with("no rule but connection tracking itself refused them"), "{name}: {why}");
    }
    for (name, content) in [
        ("iptables-legacy-save", saved(legacy, rule)),
        ("iptables-save", saved(legacy, rule)),
        // Without a head, as older tools or a listing leave it.
        ("iptables-save", Known::Read(format!("*raw\n{rule}COMMIT\n"))),
        ("ip6tables-save", saved("ip6tables-save v1.8.9", "-A PREROUTING -j DROP\n")),
        ("ip6tables-legacy-save", late.clone()),
        ("iptables-save", late),
    ] {
        let said = said(name, content);
        let why = "a rule at PREROUTING or connection tracking itself dropped them".to_owned();
        assert_eq!(said, ("host_firewall", why), "{name}");
    }
}

#[test]
fn what_no_point_saw_has_a_cause_too() {
    let mut findings = findings(1, StageKind::Forward);
    findings.verdict.place = None;
    findings.verdict.outcome = Outcome::NoTraffic;
    let unanswered = in_pod(GivenUp { late: true, ..event("NEIGH_FAILED", "neigh_invalidate", &[], "eth0") });
    let (causes, _) = explained(&findings, "n1", &[unanswered], &[]);
    assert_eq!(kinds(&causes), [("proxy_arp_off", "n1", Confidence::Likely)]);
    let later = event("IP_RPFILTER", "ip_rcv_finish_core", &["ip_rcv"], "cali1");
    assert_eq!(kinds(&explained(&findings, "n1", &[later], &[]).0), []);
}

#[test]
fn unknown_reasons_are_shown_and_call_chains_joined() {
    let one = event("reason 999", "some_function", &["a"], "cali1");
    let other = GivenUp { callers: vec!["b".to_owned()], length: (20, 60), ..one.clone() };
    let (causes, beside) = explained(&findings(1, StageKind::Forward), "n1", &[one, other], &[]);
    assert_eq!((kinds(&causes), beside.len()), (vec![], 1));
    assert_eq!(
        beside[0].detail,
        "n1: reason 999 in some_function on cali1: 20 times, 20 to 84 bytes, TTL 63"
    );
}
