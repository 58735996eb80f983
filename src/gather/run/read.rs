//! Reads what tools on the nodes print, once and without capturing: takes nodes and how they are reached, gives the same
//! texts that a trace keeps. A node that cannot be reached is told of and left out.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::interval;

use super::end::Interrupts;
use super::node::ALIVE;
use super::{Event, GatherError};
use crate::evidence::case::NodeFacts;
use crate::evidence::plan::{Find, Plan};
use crate::evidence::{ClockFact, Text, Texts};
use crate::gather::agent::client::{Agent, AgentError, Reach};
use crate::gather::agent::wire::{FromAgent, Reading, Received, ToAgent};
use crate::gather::filter::Pair;

/// What to read.
#[derive(Debug, Clone)]
pub(crate) struct ReadRequest {
    /// The nodes.
    pub(crate) nodes: Vec<NodeFacts>,
    /// How they are reached.
    pub(crate) reach: Reach,
    /// Pods to enter, as node and [`Find::InsidePod`]; their texts are `pod:…`, a second one's of a node `pod2:…`.
    pub(crate) pods: Vec<(String, Find)>,
    /// Whose connections of connection tracking; none are read without it.
    pub(crate) pair: Option<Pair>,
}

/// What was read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    /// The texts, all of them [`When::Before`](crate::evidence::When::Before), in the order of the nodes asked for.
    pub(crate) texts: Texts,
    /// The clocks of the nodes that answered.
    pub(crate) clocks: Vec<ClockFact>,
    /// Nodes that could not be read, and why. Each was told as a warning too.
    pub(crate) unreached: Vec<(String, String)>,
}

/// So many nodes are read at a time.
const AT_ONCE: usize = 16;

impl ReadRequest {
    /// Both nodes of a planned trace, its pods where the plan enters them, and the connections of its ends.
    pub(crate) fn of_plan(plan: &Plan, reach: Reach) -> Self {
        let inside = plan.points.iter().filter(|point| matches!(point.find, Find::InsidePod { .. }));
        Self {
            nodes: plan.nodes.iter().filter(|node| node.on_path).cloned().collect(),
            reach,
            pods: inside.map(|point| (point.node.clone(), point.find.clone())).collect(),
            pair: Some(Pair::of(plan)),
        }
    }
}

/// Reads all nodes, some at a time. Fails when interrupted or when not one node could be read.
pub(crate) fn read(request: &ReadRequest, events: &mut dyn FnMut(Event)) -> Result<Snapshot, GatherError> {
    super::wait(&request.reach, read_all(request, events))
}

async fn read_all(request: &ReadRequest, events: &mut dyn FnMut(Event)) -> Result<Snapshot, GatherError> {
    let mut interrupts = Interrupts::watch().map_err(GatherError::Runtime)?;
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    for (number, node) in request.nodes.iter().cloned().enumerate() {
        let pods = request.pods.iter().filter(|(on, _)| *on == node.name).map(|(_, find)| find.clone());
        let reading = Reading { node: node.name.clone(), pods: pods.collect(), pair: request.pair.clone() };
        let (reach, turns) = (request.reach.clone(), Arc::clone(&turns));
        tasks.spawn(async move {
            // The semaphore is never closed.
            let _turn = turns.acquire_owned().await;
            (number, node.name.clone(), read_node(&reach, &node, reading).await)
        });
    }
    let mut read: Vec<(usize, ClockFact, Vec<Text>)> = Vec::new();
    let mut snapshot = Snapshot::default();
    loop {
        let ended = tokio::select! {
            ended = tasks.join_next() => ended,
            () = interrupts.next() => return Err(GatherError::Interrupted),
        };
        match ended {
            None => break,
            Some(Ok((number, _, Ok((clock, texts))))) => {
                events(Event::Reached(clock.clone()));
                read.push((number, clock, texts));
            }
            Some(Ok((_, node, Err(error)))) => {
                events(Event::Warning(error.to_string()));
                snapshot.unreached.push((node, error.to_string()));
            }
            Some(Err(error)) => events(Event::Warning(format!("reading a node ended early: {error}"))),
        }
    }
    if read.is_empty() && !request.nodes.is_empty() {
        return Err(GatherError::NothingRead(snapshot.unreached.into_iter().map(|(_, why)| why).collect()));
    }
    read.sort_by_key(|(number, ..)| *number);
    for (_, clock, texts) in read {
        snapshot.clocks.push(clock);
        snapshot.texts.0.extend(texts);
    }
    Ok(snapshot)
}

async fn read_node(
    reach: &Reach,
    node: &NodeFacts,
    reading: Reading,
) -> Result<(ClockFact, Vec<Text>), AgentError> {
    let mut agent = Agent::start(reach, node).await?;
    let read = converse(&mut agent, reading).await;
    agent.leave().await;
    read
}

async fn converse(agent: &mut Agent, reading: Reading) -> Result<(ClockFact, Vec<Text>), AgentError> {
    let clock = agent.greet().await?;
    agent.say(&ToAgent::Read(reading)).await;
    let mut texts = Vec::new();
    let mut alive = interval(ALIVE);
    loop {
        let received = tokio::select! {
            _ = alive.tick() => {
                agent.say(&ToAgent::Alive).await;
                continue;
            }
            received = agent.next() => received?,
        };
        match received {
            Received::Message(FromAgent::Text(text)) => texts.push(text),
            Received::Message(FromAgent::Done) => return Ok((clock, texts)),
            Received::Message(_) | Received::Batch(_) => {}
        }
    }
}
