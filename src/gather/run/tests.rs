//! Whole traces in network namespaces, and what becomes of them when parts fail.

#![expect(clippy::print_stderr, reason = "what a trace told, for whoever looks into a failure")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::*;
use crate::evidence::case::{CapturePoint, Coverage};
use crate::evidence::kernel::KERNEL;
use crate::evidence::plan::{Find, PlannedPoint};
use crate::evidence::{Known, Role, When};
use crate::gather::clock::instant;
use crate::gather::kernel::tests::{loaded as loaded_programs, program_ids};
use crate::gather::probe::ProbeKind;
use crate::gather::rig::{self, PODS, Rig};

fn request(rig: &Rig, folder: &tempfile::TempDir) -> Request {
    Request {
        plan: rig.plan(),
        more: Vec::new(),
        reach: rig::reach("ip netns exec {node}"),
        duration: Some(Duration::from_secs(20)),
        count: None,
        probe: Some(Probe {
            kind: ProbeKind::Icmp,
            target: PODS[1].parse().unwrap(),
            count: 5,
            size: 56,
            interval: Duration::from_millis(20),
        }),
        settings: Settings::default(),
        kernel: true,
        watch: None,
        folder: folder.path().to_owned(),
    }
}

/// Gathers; `at` is called with every event.
fn gather(request: &Request, mut at: impl FnMut(&Event)) -> (Result<Gathered, GatherError>, Vec<String>) {
    let begin = instant();
    let mut warnings = Vec::new();
    let gathered = run(request, &mut |event| {
        if !matches!(event, Event::Counts(_)) {
            eprintln!("{:?} {event:?}", begin.elapsed());
        }
        if let Event::Warning(text) = &event {
            warnings.push(text.clone());
        }
        at(&event);
    });
    eprintln!("{:?} end", begin.elapsed());
    (gathered, warnings)
}

fn read(point: &CapturePoint) -> &Coverage {
    match &point.state {
        Known::Read(coverage) => coverage,
        other => panic!("{}: {other:?}", point.id),
    }
}

fn ids(gathered: &Gathered) -> Vec<&str> {
    gathered.case.points.iter().map(|point| point.id.split_once('/').unwrap().1).collect()
}

/// How many frames of each point are in the file, and whether they are in the order of time.
fn frames(gathered: &Gathered, folder: &tempfile::TempDir) -> (Vec<usize>, bool) {
    let path = folder.path().join("capture.pcapng");
    let mut reader = crate::evidence::capture_file::Reader::open(&path).unwrap();
    let mut counts = vec![0; gathered.case.points.len()];
    let (mut last, mut in_order) = (i64::MIN, true);
    while let Some(record) = reader.next_record().unwrap() {
        counts[record.interface] += 1;
        in_order &= record.frame.time.0 >= last;
        last = record.frame.time.0;
    }
    (counts, in_order)
}

fn end(id: u32, signal: Signal) {
    kill(Pid::from_raw(id.try_into().unwrap()), signal).unwrap();
}

/// The agents of a rig's node.
fn agents(rig: &Rig, node: &str) -> Vec<u32> {
    let namespace = std::fs::metadata(format!("/run/netns/{}", rig.ns(node))).unwrap();
    rig::processes(&["as_an_agent"])
        .into_iter()
        .filter(|id| {
            use std::os::unix::fs::MetadataExt;
            std::fs::metadata(format!("/proc/{id}/ns/net")).is_ok_and(|own| own.ino() == namespace.ino())
        })
        .collect()
}

fn gone_within(rig: &Rig, limit: Duration) -> bool {
    let end = instant() + limit;
    while instant() < end {
        if ["n1", "n2"].iter().all(|node| agents(rig, node).is_empty()) {
            return true;
        }
        thread::sleep(Duration::from_millis(20));
    }
    false
}

