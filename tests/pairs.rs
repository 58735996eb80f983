//! Pairs beside each other: which node, stage and cause they share, and when that cannot be told. Packets on paper, lost
//! where each test says.

mod support;

use std::collections::BTreeSet;

use support::{Lab, Load, SECOND, START};
use trace_drop::analyze::findings::{Findings, Outcome};
use trace_drop::analyze::pairs::{Part, Suspect, rank};
use trace_drop::evidence::{Direction, StageKind};
use trace_drop::report;

/// The place of a stage on the eight points.
const UNDERLAY: usize = 3;
const DECAPSULATE: usize = 4;

/// A pair with ten pings from `from` to `to`; `forward` and `back` say behind which stage they are lost.
fn pair(from: &str, to: &str, forward: Option<usize>, back: Option<usize>) -> Findings {
    let mut lab = Lab::new(5);
    for seq in 0..10 {
        let time = START + SECOND + i64::from(seq) * SECOND / 10;
        lab.send(Direction::Forward, &Load::Echo { seq, reply: false }, time, forward);
        if forward.is_none() {
            lab.send(Direction::Reply, &Load::Echo { seq, reply: true }, time + SECOND / 100, back);
        }
    }
    named(&mut lab, from, to);
    lab.analyse()
}

fn silent(from: &str, to: &str) -> Findings {
    let mut lab = Lab::new(5);
    named(&mut lab, from, to);
    lab.analyse()
}

fn named(lab: &mut Lab, from: &str, to: &str) {
    let name = |node: &str| if node == "worker-1" { from.to_owned() } else { to.to_owned() };
    for point in &mut lab.case.points {
        let new = name(&point.node);
        point.id = point.id.replace(&point.node, &new);
        point.node = new;
    }
    for node in &mut lab.case.nodes {
        node.name = name(&node.name);
    }
    (lab.case.from.name, lab.case.to.name) = (format!("shop/web-{from}"), format!("shop/web-{to}"));
    (lab.case.from.node, lab.case.to.node) = (Some(from.to_owned()), Some(to.to_owned()));
}

/// All pairs of nodes, each both ways; `lost` says where what goes from one node to another is lost.
fn mesh(nodes: &[&str], lost: impl Fn(&str, &str) -> Option<usize>) -> Vec<Findings> {
    let mut all = Vec::new();
    for from in nodes {
        for to in nodes.iter().filter(|to| *to != from) {
            all.push(pair(from, to, lost(from, to), lost(to, from)));
        }
    }
    all
}

fn node(name: &str, part: Part) -> Suspect {
    Suspect::Node(name.to_owned(), part)
}

#[test]
fn healthy_pairs_accuse_nobody() {
    let ranking = rank(&mesh(&["n1", "n2", "n3"], |_, _| None));
    assert_eq!((ranking.outcome, ranking.bad, ranking.good), (Outcome::Delivered, 0, 6));
    assert_eq!(ranking.suspect, Suspect::Nobody);
    assert!(ranking.stages.is_empty() && ranking.causes.is_empty());
}

#[test]
fn what_is_sent_to_a_node_what_it_sends_and_both() {
    let nodes = ["n1", "n2", "n3"];
    let to = rank(&mesh(&nodes, |_, to| (to == "n3").then_some(DECAPSULATE)));
    assert_eq!(to.suspect, node("n3", Part::Destination));
    assert_eq!((to.bad, to.good), (4, 2), "replies to it are lost too");
    assert_eq!(to.nodes[0].node, "n3");
    assert_eq!(to.stages[0], (StageKind::Decapsulate, 4));
    let from = rank(&mesh(&nodes, |from, _| (from == "n1").then_some(UNDERLAY)));
    assert_eq!(from.suspect, node("n1", Part::Source));
    let both = rank(&mesh(&nodes, |from, to| (from == "n2" || to == "n2").then_some(UNDERLAY)));
    assert_eq!(both.suspect, node("n2", Part::Either));
}

#[test]
fn one_bad_pair_among_strangers_cannot_tell_which_end() {
    let findings = [pair("n1", "n2", Some(UNDERLAY), None), pair("n3", "n4", None, None)];
    let Suspect::OneOf(nodes) = rank(&findings).suspect else { panic!("{:?}", rank(&findings).suspect) };
    let names: BTreeSet<_> = nodes.iter().map(|(node, part)| (node.as_str(), *part)).collect();
    assert_eq!(names, BTreeSet::from([("n1", Part::Source), ("n2", Part::Destination)]));
    // A good way from the one leaves the other.
    let mut more = findings.to_vec();
    more.push(pair("n1", "n3", None, None));
    assert_eq!(rank(&more).suspect, node("n2", Part::Destination));
}

