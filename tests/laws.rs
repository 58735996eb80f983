//! Laws of the analysis, on packets sent over a path on paper.

mod support;

use proptest::prelude::*;
use support::{Lab, Load, SECOND, SERVICE, STAGES, START, analyse, as_service};
use trace_drop::analyze::Evidence;
use trace_drop::analyze::findings::{Findings, Outcome};
use trace_drop::analyze::live::Live;
use trace_drop::evidence::case::ConntrackText;
use trace_drop::evidence::{ClockFact, Direction, Known, PointId, StageKind, Texts};
use trace_drop::packet::Nanos;

/// What must not change: the outcome, the direction and the stage.
fn answer(findings: &Findings) -> (Outcome, Direction, Option<StageKind>) {
    let verdict = &findings.verdict;
    (verdict.outcome, verdict.direction, verdict.place.as_ref().map(|place| place.kind))
}

fn loads(kind: u8, index: u32) -> Load {
    match kind {
        0 => Load::Udp {
            id: u16::try_from(index % 60_000).expect("small") + 1,
            payload: index.to_be_bytes().repeat(20),
        },
        // Nothing tells these apart: no IP identification, equal payload.
        1 => Load::Udp { id: 0, payload: vec![7; 80] },
        _ => Load::Tcp { seq: index * 1_000, len: 1_000 },
    }
}

/// `n` packets, every `nth` of them lost at `stage`.
fn lossy(kind: u8, n: u32, every: u32, stage: usize, gap: i64) -> Lab {
    lossy_in(Lab::new(60), kind, n, every, stage, gap)
}

fn lossy_in(mut lab: Lab, kind: u8, n: u32, every: u32, stage: usize, gap: i64) -> Lab {
    for index in 0..n {
        let lost = (index % every == every - 1).then_some(stage);
        lab.send(Direction::Forward, &loads(kind, index), START + i64::from(index) * gap, lost);
    }
    lab
}

#[test]
fn nothing_lost_is_delivered() {
    for kind in 0..3 {
        let findings = lossy(kind, 500, 1_000, 0, 1_000_000).analyse();
        assert_eq!(answer(&findings), (Outcome::Delivered, Direction::Forward, None), "kind {kind}");
        assert_eq!(findings.routes[0].sent, 500, "kind {kind}");
        assert_eq!(findings.routes[0].delivered, 500, "kind {kind}");
    }
}

#[test]
fn one_in_fifty_is_counted_at_its_stage() {
    for kind in 0..3 {
        for (stage, name) in STAGES.iter().enumerate() {
            let findings = lossy(kind, 1_000, 50, stage, 1_000_000).analyse();
            let expected = (Outcome::Dropped, Direction::Forward, Some(*name));
            assert_eq!(answer(&findings), expected, "kind {kind}");
            assert_eq!(
                (findings.verdict.sent, findings.verdict.lost),
                (1_000, 20),
                "kind {kind} at {name:?}"
            );
        }
    }
}

#[test]
fn every_frame_of_a_lost_packet_is_marked_and_no_other() {
    for kind in 0..3 {
        for offset in [0, 700_000_000] {
            for stage in [0, 3, 6] {
                let mut lab = Lab::new(60);
                lab.offset = offset;
                for index in 0..1_000 {
                    let lost = (index % 50 == 49).then_some(stage);
                    let time = START + i64::from(index) * 1_000_000;
                    lab.send(Direction::Forward, &loads(kind, index), time, lost);
                }
                let marks = lab.marks();
                if kind == 1 {
                    // Which of equal packets was lost cannot be told, only how many.
                    let here = marks.iter().filter(|(_, mark)| mark.here).count();
                    assert!((1..=20).contains(&here), "{here} are marked, clock {offset}");
                    continue;
                }
                assert_eq!(marks.len(), 20 * (stage + 1), "kind {kind}, stage {stage}, clock {offset}");
                let here: Vec<_> = marks.iter().filter(|(_, mark)| mark.here).collect();
                assert_eq!(here.len(), 20);
                for (point, mark) in here {
                    assert_eq!((usize::from(point.0), point), (stage, &mark.last));
                    assert!(mark.sure && !mark.part && usize::from(mark.never.0) == stage + 1);
                }
            }
        }
    }
}