#[test]
#[ignore = "needs root"]
fn a_probe_is_seen_at_every_point() {
    let rig = Rig::two_nodes_vxlan();
    let folder = tempfile::tempdir().unwrap();
    let (gathered, warnings) = gather(&request(&rig, &folder), |_| {});
    let gathered = gathered.unwrap();
    assert_eq!(
        ids(&gathered),
        ["pod:eth0", "cali1", "vxlan.calico", "eth0", "eth0", "vxlan.calico", "cali2", "pod:eth0"]
    );
    for point in &gathered.case.points {
        let coverage = read(point);
        assert!(coverage.received >= 10 && coverage.dropped == 0 && coverage.failed.is_none(), "{point:?}");
    }
    let (counts, in_order) = frames(&gathered, &folder);
    assert!(counts.iter().all(|count| *count >= 10) && in_order, "{counts:?} {in_order}");
    assert_eq!((warnings, gathered.case.warnings), (vec![], vec![]));
    let probe = gathered.case.probe.as_ref().unwrap();
    assert_eq!((probe.sent, probe.answered), (5, 5));
    assert!(gathered.texts.find(&rig.ns("n1"), "iptables-nft-save", When::Before).is_some());
    assert!(gathered.texts.find(&rig.ns("n2"), "pod:ip6tables-nft-save", When::After).is_some());
    assert_eq!(gathered.case.clocks.len(), 2);
    assert!(gone_within(&rig, Duration::from_millis(100)));
}

#[test]
#[ignore = "needs root"]
fn probes_over_tcp_and_udp_count_answers_and_errors() {
    let rig = Rig::two_nodes_vxlan();
    let mut server = rig.start("p2", "exec python3 -m http.server 8080");
    thread::sleep(Duration::from_millis(500));
    let outcome = |kind| {
        let folder = tempfile::tempdir().unwrap();
        let mut request = request(&rig, &folder);
        request.probe.as_mut().unwrap().kind = kind;
        let probe = gather(&request, |_| {}).0.unwrap().case.probe.unwrap();
        (probe.kind, probe.sent, probe.answered, probe.errors)
    };
    assert_eq!(outcome(ProbeKind::Tcp(8080)), ("tcp:8080".to_owned(), 5, 5, vec![]));
    let refused = vec![("ECONNREFUSED".to_owned(), 5)];
    assert_eq!(outcome(ProbeKind::Tcp(81)), ("tcp:81".to_owned(), 5, 0, refused));
    let (_, sent, answered, errors) = outcome(ProbeKind::Udp(53));
    assert_eq!((sent, answered), (5, 0));
    assert_eq!(errors[0].0, "ECONNREFUSED");
    server.kill().unwrap();
    server.wait().unwrap();
}

