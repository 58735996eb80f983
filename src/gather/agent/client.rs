//! The tracing side's end of an agent: starts it, on this host or through the `--reach` command, in a process group
//! of its own so that Ctrl-C does not reach it, or in a pod of its own, and exchanges frames with it. Every failure
//! says how the node was reached, what became of the command and what it wrote to its standard error.

use std::net::IpAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::{timeout, timeout_at};

use super::wire::{self, Decoder, FromAgent, Received, ToAgent, WireError};
use crate::evidence::ClockFact;
use crate::evidence::case::NodeFacts;
use crate::gather::clock::{instant, now};
use crate::gather::kubernetes::pods::{PodAgent, PodError, Pods};

/// How agents are started.
#[derive(Debug, Clone)]
pub(crate) struct Reach {
    /// The `--reach` command with `{node}` and `{address}` in it.
    pub(crate) template: Option<String>,
    /// Without a command: pods on all nodes but this very host. Without either only this host can be reached.
    pub(crate) pods: Option<Arc<Pods>>,
    /// The agent's own command line.
    pub(crate) agent: Vec<String>,
}

/// Why an agent could not be started or is no longer there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentError {
    /// Nothing says how to get there.
    #[error(
        "cannot reach node {node}: there is no API server and no --reach command, and this host is not {node} (none of {addresses} is \
         an address of this host, and its name is {host}); give --reach 'ssh root@{{address}}' or the like"
    )]
    NoWay {
        /// Node.
        node: String,
        /// Its addresses.
        addresses: String,
        /// This host's name.
        host: String,
    },
    /// No agent pod.
    #[error("cannot reach node {node}: {source}")]
    Pod {
        /// Node.
        node: String,
        /// Why.
        source: Box<PodError>,
    },
    /// The template makes no command.
    #[error("cannot reach node {node}: what --reach says is no command: {why}")]
    Template {
        /// Node.
        node: String,
        /// What is wrong.
        why: String,
    },
    /// The command could not be run.
    #[error("cannot reach node {node}: running `{command}` failed: {source}")]
    Spawn {
        /// Node.
        node: String,
        /// What was run.
        command: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It ended before its time.
    #[error("lost node {node} {stage}: `{command}` ended ({status}){said}")]
    Ended {
        /// Node.
        node: String,
        /// When.
        stage: &'static str,
        /// What was run.
        command: String,
        /// Exit status or signal.
        status: String,
        /// The tail of its standard error.
        said: String,
    },
    /// It lives but says nothing.
    #[error("lost node {node} {stage}: nothing came from `{command}` for {seconds} s{said}")]
    Silent {
        /// Node.
        node: String,
        /// When.
        stage: &'static str,
        /// What was run.
        command: String,
        /// How long.
        seconds: u64,
        /// The tail of its standard error.
        said: String,
    },
    /// Something else than an agent answers.
    #[error("cannot talk to node {node} through `{command}`: {source}{said}")]
    Wire {
        /// Node.
        node: String,
        /// What was run.
        command: String,
        /// What is wrong with the bytes.
        #[source]
        source: WireError,
        /// The tail of its standard error.
        said: String,
    },
    /// The agent says itself that it cannot go on.
    #[error("the agent on node {node} gave up: {why}")]
    GaveUp {
        /// Node.
        node: String,
        /// Its words.
        why: String,
    },
}

/// An agent that was started.
pub(crate) struct Agent {
    node: String,
    command: String,
    body: Body,
    input: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    output: Box<dyn AsyncRead + Send + Unpin>,
    decoder: Decoder,
    complaint: Arc<Mutex<Vec<u8>>>,
    complaining: JoinHandle<()>,
    /// Since when something is waited for, whoever waits.
    waiting: Option<Instant>,
}

/// What the agent runs in.
enum Body {
    Process(Child),
    Pod(Arc<Pods>, Box<PodAgent>),
}

/// How long a node has to answer at first: an ssh login may take a while.
const GREETING: Duration = Duration::from_secs(20);
/// An agent says every half second that it lives; after this long without a word it counts as lost.
const SILENCE: Duration = Duration::from_secs(6);
/// Round trips for the clock.
const PINGS: u64 = 8;
/// How long an agent has to leave by itself.
const LEAVING: Duration = Duration::from_millis(1500);
/// When a node was lost, in words.
const AT_FIRST: &str = "before it had answered";
const AT_WORK: &str = "at work";
/// How much of its standard error is kept.
const COMPLAINT: usize = 2 << 10;