#[test]
fn equal_packets_at_a_high_rate_are_counted() {
    // 20,000 packets a second for five seconds: latency is twice the gap, and loss goes on all the time.
    let findings = lossy(1, 100_000, 10, 3, 50_000).analyse();
    assert_eq!(answer(&findings), (Outcome::Dropped, Direction::Forward, Some(StageKind::Underlay)));
    assert_eq!((findings.verdict.sent, findings.verdict.lost), (100_000, 10_000));
    let healthy = lossy(1, 100_000, u32::MAX, 3, 50_000).analyse();
    assert_eq!(answer(&healthy), (Outcome::Delivered, Direction::Forward, None));
}

#[test]
fn large_frames_and_their_segments_are_one() {
    let mut lab = Lab::new(60);
    for index in 0..40_u32 {
        let seq = index * 14_000;
        let time = START + i64::from(index) * 5_000_000;
        for position in 0..3 {
            lab.see(
                Direction::Forward,
                position,
                &Load::Tcp { seq, len: 14_000 },
                time + 10_000 * i64::try_from(position).expect("small"),
            );
        }
        for segment in 0..10 {
            for position in 3..8 {
                let lost = index == 7 && segment == 4 && position > 3;
                if !lost {
                    let load = Load::Tcp { seq: seq + segment * 1_400, len: 1_400 };
                    lab.see(
                        Direction::Forward,
                        position,
                        &load,
                        time + 10_000 * i64::try_from(position).expect("small") + i64::from(segment) * 1_000,
                    );
                }
            }
        }
    }
    let findings = lab.analyse();
    assert_eq!(answer(&findings), (Outcome::Dropped, Direction::Forward, Some(StageKind::Underlay)));
    assert_eq!((findings.verdict.sent, findings.verdict.lost), (400, 1));
    // The segment itself, and the large frame that it came out of at three points.
    let marks = lab.marks();
    let parts = marks.iter().filter(|(_, mark)| mark.part).count();
    assert_eq!((marks.len(), parts), (4, 3), "{marks:?}");
}

#[test]
fn a_retransmission_does_not_hide_the_loss() {
    let mut lab = Lab::new(60);
    for index in 0..100_u32 {
        let load = Load::Tcp { seq: index * 1_000, len: 1_000 };
        let time = START + i64::from(index) * 1_000_000;
        lab.send(Direction::Forward, &load, time, (index == 50).then_some(3));
        if index == 50 {
            lab.send(Direction::Forward, &load, time + 210_000_000, None);
        }
    }
    let findings = lab.analyse();
    assert_eq!((findings.verdict.sent, findings.verdict.lost), (101, 1));
    assert_eq!(answer(&findings).2, Some(StageKind::Underlay));
}

#[test]
fn a_capture_that_lost_packets_itself_is_not_believed() {
    // The last point misses ten packets, and its kernel says that it dropped ten frames.
    let mut lab = lossy(0, 1_000, 100, 6, 1_000_000);
    lab.set_dropped(7, 10);
    assert_eq!(answer(&lab.analyse()).0, Outcome::Inconclusive);
    // One in the middle: the next point vouches for it.
    let mut lab = Lab::new(60);
    for index in 0..1_000 {
        let time = START + i64::from(index) * 1_000_000;
        for position in 0..8 {
            if !(position == 4 && index % 100 == 0) {
                lab.see(
                    Direction::Forward,
                    position,
                    &loads(0, index),
                    time + 10_000 * i64::try_from(position).expect("small"),
                );
            }
        }
    }
    lab.set_dropped(4, 10);
    assert_eq!(answer(&lab.analyse()), (Outcome::Delivered, Direction::Forward, None));
}

/// The destination's node could not be reached: packets that left the source's were not seen to arrive.
#[test]
fn what_goes_on_where_nobody_captured_is_not_delivered() {
    for kind in 0..3 {
        let mut lab = lossy(kind, 100, 1_000, 0, 1_000_000);
        lab.case.paths[0].points.truncate(4);
        lab.case.paths[0].stages.truncate(3);
        lab.case.paths[0].open_end = true;
        let findings = lab.analyse();
        assert_eq!(answer(&findings), (Outcome::Inconclusive, Direction::Forward, None), "kind {kind}");
        assert!(findings.verdict.doubts[0].contains("beyond"), "{:?}", findings.verdict.doubts);
    }
}