/// A trace without an end: what was watched is what came, a loss ends it after a moment, and the file holds the time
/// before the loss.
#[test]
#[ignore = "needs root"]
fn a_loss_ends_what_is_watched_and_the_last_part_is_kept() {
    let rig = Rig::two_nodes_vxlan();
    let folder = tempfile::tempdir().unwrap();
    let mut ping = rig.start("p1", "exec ping -i 0.05 10.244.2.2");
    let enough = Enough::default();
    let watch = Watch { ring: Duration::from_secs(1), enough: enough.clone() };
    let request = Request { watch: Some(watch), probe: None, ..request(&rig, &folder) };
    let (mut ending, mut begun, mut watched) = (None, None, vec![Vec::new(); 8]);
    let mut said = None;
    let (gathered, _) = gather(&request, |event| match event {
        Event::Begun(case) => begun = Some(case.clone()),
        Event::Frames(frames) => {
            assert!(begun.is_some(), "the case comes before its frames");
            frames.each(|point, frame| {
                watched[point.index()].push(frame.time.0);
                assert!(!frame.bytes.is_empty());
            });
            let Some(until) = frames.until else { return };
            let began = begun.as_ref().and_then(|case| read(&case.points[0]).started).unwrap();
            if said.is_none() && until - began > 3_000_000_000 {
                said = Some(until);
                enough.lost(until);
            }
        }
        Event::Stopping(why) => ending = Some(*why),
        _ => {}
    });
    let gathered = gathered.unwrap();
    ping.kill().unwrap();
    ping.wait().unwrap();
    assert_eq!(ending, Some(Ending::Loss));
    let whole = gathered.whole.as_ref().unwrap();
    let (kept, lasted) = (gathered.case.window.as_ref().unwrap(), whole.window.as_ref().unwrap());
    assert!(lasted.seconds > 5.0 && lasted.seconds < 9.0, "{lasted:?}");
    assert_eq!(kept.start, said.unwrap() - 1_000_000_000);
    assert!(kept.seconds > 3.0 && kept.seconds < lasted.seconds - 1.5, "{kept:?} of {lasted:?}");
    let (counts, _) = frames(&gathered, &folder);
    for (number, point) in gathered.case.points.iter().enumerate() {
        let (times, passed) = (&watched[number], read(&whole.points[number]).received);
        // The kernel may have counted what came after the last reading.
        assert!((passed.saturating_sub(2)..=passed).contains(&(times.len() as u64)), "{passed}");
        let offset = gathered.case.clocks.iter().find(|clock| clock.node == point.node).unwrap().offset;
        let since = times.iter().filter(|time| **time - offset >= kept.start).count();
        assert_eq!((counts[number], read(point).received), (since, since as u64));
        assert!(since > 60 && since * 4 < times.len() * 3, "{since} of {}", times.len());
        assert!(read(point).started > read(&whole.points[number]).started);
    }
    let left: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["capture.pcapng"], "no segment is left");
}

#[test]
#[ignore = "needs root"]
fn a_count_ends_the_capture() {
    let rig = Rig::two_nodes_vxlan();
    let folder = tempfile::tempdir().unwrap();
    let mut ping = rig.start("p1", "exec ping -i 0.05 10.244.2.2");
    let mut ending = None;
    let request = Request { count: Some(7), probe: None, ..request(&rig, &folder) };
    let (gathered, _) = gather(&request, |event| {
        if let Event::Stopping(why) = event {
            ending = Some(*why);
        }
    });
    let gathered = gathered.unwrap();
    assert_eq!(ending, Some(Ending::Count));
    assert!(read(&gathered.case.points[0]).received >= 14);
    assert!(gathered.case.window.unwrap().seconds < 5.0);
    ping.kill().unwrap();
    ping.wait().unwrap();
}

#[test]
#[ignore = "needs root"]
fn an_agent_that_is_killed_leaves_the_other_nodes() {
    for signal in [Signal::SIGKILL, Signal::SIGSTOP] {
        let rig = Rig::two_nodes_vxlan();
        let folder = tempfile::tempdir().unwrap();
        let seconds = if signal == Signal::SIGSTOP { 9 } else { 2 };
        let request =
            Request { duration: Some(Duration::from_secs(seconds)), probe: None, ..request(&rig, &folder) };
        let mut ping = rig.start("p1", "exec ping -i 0.05 10.244.2.2");
        let (gathered, warnings) = gather(&request, |event| {
            if let Event::Capturing(_) = event {
                for id in agents(&rig, "n2") {
                    end(id, signal);
                }
            }
        });
        let gathered = gathered.unwrap();
        ping.kill().unwrap();
        ping.wait().unwrap();
        let said = if signal == Signal::SIGKILL { "signal: 9" } else { "nothing came from" };
        assert!(warnings.len() == 1 && warnings[0].contains(said), "{warnings:?}");
        for point in &gathered.case.points {
            let failed = read(point).failed.is_some();
            assert_eq!(failed, point.node == rig.ns("n2"), "{point:?}");
        }
        assert!(frames(&gathered, &folder).0[0] > 10);
        assert!(gone_within(&rig, Duration::from_secs(1)), "{signal}: an agent is left");
    }
}