impl Agent {
    /// Starts the agent for a node: the command, or a pod. May be dropped while it waits; a pod that was made by then is
    /// taken away.
    pub(crate) async fn start(reach: &Reach, node: &NodeFacts) -> Result<Self, AgentError> {
        if let (None, Some(pods), false) = (&reach.template, &reach.pods, is_this_host(node)) {
            let refused = |source| AgentError::Pod { node: node.name.clone(), source: Box::new(source) };
            let mut pod = pods.start(&node.name).await.map_err(refused)?;
            let command = format!("pod {}", pod.name);
            let Some((input, output, errors)) = pod.streams() else {
                let source = std::io::Error::other("its streams were not made");
                return Err(AgentError::Spawn { node: node.name.clone(), command, source });
            };
            let body = Body::Pod(Arc::clone(pods), Box::new(pod));
            return Ok(Self::new(node, command, body, (Box::new(input), Box::new(output), errors)));
        }
        let words = command_for(reach, node)?;
        let command = told(&words);
        let failed = |source| AgentError::Spawn { node: node.name.clone(), command: command.clone(), source };
        let mut child = spawn(&words).map_err(failed)?;
        let (Some(input), Some(output), Some(errors)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(failed(std::io::Error::other("its pipes were not made")));
        };
        Ok(Self::new(node, command, Body::Process(child), (Box::new(input), Box::new(output), errors)))
    }