#[test]
fn packets_at_the_edge_are_not_lost() {
    let mut lab = lossy(0, 1_000, 2_000, 0, 1_000_000);
    // Under way when the captures end.
    lab.send(Direction::Forward, &loads(0, 5_000), START + 60 * SECOND - 1_000, Some(3));
    assert_eq!(answer(&lab.analyse()).0, Outcome::Delivered);
}

/// Found in a healthy run: equal packets under way when captures began and ended were pooled, and one was called lost.
#[test]
fn equal_packets_at_both_edges_are_not_lost() {
    let mut lab = Lab::new(2);
    let load = loads(1, 0);
    // Captures further along began first: the beginning of the first packets was not seen.
    for index in 0..3 {
        for position in 4..8 {
            lab.see(Direction::Forward, position, &load, START - SECOND + i64::from(index) * 1_000_000);
        }
    }
    for index in 0..1_900 {
        lab.send(Direction::Forward, &load, START + i64::from(index) * 1_000_000, None);
    }
    // And these were under way when the captures ended.
    for index in 0..5 {
        lab.send(Direction::Forward, &load, START + 2 * SECOND - 5_000 + index * 1_000, Some(2));
    }
    let findings = lab.analyse();
    assert_eq!(answer(&findings), (Outcome::Delivered, Direction::Forward, None));
}

/// Found in a healthy run: captures began one after the other while equal packets went by. What the last one saw was
/// credited to packets of before it began, and as many were called lost at the end.
#[test]
fn equal_packets_before_a_late_capture_are_not_matched_with_later_ones() {
    let mut lab = Lab::new(3);
    let load = loads(1, 0);
    let begins = |point: usize| START + i64::try_from(point).expect("small") * 40_000_000;
    for index in 0..1_000 {
        lab.send(Direction::Forward, &load, START + i64::from(index) * 1_000_000 + 500_000, None);
    }
    for point in 0..8 {
        let begins = begins(point);
        if let Known::Read(coverage) = &mut lab.case.points[point].state {
            coverage.started = Some(begins);
        }
        lab.taken.retain(|taken| usize::from(taken.point.0) != point || taken.time >= begins);
    }
    let findings = lab.analyse();
    assert_eq!(answer(&findings), (Outcome::Delivered, Direction::Forward, None));
}

#[test]
fn unanswered_requests_point_behind_the_last_point() {
    let mut lab = Lab::new(60);
    for seq in 0..10 {
        lab.send(
            Direction::Forward,
            &Load::Echo { seq, reply: false },
            START + i64::from(seq) * SECOND,
            None,
        );
    }
    let findings = lab.analyse();
    assert_eq!(answer(&findings), (Outcome::Dropped, Direction::Forward, Some(StageKind::Pod)));
    assert_eq!(findings.verdict.lost, 10);
}

#[test]
fn lost_replies_are_found_on_their_own_path() {
    let mut lab = Lab::new(60);
    for seq in 0..10 {
        let time = START + i64::from(seq) * SECOND;
        lab.send(Direction::Forward, &Load::Echo { seq, reply: false }, time, None);
        lab.send(Direction::Reply, &Load::Echo { seq, reply: true }, time + 200_000, Some(2));
    }
    let findings = lab.analyse();
    assert_eq!(answer(&findings), (Outcome::Dropped, Direction::Reply, Some(StageKind::Encapsulate)));
}

#[test]
fn hostile_numbers_of_a_case_are_borne() {
    let mut lab = lossy(0, 60, 10, 3, 1_000_000);
    lab.case.clocks = [("worker-1", i64::MIN), ("worker-2", i64::MAX)]
        .map(|(node, offset)| ClockFact { node: node.to_owned(), offset, error: i64::MAX })
        .to_vec();
    for point in &mut lab.case.points {
        if let Known::Read(coverage) = &mut point.state {
            (coverage.dropped, coverage.dropped_interface) = (u64::MAX, u64::MAX);
            (coverage.started, coverage.stopped) = (Some(i64::MAX), Some(i64::MIN));
        }
    }
    let warnings = lab.analyse().warnings;
    let told = format!("the capture itself lost {} frames", u64::MAX);
    assert_eq!(warnings.iter().filter(|warning| warning.contains(&told)).count(), 8, "{warnings:?}");
}