#[test]
#[ignore = "needs root"]
fn nothing_stays_in_the_kernel_after_an_agent() {
    for killed in [true, false] {
        let rig = Rig::two_nodes_vxlan();
        let folder = tempfile::tempdir().unwrap();
        let request =
            Request { duration: Some(Duration::from_secs(1)), probe: None, ..request(&rig, &folder) };
        let mut loaded = BTreeSet::new();
        let (gathered, _) = gather(&request, |event| {
            if let Event::Capturing(_) = event {
                for id in agents(&rig, "n1").into_iter().chain(agents(&rig, "n2")) {
                    let programs = program_ids(&format!("/proc/{id}"));
                    assert!(!programs.is_empty(), "the agent {id} has loaded nothing");
                    loaded.extend(programs);
                    if killed {
                        end(id, Signal::SIGKILL);
                    }
                }
            }
        });
        assert_eq!((gathered.is_ok(), loaded.len()), (true, 2));
        let limit = instant() + Duration::from_secs(2);
        while !loaded.is_disjoint(&loaded_programs()) && instant() < limit {
            thread::sleep(Duration::from_millis(20));
        }
        assert!(loaded.is_disjoint(&loaded_programs()), "killed {killed}: {loaded:?}");
    }
}

#[test]
#[ignore = "needs root"]
fn where_no_program_can_be_loaded_the_rest_goes_on() {
    let rig = Rig::two_nodes_vxlan();
    let folder = tempfile::tempdir().unwrap();
    // As on a kernel without BTF.
    let reach = rig::reach(
        "ip netns exec {node} unshare --mount sh -c 'mount -t tmpfs none /sys/kernel/btf && exec \"$0\" \"$@\"'",
    );
    let mut request =
        Request { reach, duration: Some(Duration::from_millis(300)), probe: None, ..request(&rig, &folder) };
    let (gathered, warnings) = gather(&request, |_| {});
    let gathered = gathered.unwrap();
    let [one] = &warnings[..] else { panic!("{warnings:?}") };
    for word in [rig.ns("n1"), rig.ns("n2"), "/sys/kernel/btf/vmlinux".to_owned()] {
        assert!(one.contains(&word) && !one.contains('\n'), "{one}");
    }
    assert!(gathered.case.points.iter().all(|point| read(point).failed.is_none()));
    request.kernel = false;
    let (gathered, warnings) = gather(&request, |_| {});
    let texts = gathered.unwrap().texts;
    let content = |node| &texts.find(&rig.ns(node), KERNEL, When::After).unwrap().content;
    assert_eq!((content("n1"), content("n2"), warnings.len()), (&Known::NotAsked, &Known::NotAsked, 0));
}

#[test]
#[ignore = "needs root"]
fn an_interface_removed_in_the_middle_is_told_of() {
    let rig = Rig::two_nodes_vxlan();
    let folder = tempfile::tempdir().unwrap();
    let request = Request { duration: Some(Duration::from_secs(1)), probe: None, ..request(&rig, &folder) };
    let (gathered, warnings) = gather(&request, |event| {
        if let Event::Capturing(_) = event {
            rig.run("n1", "ip link del vxlan.calico");
        }
    });
    assert!(warnings.len() == 1 && warnings[0].contains("disappeared"), "{warnings:?}");
    let gathered = gathered.unwrap();
    let failed: Vec<&str> = gathered
        .case
        .points
        .iter()
        .filter(|point| read(point).failed.is_some())
        .map(|point| point.interface.as_str())
        .collect();
    assert_eq!(failed, ["vxlan.calico"]);
}

#[test]
#[ignore = "needs root"]
fn points_that_cannot_be_captured_are_told_of() {
    let rig = Rig::two_nodes_vxlan();
    rig.run("n1", "ip link set vxlan.calico down");
    rig.run("n2", "ip link del cali2");
    let folder = tempfile::tempdir().unwrap();
    let request =
        Request { duration: Some(Duration::from_millis(300)), probe: None, ..request(&rig, &folder) };
    let gathered = gather(&request, |_| {}).0.unwrap();
    assert_eq!(ids(&gathered), ["pod:eth0", "cali1", "vxlan.calico", "eth0", "eth0", "vxlan.calico"]);
    let Known::Unreadable(why) = &gathered.case.points[2].state else { panic!("{:?}", gathered.case) };
    assert!(why.contains("up"), "{why}");
    let about = |text: &str| gathered.case.warnings.iter().filter(|warning| warning.contains(text)).count();
    let told = (about("no interface cali2"), about("cannot capture on vxlan.calico"));
    assert_eq!(told, (2, 1), "{:#?}", gathered.case.warnings);
}