    fn new<E: AsyncRead + Send + Unpin + 'static>(
        node: &NodeFacts,
        command: String,
        body: Body,
        (input, output, errors): (Box<dyn AsyncWrite + Send + Unpin>, Box<dyn AsyncRead + Send + Unpin>, E),
    ) -> Self {
        let complaint = Arc::<Mutex<Vec<u8>>>::default();
        Self {
            node: node.name.clone(),
            command,
            body,
            input: Some(input),
            output,
            decoder: Decoder::default(),
            complaining: tokio::spawn(keep_tail(errors, Arc::clone(&complaint))),
            complaint,
            waiting: None,
        }
    }

    /// Exchanges greetings and measures the clock: the quickest of some round trips tells the offset best.
    pub(crate) async fn greet(&mut self) -> Result<ClockFact, AgentError> {
        let deadline = tokio::time::Instant::from_std(instant() + GREETING);
        self.send(&wire::greeting()).await;
        let mut best: Option<(i64, i64)> = None;
        for ping in 0..PINGS {
            let asked = now();
            self.say(&ToAgent::Ping(ping)).await;
            let answer = match timeout_at(deadline, self.answer(ping)).await {
                Ok(answer) => answer?,
                Err(_) => return Err(self.silent(AT_FIRST, GREETING).await),
            };
            let answered = now();
            let round_trip = answered - asked;
            if best.is_none_or(|(least, _)| round_trip < least) {
                best = Some((round_trip, answer - (asked + round_trip / 2)));
            }
        }
        let (round_trip, offset) = best.unwrap_or_default();
        let error = round_trip / 2 + 1;
        // A difference within its own error is none: nodes that share a clock should not be moved apart.
        let offset = if offset.abs() <= error { 0 } else { offset };
        Ok(ClockFact { node: self.node.clone(), offset, error })
    }

    /// Tells the agent something. That it cannot be told shows in what comes from it: an end or silence.
    pub(crate) async fn say(&mut self, message: &ToAgent) {
        self.send(&wire::control(message)).await;
    }

    /// What the agent says next. May be dropped and called again without losing anything, also not the patience.
    pub(crate) async fn next(&mut self) -> Result<Received<FromAgent>, AgentError> {
        let received = self.wait().await;
        self.waiting = None;
        received
    }

    async fn wait(&mut self) -> Result<Received<FromAgent>, AgentError> {
        loop {
            let since = *self.waiting.get_or_insert_with(instant);
            let deadline = tokio::time::Instant::from_std(since + SILENCE);
            match self.decoder.next() {
                Ok(Some(Received::Message(FromAgent::Failed(why)))) => {
                    return Err(AgentError::GaveUp { node: self.node.clone(), why });
                }
                Ok(Some(received)) => return Ok(received),
                Ok(None) => {}
                Err(source) => return Err(self.garbled(source).await),
            }
            match timeout_at(deadline, self.output.read_buf(self.decoder.room())).await {
                Ok(Ok(0) | Err(_)) => return Err(self.ended().await),
                Ok(Ok(_)) => self.waiting = None,
                Err(_) => return Err(self.silent(AT_WORK, SILENCE).await),
            }
        }
    }

    /// Lets the agent go: its input ends, which ends it; what is left of its process group is ended after a while, and
    /// its pod deleted.
    pub(crate) async fn leave(mut self) {
        self.input = None;
        match self.body {
            Body::Process(mut child) => {
                let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
                if timeout(LEAVING, child.wait()).await.is_err()
                    && let Some(group) = group
                {
                    let _ = killpg(group, Signal::SIGKILL);
                    let _ = child.wait().await;
                }
            }
            Body::Pod(pods, pod) => pods.delete(*pod).await,
        }
        self.complaining.abort();
    }

    async fn send(&mut self, bytes: &[u8]) {
        let Some(input) = &mut self.input else { return };
        let written = timeout(SILENCE, async {
            input.write_all(bytes).await?;
            input.flush().await
        });
        if !matches!(written.await, Ok(Ok(()))) {
            self.input = None;
        }
    }

    async fn answer(&mut self, ping: u64) -> Result<i64, AgentError> {
        loop {
            match self.decoder.next() {
                Ok(Some(Received::Message(FromAgent::Pong { ping: theirs, time }))) if theirs == ping => {
                    return Ok(time);
                }
                Ok(Some(Received::Message(FromAgent::Failed(why)))) => {
                    return Err(AgentError::GaveUp { node: self.node.clone(), why });
                }
                Ok(Some(_)) => {}
                Err(source) => return Err(self.garbled(source).await),
                Ok(None) => match self.output.read_buf(self.decoder.room()).await {
                    Ok(0) | Err(_) => return Err(self.ended().await),
                    Ok(_) => {}
                },
            }
        }
    }

    /// The command has ended, or at least its output.
    async fn ended(&mut self) -> AgentError {
        self.input = None;
        let still = || "its output is closed but it still runs".to_owned();
        let status = match &mut self.body {
            Body::Process(child) => match timeout(LEAVING, child.wait()).await {
                Ok(Ok(status)) => status.to_string(),
                Ok(Err(error)) => error.to_string(),
                Err(_) => still(),
            },
            Body::Pod(_, pod) => timeout(LEAVING, pod.fate()).await.unwrap_or_else(|_| still()),
        };
        let _ = timeout(Duration::from_millis(200), &mut self.complaining).await;
        let stage = if self.decoder.greeted() { AT_WORK } else { AT_FIRST };
        let node = self.node.clone();
        AgentError::Ended {
            node,
            stage,
            command: self.command.clone(),
            status,
            said: self.said() + &self.printed(),
        }
    }

    async fn silent(&mut self, stage: &'static str, limit: Duration) -> AgentError {
        let _ = timeout(Duration::from_millis(10), &mut self.complaining).await;
        AgentError::Silent {
            node: self.node.clone(),
            stage,
            command: self.command.clone(),
            seconds: limit.as_secs(),
            said: self.said() + &self.printed(),
        }
    }

    async fn garbled(&mut self, source: WireError) -> AgentError {
        let _ = timeout(Duration::from_millis(200), &mut self.complaining).await;
        AgentError::Wire { node: self.node.clone(), command: self.command.clone(), source, said: self.said() }
    }

    /// What the command wrote to its standard error.
    fn said(&self) -> String {
        let tail = self.complaint.lock().unwrap_or_else(PoisonError::into_inner);
        let tail = String::from_utf8_lossy(&tail).trim().to_owned();
        if tail.is_empty() { tail } else { format!("; it said: {tail}") }
    }

    /// What it wrote to its output in place of a greeting.
    fn printed(&self) -> String {
        let foreign = self.decoder.unread();
        if self.decoder.greeted() || foreign.is_empty() {
            return String::new();
        }
        format!("; instead of an agent's greeting it printed: {foreign}")
    }
}

#[expect(clippy::disallowed_methods, reason = "an agent is a program on another node")]
fn spawn(words: &[String]) -> std::io::Result<Child> {
    let (program, arguments) = words.split_first().ok_or(std::io::ErrorKind::InvalidInput)?;
    let mut command: Command = std::process::Command::new(program).into();
    command
        .args(arguments)
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
}

/// Reads all of a program's standard error and keeps its end.
async fn keep_tail(mut errors: impl AsyncRead + Unpin, tail: Arc<Mutex<Vec<u8>>>) {
    let mut buffer = vec![0; 4 << 10];
    while let Ok(length @ 1..) = errors.read(&mut buffer).await {
        let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.extend_from_slice(&buffer[..length]);
        let surplus = tail.len().saturating_sub(COMPLAINT);
        tail.drain(..surplus);
    }
}

/// A command as it may be told: whoever typed it knows the rest, and errors go into saved cases, where a password is not to be.
fn told(words: &[String]) -> String {
    match words {
        [program, _, .., last] => format!("{program} … {last}"),
        short => short.join(" "),
    }
}