#[test]
fn times_at_the_ends_of_their_range_are_borne() {
    let mut lab = Lab::new(60);
    for (index, time) in [i64::MAX, i64::MIN, 0, START, i64::MAX, i64::MIN].into_iter().enumerate() {
        let load = loads(0, u32::try_from(index).expect("small"));
        for (direction, position) in [(Direction::Forward, 0), (Direction::Reply, 0), (Direction::Forward, 7)]
        {
            lab.see(direction, position, &load, time);
        }
    }
    let findings = lab.analyse();
    assert_eq!(findings.frames.iter().sum::<u64>(), 18);
}

#[test]
fn no_packets_is_no_traffic() {
    assert_eq!(answer(&Lab::new(10).analyse()).0, Outcome::NoTraffic);
}

/// Echoes both ways, so that clocks can be aligned, and a lossy stream.
fn talk(kind: u8, stage: usize, offset: i64, snaplen: usize) -> Lab {
    let mut lab = Lab::new(60);
    lab.snaplen = snaplen;
    lab.set_offset(offset);
    for point in &mut lab.case.points {
        if let Known::Read(coverage) = &mut point.state {
            coverage.snaplen = u32::try_from(snaplen).expect("small");
        }
    }
    for index in 0..200_u32 {
        let time = START + i64::from(index) * 2_000_000;
        let seq = u16::try_from(index).expect("small");
        lab.send(Direction::Forward, &Load::Echo { seq, reply: false }, time, None);
        lab.send(Direction::Reply, &Load::Echo { seq, reply: true }, time + 300_000, None);
        lab.send(Direction::Forward, &loads(kind, index), time + 900_000, (index % 10 == 9).then_some(stage));
    }
    lab
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn dropping_at_a_stage_yields_that_stage(kind in 0_u8..3, stage in 0_usize..7, every in 1_u32..40, gap in 20_000_i64..20_000_000) {
        let findings = lossy(kind, 200, every, stage, gap).analyse();
        let lost = u64::from(200 / every);
        let outcome = if lost > 0 { Outcome::Dropped } else { Outcome::Delivered };
        prop_assert_eq!(answer(&findings), (outcome, Direction::Forward, (lost > 0).then_some(STAGES[stage])));
        prop_assert_eq!(findings.verdict.lost, lost);
    }

    #[test]
    fn clock_offsets_and_snap_lengths_change_nothing(
        kind in 0_u8..3, stage in 0_usize..7, offset in -5 * SECOND..5 * SECOND, snaplen in 120_usize..300,
    ) {
        let findings = talk(kind, stage, offset, snaplen).analyse();
        prop_assert_eq!(answer(&findings), (Outcome::Dropped, Direction::Forward, Some(STAGES[stage])));
        prop_assert_eq!(findings.verdict.lost, 20);
        let clock = findings.clock.expect("packets both ways");
        prop_assert!((clock.offset.0 - offset).abs() <= clock.error.expect("both ways").0 + 1);
    }

    #[test]
    fn order_within_the_window_changes_nothing(kind in 0_u8..3, stage in 0_usize..7, seed in any::<u64>()) {
        let lab = talk(kind, stage, 0, 262_144);
        let mut taken = lab.taken.clone();
        // Each frame comes up to 400 ms late.
        let mut state = seed | 1;
        let mut late = || { state ^= state << 13; state ^= state >> 7; state ^= state << 17; (state % 400_000_000).cast_signed() };
        let mut keyed: Vec<_> = taken.drain(..).map(|frame| (frame.time + late(), frame)).collect();
        keyed.sort_by_key(|(time, _)| *time);
        let shuffled: Vec<_> = keyed.into_iter().map(|(_, frame)| frame).collect();
        let findings = analyse(&lab.case, &shuffled);
        prop_assert_eq!(answer(&findings), (Outcome::Dropped, Direction::Forward, Some(STAGES[stage])));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn foreign_traffic_changes_nothing(kind in 0_u8..3, stage in 0_usize..7, seed in any::<u8>()) {
        let mut lab = talk(kind, stage, 0, 262_144);
        let mut stranger = talk(kind, usize::from(seed % 7), 0, 262_144);
        // The same packets between two other pods, lost elsewhere.
        for taken in &mut stranger.taken {
            support::rename(&mut taken.bytes, seed);
        }
        lab.taken.append(&mut stranger.taken);
        let findings = lab.analyse();
        prop_assert_eq!(answer(&findings), (Outcome::Dropped, Direction::Forward, Some(STAGES[stage])));
        prop_assert_eq!(findings.verdict.lost, 20);
    }
}

/// Frames as they come, two hundred milliseconds at a time; `at` is called after each with the time that has passed.
fn watch(lab: &Lab, seconds: i64, mut at: impl FnMut(f64, &Live)) -> Live {
    let mut taken = lab.taken.clone();
    taken.sort_by_key(|taken| taken.time - if taken.point.0 >= 4 { lab.offset } else { 0 });
    let mut live = Live::new(lab.case.clone(), Nanos::from_millis(1_000));
    let mut waiting = taken.iter().peekable();
    for step in 1..=seconds * 5 {
        let now = START + step * SECOND / 5;
        let by = |point: u8| now + if point >= 4 { lab.offset } else { 0 };
        while let Some(taken) = waiting.next_if(|taken| taken.time <= by(taken.point.0)) {
            live.take(taken.point, &taken.frame());
        }
        live.advance(now);
        #[expect(clippy::cast_precision_loss, reason = "a few seconds")]
        at(step as f64 / 5.0, &live);
    }
    live
}

fn conclude(lab: &Lab, live: Live) -> Findings {
    let none = || unreachable!("the frames are not read again");
    let evidence = Evidence { case: &lab.case, texts: &Texts::default(), cluster: None, frames: &none };
    live.conclude(&evidence)
}

#[test]
fn watching_counts_what_the_whole_counts() {
    for kind in [0, 2] {
        for stage in 0..7 {
            let mut lab = Lab::new(60);
            // The clocks of the nodes differ by an hour.
            lab.case.clocks = vec![
                ClockFact { node: "worker-1".to_owned(), offset: 0, error: 100_000 },
                ClockFact { node: "worker-2".to_owned(), offset: 3_600 * SECOND, error: 100_000 },
            ];
            lab.set_offset(3_600 * SECOND);
            let lab = lossy_in(lab, kind, 1_000, 50, stage, 5_000_000);
            let mut sent = 0;
            let live = watch(&lab, 60, |_, live| {
                let so_far = live.snapshot().routes[0].sent;
                assert!(so_far >= sent, "counts only grow");
                sent = so_far;
            });
            let shown = live.snapshot();
            let whole = lab.analyse();
            assert_eq!(answer(&shown), answer(&whole), "kind {kind} stage {stage}");
            let concluded = conclude(&lab, live);
            for findings in [&shown, &concluded] {
                assert_eq!(
                    (findings.verdict.sent, findings.verdict.lost),
                    (1_000, 20),
                    "kind {kind} {stage}"
                );
                for (shown, counted) in findings.routes[0].stages.iter().zip(&whole.routes[0].stages) {
                    assert_eq!((shown.entered, shown.lost), (counted.entered, counted.lost));
                }
            }
        }
    }
}

#[test]
fn the_first_loss_is_known_soon_and_when_it_was() {
    let mut lab = Lab::new(60);
    for index in 0..400_u32 {
        let lost = (index == 300).then_some(3);
        lab.send(Direction::Forward, &loads(0, index), START + i64::from(index) * SECOND / 100, lost);
    }
    // Nothing comes after the fourth second: time alone goes on.
    let mut known = None;
    watch(&lab, 20, |now, live| {
        if let Some(at) = live.first_loss()
            && known.is_none()
        {
            known = Some((now, at));
        }
    });
    let (when, at) = known.expect("it was lost");
    assert_eq!(at, START + 3 * SECOND);
    assert!((5.0..6.5).contains(&when), "known {when} s after the beginning");
}

#[test]
fn what_is_under_way_at_the_end_is_not_lost() {
    let mut lab = Lab::new(10);
    for index in 0..1_000_u32 {
        let lost = (index > 990).then_some(2);
        lab.send(Direction::Forward, &loads(0, index), START + i64::from(index) * SECOND / 100, lost);
    }
    let live = watch(&lab, 10, |_, _| {});
    let findings = conclude(&lab, live);
    assert_eq!(answer(&findings).0, Outcome::Delivered);
    assert_eq!((findings.routes[0].sent, findings.routes[0].unjudged), (991, 9));
}

/// Behind the loss only a handshake was seen: what a segment is cut into is not to be learnt from that.
#[test]
fn a_segment_that_is_sent_four_times_is_four_packets_whatever_passed_before() {
    for first in [1, 100] {
        let mut lab = Lab::new(6);
        lab.send(Direction::Forward, &Load::Tcp { seq: 1000, len: first }, START + SECOND, None);
        for again in 0..4 {
            let time = START + 2 * SECOND + again * SECOND / 4;
            lab.send(Direction::Forward, &Load::Tcp { seq: 5000, len: 1400 }, time, Some(3));
        }
        let found = lab.analyse();
        assert_eq!((found.verdict.sent, found.verdict.lost), (5, 4), "after {first} bytes");
    }
}

/// Twenty short datagrams in a second, all of which arrive.
fn short_ones() -> Lab {
    let mut lab = Lab::new(6);
    for seq in 0..20_u16 {
        let short = Load::Udp { id: 500 + seq, payload: vec![seq.to_le_bytes()[0]; 60] };
        lab.send(Direction::Forward, &short, START + SECOND + i64::from(seq) * SECOND / 20, None);
    }
    lab
}

/// A card may cut large datagrams, and their pieces are not followed; where there are no pieces, nothing is said to have arrived.
#[test]
fn large_datagrams_that_vanish_without_a_piece_are_not_delivered() {
    let mut lab = short_ones();
    for seq in 0..20 {
        let large = Load::Udp { id: 100 + seq, payload: vec![7; 8000] };
        lab.send(Direction::Forward, &large, START + SECOND + i64::from(seq) * SECOND / 20 + 1_000, Some(3));
    }
    let found = lab.analyse();
    assert_eq!(found.verdict.outcome, Outcome::Inconclusive, "{:?}", found.verdict);
}

/// That the only lost packet is the longest one is chance.
#[test]
fn one_lost_packet_tells_nothing_of_its_size() {
    let mut lab = short_ones();
    let longer = Load::Udp { id: 100, payload: vec![7; 1200] };
    lab.send(Direction::Forward, &longer, START + SECOND + 1_000, Some(3));
    let found = lab.analyse();
    assert_eq!((found.verdict.outcome, found.verdict.lost), (Outcome::Dropped, 1));
    assert!(found.causes.iter().all(|cause| cause.kind != "underlay_mtu"), "{:?}", found.causes);
}

/// A traceroute beside, and a sender that learns the path's MTU: neither is why other packets do not come out on the other node.
#[test]
fn errors_about_other_packets_explain_nothing() {
    use etherparse::Icmpv4Type::{DestinationUnreachable, TimeExceeded};
    use etherparse::icmpv4::{DestUnreachableHeader, TimeExceededCode};
    let too_long = DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1_450 };
    let errors = [
        ("ttl_expired", TimeExceeded(TimeExceededCode::TtlExceededInTransit)),
        ("mtu", DestinationUnreachable(too_long)),
    ];
    for (kind, error) in errors {
        let mut lab = short_ones();
        let refused = Load::Udp { id: 9, payload: vec![3; 1_460] };
        lab.refuse(&refused, error, START + SECOND / 2);
        for index in 0..20 {
            lab.send(
                Direction::Forward,
                &loads(2, index),
                START + 2 * SECOND + i64::from(index) * SECOND / 20,
                Some(5),
            );
        }
        let found = lab.analyse();
        assert_eq!(
            answer(&found),
            (Outcome::Dropped, Direction::Forward, Some(StageKind::Deliver)),
            "{kind}"
        );
        assert_eq!(found.errors.len(), 1, "{kind}: {:?}", found.errors);
        assert!(found.causes.iter().all(|cause| cause.kind != kind), "{:?}", found.causes);
    }
}