#[test]
#[ignore = "needs root"]
fn nodes_that_cannot_be_reached_say_why() {
    let rig = Rig::two_nodes_vxlan();
    let folder = tempfile::tempdir().unwrap();
    let why = |template: &str| {
        let request = Request { reach: rig::reach(template), ..request(&rig, &folder) };
        gather(&request, |_| {}).0.unwrap_err().to_string()
    };
    let text = why("false");
    assert!(text.contains("before it had answered") && text.contains("exit status: 1"), "{text}");
    let text = why("no-such-program {node}");
    assert!(text.contains("No such file") && text.contains("no-such-program"), "{text}");
    let text = why("sh -c 'echo Welcome to {node}; echo no luck >&2; exit 3'");
    assert!(text.contains("Welcome to") && text.contains("no luck") && text.contains("status: 3"), "{text}");
    let text = why("sh -c 'head -c 20000 /dev/zero; sleep 9'");
    assert!(text.contains("expected the greeting"), "{text}");
    let text = why("ip netns exec {node} 'unclosed");
    assert!(text.contains("not closed"), "{text}");
}

#[test]
#[ignore = "needs root"]
fn two_pods_of_one_node_have_points_of_their_own() {
    let rig = Rig::two_nodes_vxlan();
    rig.second_pod_on_first_node();
    let folder = tempfile::tempdir().unwrap();
    let mut request =
        Request { duration: Some(Duration::from_millis(300)), probe: None, ..request(&rig, &folder) };
    let second = Find::InsidePod { veth: "cali3".to_owned(), address: "10.244.1.3".parse().unwrap() };
    request.plan.points.truncate(2);
    request.plan.points.push(PlannedPoint { node: rig.ns("n1"), role: Role::Pod, find: second });
    let gathered = gather(&request, |_| {}).0.unwrap();
    assert_eq!(ids(&gathered), ["pod:eth0", "cali1", "pod:eth0@cali3"]);
}

#[test]
#[ignore = "needs root"]
fn a_full_disk_ends_the_trace_with_the_reason() {
    let rig = Rig::two_nodes_vxlan();
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/dev/full", folder.path().join("capture.pcapng")).unwrap();
    let text = gather(&request(&rig, &folder), |_| {}).0.unwrap_err().to_string();
    assert!(text.contains("No space left") && text.contains("TMPDIR"), "{text}");
    assert!(gone_within(&rig, Duration::from_millis(100)));
}

#[test]
#[ignore = "needs root"]
fn one_unreachable_node_leaves_the_other() {
    let rig = Rig::two_nodes_vxlan();
    let folder = tempfile::tempdir().unwrap();
    let mut request =
        Request { duration: Some(Duration::from_millis(300)), probe: None, ..request(&rig, &folder) };
    for point in request.plan.points.iter_mut().filter(|point| point.node.ends_with("n2")) {
        point.node = "nowhere".to_owned();
    }
    let gathered = gather(&request, |_| {}).0.unwrap();
    assert_eq!(ids(&gathered), ["pod:eth0", "cali1", "vxlan.calico", "eth0"]);
    assert_eq!(gathered.case.warnings.len(), 1, "{:?}", gathered.case.warnings);
    assert!(gathered.case.warnings[0].contains("nowhere"), "{:?}", gathered.case.warnings);
}

