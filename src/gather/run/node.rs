//! One node of a trace: a task that starts its agent, greets it, and then passes orders in and news out until one side ends. The
//! first order is the agent's work.

use std::time::Duration;

use tokio::sync::mpsc::{Sender, UnboundedReceiver};
use tokio::time::interval;

use crate::evidence::ClockFact;
use crate::evidence::case::NodeFacts;
use crate::gather::agent::client::{Agent, AgentError, Reach};
use crate::gather::agent::wire::{FromAgent, Received, ToAgent};

/// What a node's task tells.
#[derive(Debug)]
pub(super) enum News {
    /// The agent answers, and its clock.
    Reached(ClockFact),
    /// From the agent.
    Said(FromAgent),
    /// Frames.
    Frames(Vec<u8>),
    /// There will be nothing more.
    Lost(AgentError),
}

/// How often the agent is told that somebody is here.
pub(super) const ALIVE: Duration = Duration::from_secs(2);

/// Attends to one node until its agent is done or lost, or nobody gives orders any more. News carry the node's
/// number.
pub(super) async fn attend(
    number: usize,
    reach: Reach,
    node: NodeFacts,
    mut orders: UnboundedReceiver<ToAgent>,
    news: Sender<(usize, News)>,
) {
    let started = tokio::select! {
        started = Agent::start(&reach, &node) => started,
        // Nobody waits any more: orders come only to who was reached.
        _ = orders.recv() => return,
    };
    let mut agent = match started {
        Ok(agent) => agent,
        Err(error) => {
            let _ = news.send((number, News::Lost(error))).await;
            return;
        }
    };
    if let Err(error) = converse(number, &mut agent, &mut orders, &news).await {
        let _ = news.send((number, News::Lost(error))).await;
    }
    agent.leave().await;
}

async fn converse(
    number: usize,
    agent: &mut Agent,
    orders: &mut UnboundedReceiver<ToAgent>,
    news: &Sender<(usize, News)>,
) -> Result<(), AgentError> {
    let clock = tokio::select! {
        clock = agent.greet() => clock?,
        // As before.
        _ = orders.recv() => return Ok(()),
    };
    let _ = news.send((number, News::Reached(clock))).await;
    let mut alive = interval(ALIVE);
    // An agent without work says nothing by itself.
    let work = loop {
        tokio::select! {
            _ = alive.tick() => agent.say(&ToAgent::Alive).await,
            order = orders.recv() => match order {
                Some(order) => break order,
                None => return Ok(()),
            },
        }
    };
    agent.say(&work).await;
    loop {
        let received = tokio::select! {
            _ = alive.tick() => {
                agent.say(&ToAgent::Alive).await;
                continue;
            }
            received = agent.next() => received?,
            order = orders.recv() => match order {
                Some(order) => {
                    agent.say(&order).await;
                    continue;
                }
                None => return Ok(()),
            },
        };
        let told = match received {
            Received::Batch(frames) => News::Frames(frames),
            Received::Message(FromAgent::Alive) => continue,
            Received::Message(message) => News::Said(message),
        };
        let done = matches!(told, News::Said(FromAgent::Done));
        if news.send((number, told)).await.is_err() || done {
            return Ok(());
        }
    }
}