/// Captures at the NICs too short for what is inside the tunnel recognise nothing: the loss may be behind them.
#[test]
fn frames_cut_before_the_inner_header_make_their_point_unsure() {
    let mut lab = short_ones();
    for index in 0..20 {
        lab.send(
            Direction::Forward,
            &loads(2, index),
            START + 2 * SECOND + i64::from(index) * SECOND / 20,
            Some(3),
        );
    }
    for taken in lab.taken.iter_mut().filter(|taken| matches!(taken.point.0, 3 | 4)) {
        taken.bytes.truncate(100);
    }
    let place = lab.analyse().verdict.place.expect("packets were lost");
    assert_eq!(
        (place.from, place.to),
        (PointId(2), Some(PointId(4))),
        "the tunnel device, and the other node's NIC"
    );
}

/// Thirty queries to a Service, one after the other. Those of `to_server` go to the server, all others to another pod; packets of
/// `answered` are answered.
fn through_service(
    to_server: impl Fn(u16) -> bool,
    answered: impl Fn(u16) -> bool,
    lost: impl Fn(u16) -> Option<usize>,
) -> Lab {
    let mut lab = Lab::new(10);
    lab.case.aliases.to.push(SERVICE.into());
    for port in 40_000..40_030 {
        let load = Load::Query { port };
        let time = START + SECOND + i64::from(port - 40_000) * SECOND / 10;
        let from = lab.taken.len();
        if to_server(port) {
            lab.send(Direction::Forward, &load, time, lost(port));
        } else {
            lab.send(Direction::Forward, &load, time, Some(1));
        }
        if answered(port) && to_server(port) {
            lab.send(Direction::Reply, &load, time + SECOND / 100, None);
        } else if answered(port) {
            lab.see(Direction::Reply, 6, &load, time + SECOND / 100);
            lab.see(Direction::Reply, 7, &load, time + SECOND / 100 + 1_000);
        }
        for taken in lab.taken[from..].iter_mut().filter(|taken| taken.point.0 < 2) {
            as_service(&mut taken.bytes);
        }
    }
    lab
}

