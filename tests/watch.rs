//! What a trace shows while it goes on, exactly: the table for a terminal and the lines for everything else.

mod support;

use support::{Lab, Load, SECOND, START};
use trace_drop::analyze::live::Live;
use trace_drop::evidence::Direction;
use trace_drop::packet::{Nanos, Timestamp};
use trace_drop::report::{self, Style};

/// Echo requests ten times a second; from the fifth second on every fifth vanishes between the NICs, and from the
/// eighth on the answers vanish.
fn traffic() -> Lab {
    let mut lab = Lab::new(60);
    for seq in 0..120_u16 {
        let time = START + i64::from(seq) * SECOND / 10;
        let lost = seq >= 50 && seq % 5 == 0;
        lab.send(Direction::Forward, &Load::Echo { seq, reply: false }, time, lost.then_some(3));
        if !lost {
            let unheard = (seq >= 80).then_some(1);
            lab.send(Direction::Reply, &Load::Echo { seq, reply: true }, time + SECOND / 100, unheard);
        }
    }
    lab.taken.sort_by_key(|taken| taken.time);
    lab
}

#[test]
fn lines_and_table() {
    let lab = traffic();
    let mut live = Live::new(lab.case.clone(), Nanos::from_millis(1_000));
    let mut waiting = lab.taken.iter().peekable();
    let mut shown = vec![report::line(&live.snapshot(), Timestamp(START))];
    for second in 1..=16 {
        let now = START + second * SECOND;
        while let Some(taken) = waiting.next_if(|taken| taken.time <= now) {
            live.take(taken.point, &taken.frame());
        }
        live.advance(now);
        shown.push(report::line(&live.snapshot(), Timestamp(now)));
    }
    insta::assert_snapshot!("lines", shown.join("\n"));
    let table = report::table(&live.snapshot(), 3_723, Style::default()).expect("written to memory");
    insta::assert_snapshot!("table", table);
    assert!(!table.contains('\x1b') && !shown.concat().contains('\x1b'), "no escapes");
}

#[test]
fn before_the_first_packet() {
    let live = Live::new(Lab::new(60).case, Nanos::from_millis(1_000));
    let table = report::table(&live.snapshot(), 1, Style { color: true, verbose: false });
    insta::assert_snapshot!("table_empty", table.expect("written to memory"));
}
