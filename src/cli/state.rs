//! `--state`: what others collected of nodes, added to captures or to a case.

use super::{Failure, complain};
use crate::evidence::foreign::{Given, collect};
use crate::evidence::{Case, Texts};

/// Adds it, and says what was recognised.
pub(super) fn add(given: &[Given], case: &mut Case, texts: &mut Texts, quiet: bool) -> Result<(), Failure> {
    if given.is_empty() {
        return Ok(());
    }
    let known = |name: &str| {
        case.nodes.iter().any(|node| node.name == name) || case.points.iter().any(|point| point.node == name)
    };
    if let Some(other) = given.iter().find(|given| !known(&given.node)) {
        let mut nodes: Vec<&str> = case.points.iter().map(|point| point.node.as_str()).collect();
        nodes.sort_unstable();
        nodes.dedup();
        return Err(Failure::usage(format!(
            "--state: no point is on a node {:?}; the captures are of {}",
            other.node,
            nodes.join(", ")
        )));
    }
    let collected = collect(given).map_err(Failure::work)?;
    for note in collected.complete(case, texts) {
        if !quiet {
            complain(&note);
        }
    }
    Ok(())
}