/// The words that start an agent on a node.
fn command_for(reach: &Reach, node: &NodeFacts) -> Result<Vec<String>, AgentError> {
    let Some(template) = &reach.template else {
        return if is_this_host(node) { Ok(reach.agent.clone()) } else { Err(no_way(node)) };
    };
    let wrong = |why: &str| AgentError::Template { node: node.name.clone(), why: why.to_owned() };
    let mut words = split_words(template).map_err(wrong)?;
    if words.is_empty() {
        return Err(wrong("it is empty"));
    }
    let address = node.addresses.first().map(ToString::to_string);
    if address.is_none() && template.contains("{address}") {
        return Err(wrong("the node's address is not known"));
    }
    for word in &mut words {
        *word =
            word.replace("{node}", &node.name).replace("{address}", address.as_deref().unwrap_or_default());
    }
    words.extend(reach.agent.iter().cloned());
    Ok(words)
}

/// Splits a command into words as a shell does: blanks part them, '…' and "…" hold them together, \ takes the next
/// character as it is. Nothing is expanded: no shell is run.
fn split_words(text: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(open), letter) if letter == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => {
                let next = letters.next().ok_or("it ends with a backslash")?;
                word.get_or_insert_default().push(next);
            }
            (None, blank) if blank.is_whitespace() => words.extend(word.take()),
            (_, letter) => word.get_or_insert_default().push(letter),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed");
    }
    words.extend(word);
    Ok(words)
}

/// Whether this very host is the node: it holds one of its addresses, or bears its name.
fn is_this_host(node: &NodeFacts) -> bool {
    own_addresses().iter().any(|address| node.addresses.contains(address)) || host_name() == node.name
}

fn own_addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    interfaces
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        })
        .collect()
}

fn host_name() -> String {
    nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn no_way(node: &NodeFacts) -> AgentError {
    let addresses: Vec<String> = node.addresses.iter().map(ToString::to_string).collect();
    let addresses = if addresses.is_empty() { "its addresses".to_owned() } else { addresses.join(", ") };
    AgentError::NoWay { node: node.name.clone(), addresses, host: host_name() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> NodeFacts {
        NodeFacts { name: "n1".to_owned(), addresses: vec!["192.0.2.1".parse().unwrap()], on_path: true }
    }

    fn reach(template: &str) -> Reach {
        Reach {
            template: Some(template.to_owned()),
            pods: None,
            agent: vec!["/bin/td".to_owned(), "agent".to_owned()],
        }
    }

    #[test]
    fn words_are_split_as_a_shell_does() {
        let split = |text| split_words(text).unwrap().join("|");
        assert_eq!(split("ssh root@{address}"), "ssh|root@{address}");
        assert_eq!(split("  a  'b c' \"d \\\" e\"f \\ g ''"), "a|b c|d \" ef| g|");
        assert_eq!(split("a'\\'b"), "a\\b");
        assert_eq!(split(""), "");
        assert!(split_words("a 'b").is_err());
        assert!(split_words("a\\").is_err());
    }

    #[test]
    fn a_command_names_node_and_address() {
        let words = command_for(&reach("ip netns exec {node} env 'A={address} {node}'"), &node()).unwrap();
        assert_eq!(words, ["ip", "netns", "exec", "n1", "env", "A=192.0.2.1 n1", "/bin/td", "agent"]);
        assert!(command_for(&reach(" "), &node()).unwrap_err().to_string().contains("it is empty"));
        let unknown = NodeFacts { addresses: vec![], ..node() };
        let error = command_for(&reach("ssh {address}"), &unknown).unwrap_err().to_string();
        assert!(error.contains("address is not known"), "{error}");
    }

    #[test]
    fn arguments_of_a_command_are_not_told() {
        let words = command_for(&reach("sshpass -p hunter2 ssh {node}"), &node()).unwrap();
        assert_eq!(told(&words), "sshpass … agent");
        assert_eq!(told(&["/bin/td".to_owned(), "agent".to_owned()]), "/bin/td agent");
        let error = command_for(&reach("sshpass -p 'hunter2"), &node()).unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn without_a_command_only_this_host_can_be_reached() {
        let nowhere = Reach { template: None, pods: None, agent: vec!["td".to_owned(), "agent".to_owned()] };
        let error = command_for(&nowhere, &node()).unwrap_err().to_string();
        assert!(error.contains("this host is not n1") && error.contains("192.0.2.1"), "{error}");
        let here = NodeFacts { name: host_name(), addresses: vec![], on_path: true };
        assert_eq!(command_for(&nowhere, &here).unwrap(), ["td", "agent"]);
    }
}