#[test]
fn without_a_good_pair_nothing_stands_against_it() {
    let all = [pair("n1", "n2", Some(UNDERLAY), None), pair("n1", "n3", Some(UNDERLAY), None)];
    assert_eq!(rank(&all).suspect, Suspect::NoContrast(vec!["n1".to_owned()]));
    let strangers = [pair("n1", "n2", Some(UNDERLAY), None), pair("n3", "n4", Some(UNDERLAY), None)];
    assert_eq!(rank(&strangers).suspect, Suspect::NoContrast(vec![]));
}

#[test]
fn pods_of_one_node_say_nothing_about_the_underlay() {
    let mut beside = pair("n1", "n1", None, None);
    for route in &mut beside.routes {
        route.stages.retain(|stage| matches!(stage.kind, StageKind::LeavePod | StageKind::EnterPod));
    }
    let others = [pair("n1", "n2", Some(UNDERLAY), None), pair("n1", "n3", Some(UNDERLAY), None)];
    let mut findings = others.to_vec();
    findings.push(beside);
    assert_eq!(
        rank(&findings).suspect,
        Suspect::NoContrast(vec!["n1".to_owned()]),
        "not cleared by it, not accused"
    );
    findings.push(pair("n2", "n3", None, None));
    assert_eq!(rank(&findings).suspect, node("n1", Part::Source), "nor cleared once others are well");
}

#[test]
fn two_faults_are_no_one_nodes() {
    let findings = [
        pair("n1", "n2", Some(UNDERLAY), None),
        pair("n3", "n4", Some(UNDERLAY), None),
        pair("n1", "n4", None, None),
        pair("n3", "n2", None, None),
    ];
    assert_eq!(rank(&findings).suspect, Suspect::NoOne);
}

#[test]
fn pairs_without_traffic_judge_nobody() {
    let none = rank(&[silent("n1", "n2"), silent("n2", "n1")]);
    assert_eq!((none.outcome, none.bad, none.good), (Outcome::NoTraffic, 0, 0));
    let some = rank(&[silent("n1", "n2"), pair("n1", "n3", None, None)]);
    assert_eq!((some.outcome, some.good), (Outcome::Delivered, 1));
    assert_eq!(some.order, [0, 1], "what tells nothing stands before what is well");
    assert_eq!(rank(&[]).order, Vec::<usize>::new());
}

#[test]
fn the_worst_comes_first() {
    let mut mild = Lab::new(5);
    for seq in 0..10 {
        let time = START + SECOND + i64::from(seq) * SECOND / 10;
        let lost = (seq < 2).then_some(UNDERLAY);
        mild.send(Direction::Forward, &Load::Echo { seq, reply: false }, time, lost);
    }
    named(&mut mild, "n1", "n2");
    let findings = [
        pair("n2", "n3", None, None),
        mild.analyse(),
        pair("n1", "n3", Some(UNDERLAY), None),
        silent("n3", "n2"),
    ];
    assert_eq!(rank(&findings).order, [2, 1, 3, 0]);
}

#[test]
fn the_report() {
    let mut findings = mesh(&["n1", "n2", "n3"], |_, to| (to == "n3").then_some(DECAPSULATE));
    findings.push(silent("n1", "n4"));
    let ranking = rank(&findings);
    let notes = ["pods traced: 3 of deploy/web to 4 of deploy/db".to_owned()];
    let mut text = Vec::new();
    report::pairs_text(&findings, &ranking, &notes, report::Style::default(), &mut text).unwrap();
    insta::assert_snapshot!(String::from_utf8(text).unwrap());
    let mut json = Vec::new();
    report::pairs_json(&findings, &ranking, &notes, &mut json).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["schema"], "trace-drop/pairs/v1");
    assert_eq!(json["suspect"]["nodes"][0]["node"], "n3");
    assert_eq!(json["verdict"]["bad"], 4);
    let reports = json["reports"].as_array().unwrap();
    assert_eq!(reports.len(), 7);
    assert!(reports.iter().all(|report| report["schema"] == "trace-drop/report/v1"));
    assert_eq!(reports[0]["verdict"]["outcome"], "dropped");
}
