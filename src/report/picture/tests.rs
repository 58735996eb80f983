//! Shapes of paths that the saved cases do not have: both pods on one node, nodes between, points that were not
//! captured; and names that would leave their place.

use super::draw;
use super::layout::Layout;
use crate::analyze::findings::{Account, Confidence, Findings, Outcome, Verdict};
use crate::evidence::{Case, Direction};

/// A case over `points`, each `node/interface`; the first end on the first node, the other on the last.
fn case(points: &[(&str, &str)]) -> Case {
    let (first, last) = (points[0].0, points[points.len() - 1].0);
    let all: Vec<_> = points
        .iter()
        .map(|(node, interface)| {
            serde_json::json!({"id": format!("{node}/{interface}"), "node": node, "interface": interface,
                "role": "nic", "state": {"unreadable": "no such <interface>"}})
        })
        .collect();
    let order: Vec<usize> = (0..points.len()).collect();
    serde_json::from_value(serde_json::json!({
        "from": {"name": "a/<script>alert(1)</script>\u{202e}\u{1}", "address": "10.0.0.1", "node": first},
        "to": {"name": "a/b", "address": "10.0.0.2", "node": last},
        "points": all,
        "paths": [{"direction": "forward", "points": order, "stages": vec!["forward"; points.len() - 1]}],
    }))
    .expect("a case")
}

fn picture(case: &Case) -> String {
    let findings = Findings {
        case: case.clone(),
        frames: vec![0; case.points.len()],
        routes: Vec::new(),
        verdict: Verdict {
            outcome: Outcome::NoTraffic,
            direction: Direction::Forward,
            place: None,
            sent: 0,
            lost: 0,
            confidence: Confidence::Confirmed,
            doubts: Vec::new(),
        },
        causes: Vec::new(),
        translations: Vec::new(),
        errors: Vec::new(),
        clock: None,
        warnings: Vec::new(),
        account: Account::default(),
    };
    draw(&findings, None).into_string()
}

/// Nothing stands on something else, and all of it is inside the picture.
fn stands_apart(case: &Case) {
    let layout = Layout::of(case);
    let boxes: Vec<_> =
        layout.points.iter().map(|(_, place)| *place).chain(layout.ends.iter().map(|end| end.1)).collect();
    for (number, a) in boxes.iter().enumerate() {
        assert!(a.x >= 0 && a.y >= 0, "{a:?}");
        assert!(a.x + a.width <= layout.width && a.y + a.height <= layout.height, "{a:?} in {layout:?}");
        for b in &boxes[number + 1..] {
            let apart = a.x + a.width <= b.x
                || b.x + b.width <= a.x
                || a.y + a.height <= b.y
                || b.y + b.height <= a.y;
            assert!(apart, "{a:?} and {b:?} in {layout:?}");
        }
    }
}

#[test]
fn any_path_has_room() {
    let node = |name, n: usize| -> Vec<(&'static str, &'static str)> {
        ["i0", "i1", "i2", "i3"].into_iter().take(n).map(|interface| (name, interface)).collect()
    };
    for (left, right, between) in
        [(4, 4, 0), (1, 4, 0), (4, 1, 0), (1, 1, 0), (2, 2, 1), (1, 3, 2), (4, 1, 3)]
    {
        let points = [node("a", left), node("m", between), node("z", right)].concat();
        stands_apart(&case(&points));
    }
    for n in 1..=4 {
        let one = case(&node("a", n));
        stands_apart(&one);
        assert_eq!(Layout::of(&one).nodes.len(), 1, "both ends on one node share its box");
    }
}

#[test]
fn names_stay_text() {
    let drawn = picture(&case(&[("a", "x"), ("b", "y")]));
    assert!(!drawn.contains("<script"), "{drawn}");
    assert!(drawn.contains("&lt;script&gt;"), "{drawn}");
    assert!(!drawn.contains(['\u{1}', '\u{202e}']), "{drawn}");
    assert!(drawn.contains("not captured") && drawn.contains("no such &lt;interface&gt;"), "{drawn}");
}
