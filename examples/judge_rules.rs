//! Walks packets that were really sent through the rules that they met, and holds what should become of each against what
//! became of it. Part of `scripts/rules-agree`; in: its files; out: numbers, the last line `N passed, N failed`.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;

use serde::Deserialize;
use trace_drop::analyze::rules::journey::{Journey, Nodes, Request, Side, Verdict, travel};
use trace_drop::evidence::bundle::Bundle;
use trace_drop::evidence::netfilter::{CtState, Meets, Ruleset, Target, delta, first_state};

/// What the script wrote.
#[derive(Deserialize)]
struct Sent {
    case: String,
    backend: String,
    batches: Vec<Batch>,
    /// One more than batches: before the first, and after each. By node and text.
    readings: Vec<BTreeMap<String, BTreeMap<String, String>>>,
    pods: BTreeMap<String, Pod>,
}

#[derive(Deserialize)]
struct Batch {
    packets: Vec<Packet>,
    loose: bool,
}

#[derive(Deserialize)]
struct Pod {
    node: String,
    address: String,
    address6: String,
    veth: String,
    underlay: String,
    underlay6: String,
}

#[derive(Deserialize)]
struct Packet {
    six: bool,
    /// `first`, `reply` to one that arrived, or `further` of what was answered.
    way: String,
    pod: String,
    to: String,
    src: String,
    dst: String,
    protocol: u8,
    sport: u16,
    dport: Option<u16>,
    flags: Option<u8>,
    icmp: Option<(u8, u8)>,
    length: u32,
    arrived: bool,
}

/// A rule by node, table, chain and number.
type Rule = (String, String, String, Option<usize>);