fn is_even(port: u16) -> bool {
    port.is_multiple_of(2)
}

#[test]
fn what_another_pod_behind_the_service_answers_is_not_lost() {
    let found = through_service(is_even, |_| true, |_| None).analyse();
    assert_eq!(answer(&found), (Outcome::Delivered, Direction::Forward, None), "{:?}", found.warnings);
    assert_eq!(found.routes.iter().map(|route| route.sent).collect::<Vec<_>>(), [15, 15]);
    let found =
        through_service(is_even, |port| port != 40_010, |port| (port == 40_010).then_some(3)).analyse();
    assert_eq!(answer(&found), (Outcome::Dropped, Direction::Forward, Some(StageKind::Underlay)));
    assert_eq!((found.verdict.sent, found.verdict.lost), (15, 1));
}

/// Of queries that nobody answers it is not known whom they went to, unless connection tracking tells.
#[test]
fn what_nobody_answers_behind_a_service_is_lost_or_anothers() {
    let lab = through_service(is_even, is_even, |_| None);
    let found = lab.analyse();
    assert_eq!(found.verdict.outcome, Outcome::Inconclusive, "{:?}", found.verdict);
    let listed = |which: &dyn Fn(u16) -> bool| {
        let entry = |port: u16| {
            let to = if is_even(port) { "10.244.2.2" } else { "10.244.3.3" };
            format!(
                "udp 17 25 src=10.244.1.2 dst=10.96.0.10 sport={port} dport=53 src={to} dst=10.244.1.2 sport=53 dport={port} use=1\n"
            )
        };
        let text = (40_000..40_030).filter(|port| which(*port)).map(entry).collect();
        let mut lab = lab.clone();
        lab.case.conntrack.push(ConntrackText { node: "worker-1".to_owned(), text });
        lab.analyse()
    };
    assert_eq!(listed(&|_| true).verdict.outcome, Outcome::Delivered);
    // What got no entry did not leave its node.
    let found = listed(&is_even);
    assert_eq!(answer(&found), (Outcome::Dropped, Direction::Forward, Some(StageKind::Forward)));
    assert_eq!((found.verdict.sent, found.verdict.lost), (30, 15));
}

/// Nothing behind a Service is translated: all is lost, although others may share its address.
#[test]
fn a_service_that_leads_nowhere_loses_all() {
    let found = through_service(|_| false, |_| false, |_| None).analyse();
    assert_eq!(answer(&found), (Outcome::Dropped, Direction::Forward, Some(StageKind::Forward)));
    assert_eq!((found.verdict.sent, found.verdict.lost), (30, 30));
}

/// Equal datagrams without an IP identification, one lost on the way: those after it do not take its place.
#[test]
fn a_loss_among_equal_packets_is_told_from_those_after_it() {
    for gap in [2, 30] {
        let n = 6_000 / gap;
        let mut lab = Lab::new(6);
        for index in 0..n {
            let lost = (index == n / 3).then_some(3);
            lab.send(Direction::Forward, &loads(1, 0), START + i64::from(index * gap) * 1_000_000, lost);
        }
        let found = lab.analyse();
        assert_eq!(
            answer(&found),
            (Outcome::Dropped, Direction::Forward, Some(StageKind::Underlay)),
            "every {gap} ms"
        );
        assert_eq!(found.verdict.lost, 1, "every {gap} ms");
    }
}