#[test]
#[ignore = "needs root"]
fn a_late_node_keeps_no_other_capturing() {
    let rig = Rig::two_nodes_vxlan();
    let folder = tempfile::tempdir().unwrap();
    let late = r#"sh -c 'case {node} in *n2) sleep 2;; esac; exec ip netns exec {node} "$@"' late"#;
    let request = Request { reach: rig::reach(late), ..request(&rig, &folder) };
    let gathered = gather(&request, |_| {}).0.unwrap();
    let begun: Vec<i64> = gathered.case.points.iter().map(|point| read(point).started.unwrap()).collect();
    let apart = begun.iter().max().unwrap() - begun.iter().min().unwrap();
    assert_eq!(begun.len(), 8);
    assert!(apart < 1_500_000_000, "{apart} ns");
}

#[test]
#[ignore = "needs root"]
fn a_probe_ends_with_its_node() {
    let rig = Rig::two_nodes_vxlan();
    let folder = tempfile::tempdir().unwrap();
    let mut request = Request { duration: Some(Duration::from_mins(1)), ..request(&rig, &folder) };
    if let Some(probe) = &mut request.probe {
        probe.count = 1000;
        probe.interval = Duration::from_millis(100);
    }
    let begun = instant();
    let (gathered, warnings) = gather(&request, |event| {
        if let Event::Capturing(_) = event {
            for id in agents(&rig, "n1") {
                end(id, Signal::SIGKILL);
            }
        }
    });
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(warnings.iter().any(|warning| warning.contains("signal: 9")), "{warnings:?}");
    assert_eq!(gathered.unwrap().case.probe, None);
}

/// Not a test of its own: the client that the test below starts and kills.
#[test]
#[ignore = "needs root"]
#[expect(clippy::disallowed_methods, reason = "the test below hands its rig over in the environment")]
fn as_a_client() {
    let Ok(plan) = std::env::var("TRACE_DROP_TEST_PLAN") else { return };
    let folder = tempfile::tempdir().unwrap();
    let request = Request {
        plan: serde_json::from_str(&plan).unwrap(),
        more: Vec::new(),
        reach: rig::reach("ip netns exec {node}"),
        duration: None,
        count: None,
        probe: None,
        settings: Settings::default(),
        kernel: true,
        watch: None,
        folder: folder.path().to_owned(),
    };
    let gathered = run(&request, &mut |event| eprintln!("{event:?}"));
    eprintln!("gathered {}", gathered.unwrap().case.points.len());
}

#[test]
#[ignore = "needs root"]
#[expect(clippy::disallowed_methods, reason = "the client under test is a process of its own")]
fn agents_end_with_their_client_and_interrupts_end_captures() {
    let rig = Rig::two_nodes_vxlan();
    for (signal, report) in [(Signal::SIGKILL, false), (Signal::SIGINT, true), (Signal::SIGTERM, true)] {
        let mut client = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "gather::run::tests::as_a_client", "--ignored", "--nocapture"])
            .env("TRACE_DROP_TEST_PLAN", serde_json::to_string(&rig.plan()).unwrap())
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut errors = BufReader::new(client.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains("Capturing") {
            assert_ne!(errors.read_line(&mut said).unwrap(), 0, "it never captured: {said}");
        }
        assert!(!agents(&rig, "n1").is_empty() && !agents(&rig, "n2").is_empty(), "no agents");
        end(client.id(), signal);
        let ended = instant();
        assert!(gone_within(&rig, Duration::from_secs(1)), "{signal}: an agent is left");
        eprintln!("{signal}: agents gone after {:?}", ended.elapsed());
        client.wait().unwrap();
        errors.read_to_string(&mut said).unwrap();
        assert_eq!(said.contains("gathered 8"), report, "{signal}: {said}");
    }
}