#[derive(Default)]
struct Score {
    agree: u64,
    wrong: u64,
    unknown: u64,
    /// Of the unknown ones, those that may not have ended as they did.
    impossible: u64,
    /// Rules that dropped, over all batches.
    counts: u64,
    /// Why it could not be told, and how often.
    open: BTreeMap<String, u64>,
    counts_wrong: u64,
    /// By family and way: packets, and those of them that were told right.
    ways: BTreeMap<(&'static str, String), (u64, u64)>,
}

impl Score {
    fn way(&mut self, packet: &Packet) -> &mut (u64, u64) {
        let family = if packet.six { "IPv6" } else { "IPv4" };
        let service = packet.dst == "10.96.0.10" || packet.dst == "fd00:10:96::10";
        let way = format!("{}{}", packet.way, if service { " to a Service" } else { "" });
        self.ways.entry((family, way)).or_default()
    }
}

fn main() -> ExitCode {
    let mut out = std::io::stdout().lock();
    let (mut passed, mut failed) = (0, 0);
    for file in std::env::args().skip(1) {
        let text = std::fs::read_to_string(&file).expect("a file of rules-agree");
        let sent: Sent = serde_json::from_str(&text).expect("a file of rules-agree");
        let score = judge(&sent, &mut out);
        let all = score.agree + score.wrong + score.unknown;
        let said = writeln!(
            out,
            "{}: {all} packets: {} as said, {} not as said, {} not told ({} of them ended otherwise than possible); \
             {} counts of rules that dropped, {} not as said",
            sent.backend,
            score.agree,
            score.wrong,
            score.unknown,
            score.impossible,
            score.counts,
            score.counts_wrong
        );
        said.expect("standard output");
        for ((family, way), (all, right)) in &score.ways {
            writeln!(out, "  {family}, {way}: {right} of {all} as said").expect("standard output");
        }
        for (why, count) in &score.open {
            writeln!(out, "  not known {count} times: {why}").expect("standard output");
        }
        passed += all - score.wrong - score.impossible + score.counts - score.counts_wrong;
        failed += score.wrong + score.impossible + score.counts_wrong;
    }
    writeln!(out, "{passed} passed, {failed} failed").expect("standard output");
    if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn judge(sent: &Sent, out: &mut impl Write) -> Score {
    let bundle = Bundle::open(std::path::Path::new(&sent.case)).expect("a saved case");
    let nodes = Nodes::read(&bundle.texts().expect("its texts"));
    let mut score = Score::default();
    for (number, batch) in sent.batches.iter().enumerate() {
        let (mut surely, mut perhaps) = (BTreeMap::<Rule, u64>::new(), BTreeMap::<Rule, u64>::new());
        for packet in &batch.packets {
            let journey = travel(request(packet, sent, batch.loose), &nodes, None);
            score.way(packet).0 += 1;
            let places = places(&journey);
            let can_pass = journey.legs.iter().all(|leg| leg.ends.iter().any(|end| end.what == "passes"));
            let right = match journey.verdict {
                Verdict::Passes => packet.arrived,
                Verdict::Ends => !packet.arrived,
                Verdict::Unknown => {
                    score.unknown += 1;
                    for step in journey.legs.iter().flat_map(|leg| &leg.steps) {
                        for open in &step.unknown {
                            *score.open.entry(open.clone()).or_default() += 1;
                        }
                    }
                    for doubt in journey.legs.iter().flat_map(|leg| &leg.doubts) {
                        *score.open.entry(doubt.clone()).or_default() += 1;
                    }
                    for place in &places {
                        *perhaps.entry(place.clone()).or_default() += 1;
                    }
                    let possible = if packet.arrived { can_pass } else { !places.is_empty() };
                    score.impossible += u64::from(!possible);
                    if !possible {
                        tell(out, sent, number, packet, &journey);
                    }
                    continue;
                }
            };
            if journey.verdict == Verdict::Ends {
                for place in places {
                    *surely.entry(place).or_default() += 1;
                }
            }
            score.agree += u64::from(right);
            score.way(packet).1 += u64::from(right);
            score.wrong += u64::from(!right);
            if !right {
                tell(out, sent, number, packet, &journey);
            }
        }
        let counted = counted(&sent.readings[number], &sent.readings[number + 1]);
        let mut rules: Vec<&Rule> = surely.keys().chain(perhaps.keys()).chain(counted.keys()).collect();
        rules.sort();
        rules.dedup();
        for rule in rules {
            let count = |all: &BTreeMap<Rule, u64>| all.get(rule).copied().unwrap_or(0);
            let (least, most, real) = (count(&surely), count(&surely) + count(&perhaps), count(&counted));
            score.counts += 1;
            if real < least || real > most {
                score.counts_wrong += 1;
                let told = writeln!(
                    out,
                    "{} batch {number}: {rule:?} counted {real}, should be {least} to {most}",
                    sent.backend
                );
                told.expect("standard output");
            }
        }
    }
    score
}

fn tell(out: &mut impl Write, sent: &Sent, number: usize, packet: &Packet, journey: &Journey) {
    let said = match journey.verdict {
        Verdict::Passes => "passes".to_owned(),
        _ => format!("ends in {:?}", places(journey)),
    };
    let told = writeln!(
        out,
        "{} batch {number}: {} {} {}:{} > {} {}:{:?} protocol {} flags {:?} icmp {:?}: {said}, and {}",
        sent.backend,
        packet.way,
        packet.pod,
        packet.src,
        packet.sport,
        packet.to,
        packet.dst,
        packet.dport,
        packet.protocol,
        packet.flags,
        packet.icmp,
        if packet.arrived { "arrived" } else { "did not arrive" }
    );
    told.expect("standard output");
}

fn request(packet: &Packet, sent: &Sent, loose: bool) -> Request {
    let side = |key: &str| {
        let pod = &sent.pods[key];
        Side {
            name: key.to_owned(),
            node: Some(pod.node.clone()),
            address: if packet.six { &pod.address6 } else { &pod.address }.parse().ok(),
            veth: Some(pod.veth.clone()),
            tunnel: Some(if packet.six { "vxlan-v6.calico" } else { "vxlan.calico" }.to_owned()),
            nic: Some("eth0".to_owned()),
            underlay: if packet.six { &pod.underlay6 } else { &pod.underlay }.parse().ok(),
            by_tunnel: false,
        }
    };
    let dst = packet.dst.parse().ok();
    Request {
        from: side(&packet.pod),
        to: side(&packet.to),
        dst,
        encapsulated: true,
        vxlan_port: 4789,
        protocol: packet.protocol,
        port: packet.dport,
        packet: Some(Meets {
            src: packet.src.parse().ok(),
            dst,
            protocol: Some(packet.protocol),
            src_port: packet.dport.map(|_| packet.sport),
            dst_port: packet.dport,
            tcp_flags: packet.flags,
            icmp: packet.icmp,
            length: Some(packet.length),
            state: match packet.way.as_str() {
                "first" => first_state(packet.protocol, packet.flags, packet.icmp, loose),
                _ => Some(CtState::Established),
            },
            reply: Some(packet.way == "reply"),
            mark: Some(0),
            ..Meets::default()
        }),
    }
}

/// The rules that may drop the packet.
fn places(journey: &Journey) -> Vec<Rule> {
    let mut places = Vec::new();
    for leg in &journey.legs {
        for step in leg.ends.iter().filter_map(|end| leg.steps.get(end.step?)) {
            let table = format!("{}{}", six(&step.text), step.table);
            places.push((leg.node.clone(), table, step.chain.clone(), step.number));
        }
    }
    places
}

/// Which rules that drop counted between two readings, and how often.
fn counted(
    before: &BTreeMap<String, BTreeMap<String, String>>,
    after: &BTreeMap<String, BTreeMap<String, String>>,
) -> BTreeMap<Rule, u64> {
    let mut counted = BTreeMap::new();
    for (node, texts) in after {
        for (name, text) in texts {
            let read =
                |text: &str| if name == "nft" { Ruleset::parse_nft(text) } else { Ruleset::parse(text) };
            let (earlier, later) = (read(&before[node][name]), read(text));
            for moved in delta(&earlier, &later) {
                let kills = moved
                    .rule
                    .as_ref()
                    .is_some_and(|rule| matches!(rule.target, Target::Drop | Target::Reject(_)));
                if kills {
                    let family = later.tables[moved.at.0].family.as_ref().map(|family| format!("{family} "));
                    let table = format!("{}{}{}", six(name), family.unwrap_or_default(), moved.table);
                    counted.insert((node.clone(), table, moved.chain, Some(moved.index + 1)), moved.packets);
                }
            }
        }
    }
    counted
}

/// Both families of iptables call their tables alike.
fn six(text: &str) -> &'static str {
    if text.starts_with("ip6tables") { "ip6tables " } else { "" }
}