#[test]
#[ignore = "needs root"]
fn nodes_are_read_without_capturing_and_one_that_is_gone_is_told_of() {
    let rig = Rig::two_nodes_vxlan();
    rig.run("n1", "iptables-nft -A FORWARD -s 192.0.2.9 -j DROP");
    let mut plan = rig.plan();
    let mut gone = plan.nodes[0].clone();
    gone.name = "nowhere".to_owned();
    plan.nodes.push(gone);
    let request = ReadRequest::of_plan(&plan, rig::reach("ip netns exec {node}"));
    let mut told = Vec::new();
    let snapshot = super::read(&request, &mut |event| {
        if let Event::Warning(text) = event {
            told.push(text);
        }
    })
    .unwrap();
    assert_eq!(snapshot.unreached.iter().map(|(node, _)| node.as_str()).collect::<Vec<_>>(), ["nowhere"]);
    assert_eq!(told.len(), 1, "{told:?}");
    let names: Vec<&str> = snapshot
        .texts
        .0
        .iter()
        .filter(|text| text.node == rig.ns("n1"))
        .map(|text| text.name.as_str())
        .collect();
    for name in ["iptables-nft-save", "ip6tables-nft-save", "nft", "state", "ipset", "conntrack", "pod:state"]
    {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    let rules = snapshot.texts.newest(&rig.ns("n1"), "iptables-nft-save").unwrap();
    assert!(rules.content.read().unwrap().contains("192.0.2.9"));
    assert!(gone_within(&rig, Duration::from_secs(1)), "an agent is left");
    let nobody = ReadRequest { nodes: plan.nodes.split_off(plan.nodes.len() - 1), ..request };
    assert!(
        matches!(super::read(&nobody, &mut |_| {}), Err(GatherError::NothingRead(why)) if why.len() == 1)
    );
}

/// Both ways at once: one agent a node, a case and a capture of its own for each pair, and the pods' texts where each
/// pair looks for them.
#[test]
#[ignore = "needs root"]
fn several_pairs_share_their_agents() {
    let rig = Rig::two_nodes_vxlan();
    let folder = tempfile::tempdir().unwrap();
    let plan = rig.plan();
    let mut back = plan.clone();
    std::mem::swap(&mut back.from, &mut back.to);
    back.points.reverse();
    let one = request(&rig, &folder);
    let probe = one.probe.clone().map(|probe| Probe { target: PODS[0].parse().unwrap(), ..probe });
    let request = Request { more: vec![(back, probe)], ..one };
    let mut agents_seen = Vec::new();
    let (gathered, warnings) = gather(&request, |event| {
        if let Event::Capturing(points) = event {
            assert_eq!(points.len(), 16);
            agents_seen = ["n1", "n2"].map(|node| agents(&rig, node).len()).into();
        }
    });
    let gathered = gathered.unwrap();
    assert_eq!((agents_seen, warnings), (vec![1, 1], Vec::new()));
    assert_eq!(gathered.more.len(), 1);
    for (number, case) in [&gathered.case, &gathered.more[0]].into_iter().enumerate() {
        let probe = case.probe.as_ref().unwrap();
        assert_eq!((probe.sent, probe.answered), (5, 5), "pair {number}");
        assert_eq!(case.from.name, if number == 0 { "default/p1" } else { "default/p2" });
        // The pairs are each other's way back: each point sees both probes and their answers.
        let capture = folder.path().join(crate::evidence::bundle::capture_of(number));
        let mut reader = crate::evidence::capture_file::Reader::open(&capture).unwrap();
        let mut counts = vec![0; case.points.len()];
        while let Some(record) = reader.next_record().unwrap() {
            counts[record.interface] += 1;
        }
        assert!(counts.iter().all(|count| *count >= 20), "pair {number}: {counts:?}");
        let own = gathered.texts.of(u16::try_from(number).unwrap(), case);
        for node in ["n1", "n2"].map(|node| rig.ns(node)) {
            for name in ["state", "pod:state", "kernel", "conntrack"] {
                assert_eq!(
                    own.0
                        .iter()
                        .filter(|text| text.node == node && text.name == name && text.when == When::After)
                        .count(),
                    1,
                    "{node} {name}"
                );
            }
            assert!(own.0.iter().all(|text| !text.name.contains('@')));
        }
    }
    assert!(gone_within(&rig, Duration::from_secs(2)), "an agent is left");
}
