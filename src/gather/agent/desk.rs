//! The stages of an agent's work, one after the other: find the points, read the texts, listen to the kernel,
//! capture, send the probe when told, and when stopped read the texts again. Every stage is left at once when the tracing side is gone.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::pipe::Pipe;
use super::wire::{FromAgent, MOST_HEARD, Reading, ToAgent, Work, WorkPoint};
use crate::evidence::case::ProbeFacts;
use crate::evidence::kernel::KERNEL;
use crate::evidence::plan::Find;
use crate::evidence::texts::{of_pair, of_pod};
use crate::evidence::{Known, Text, When};
use crate::gather::capture::{self, Filter, News, Order, Outlet};
use crate::gather::clock::{instant, now};
use crate::gather::filter::{self, Pair};
use crate::gather::kernel::Listening;
use crate::gather::netns::{self, Located, Namespace, NetnsError};
use crate::gather::probe::{self, Probe};
use crate::gather::stop::Stop;
use crate::gather::texts::{self, Site};

/// What reaches the desk.
pub(super) enum Heard {
    /// From the tracing side.
    Message(ToAgent),
    /// The tracing side is gone.
    InputEnded,
    /// From a capture.
    Point(u16, News),
    /// From the probe of a pair.
    Probed(u16, Result<ProbeFacts, String>),
}

/// One agent's work under way.
pub(super) struct Desk {
    work: Work,
    pipe: Pipe,
    /// Set when the tracing side is gone.
    gone: Arc<AtomicBool>,
    /// Set to end the captures and the probe.
    stop: Arc<Stop>,
    ear: Sender<Heard>,
    heard: Receiver<Heard>,
    /// Points that were found, by number.
    located: BTreeMap<u16, Located>,
    /// Captures that have been started and have not ended, and those of them that have not said so yet.
    open: usize,
    silent: usize,
    /// Probes under way.
    probing: usize,
    stopping: bool,
}

/// Listening to the kernel for one pair, under way or refused.
type Ears = Vec<(u16, Result<Listening, String>)>;

/// How long captures have to begin, the more the longer, and to end.
const BEGINNING: Duration = Duration::from_secs(5);
const BEGINNING_OF_EACH: Duration = Duration::from_millis(50);
const ENDING: Duration = Duration::from_secs(2);
/// How often the agent says that it lives.
const PULSE: Duration = Duration::from_millis(500);
/// How long the last messages may take.
const FAREWELL: Duration = Duration::from_secs(5);

impl Desk {
    /// Fails when there are no file descriptors left.
    pub(super) fn new(work: Work, pipe: Pipe, gone: Arc<AtomicBool>) -> io::Result<Self> {
        let (ear, heard) = mpsc::channel();
        Ok(Self {
            work,
            pipe,
            gone,
            stop: Arc::new(Stop::new()?),
            ear,
            heard,
            located: BTreeMap::new(),
            open: 0,
            silent: 0,
            probing: 0,
            stopping: false,
        })
    }

    /// Where to tell the desk something.
    pub(super) fn ear(&self) -> Sender<Heard> {
        self.ear.clone()
    }

    /// All stages.
    pub(super) fn work(mut self) {
        let pulse = Pulse::start(self.pipe.clone());
        let node = match Namespace::here() {
            Ok(node) => node,
            Err(error) => {
                self.pipe.say(&FromAgent::Failed(error.to_string()));
                self.pipe.flush(FAREWELL);
                return;
            }
        };
        self.find();
        // Loading takes about as long as reading the texts.
        let kernel = self.begin_listening(&node);
        self.read_texts(&node, When::Before);
        let kernel = kernel.map(|loading| loading.join().unwrap_or_default());
        self.begin_captures();
        self.pipe.say(&FromAgent::Ready);
        while !self.stopping && !self.is_gone() {
            self.hear(None);
        }
        self.end_captures();
        for (_, listening) in kernel.iter().flatten() {
            if let Ok(listening) = listening {
                listening.captures_ended();
            }
        }
        self.read_texts(&node, When::After);
        self.end_listening(kernel);
        drop(pulse);
        self.pipe.say(&FromAgent::Done);
        self.pipe.flush(FAREWELL);
    }

    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    fn find(&mut self) {
        // Pairs share their pods and the node's own interfaces.
        let mut found: Vec<(&Find, Result<Located, String>)> = Vec::new();
        for point in &self.work.points {
            let known = found.iter().position(|(find, _)| **find == point.find);
            let known = known.unwrap_or_else(|| {
                found.push((&point.find, netns::locate(&point.find).map_err(|error| error.to_string())));
                found.len() - 1
            });
            match &found[known].1 {
                Ok(located) => {
                    self.located.insert(point.number, located.clone());
                }
                Err(why) => self.refuse(point.number, None, why),
            }
        }
    }

    fn read_texts(&self, node: &Namespace, when: When) {
        if self.is_gone() {
            return;
        }
        let pairs = self.work.pairs.iter().map(|(number, pair)| (of_pair(*number), pair.clone()));
        let site = Site {
            node: self.work.node.clone(),
            namespace: node.clone(),
            pods: self.pods(),
            pairs: pairs.collect(),
        };
        for text in texts::read(&site, when) {
            self.pipe.say(&FromAgent::Text(text));
        }
    }

    fn begin_listening(&self, node: &Namespace) -> Option<JoinHandle<Ears>> {
        let all = &self.work.pairs;
        let heard = all.len().min(MOST_HEARD);
        // Evenly out of all: neighbours have the same source.
        let pairs: Vec<_> =
            (0..heard).filter_map(|place| all.get(place * all.len() / heard).cloned()).collect();
        let pods: Vec<Vec<Namespace>> = pairs.iter().map(|(number, _)| self.pods_of(*number)).collect();
        let node = node.clone();
        self.work.kernel.then(|| {
            thread::spawn(move || {
                // The kernel takes its time over each: they wait side by side.
                thread::scope(|scope| {
                    let node = &node;
                    let start = |((number, pair), pods): ((u16, Pair), Vec<Namespace>)| {
                        let loading = scope.spawn(move || Listening::start(&pair, node, &pods));
                        (number, loading)
                    };
                    let loading: Vec<_> = pairs.into_iter().zip(pods).map(start).collect();
                    let loaded = loading.into_iter().map(|(number, loading)| {
                        let listening = loading.join().map_err(|_| "loading broke".to_owned());
                        (number, listening.and_then(|result| result.map_err(|error| error.to_string())))
                    });
                    loaded.collect()
                })
            })
        })
    }

    /// Says what the kernel said, or why it said nothing.
    fn end_listening(&self, kernel: Option<Ears>) {
        if self.is_gone() {
            return;
        }
        let broken = kernel.as_ref().is_some_and(Vec::is_empty);
        let mut said: BTreeMap<u16, Result<String, String>> = thread::scope(|scope| {
            let ears = kernel.unwrap_or_default().into_iter();
            let ending: Vec<_> =
                ears.map(|(number, ear)| (number, scope.spawn(move || ear?.finish()))).collect();
            let ended = ending.into_iter().map(|(number, ending)| {
                (number, ending.join().unwrap_or_else(|_| Err("listening broke".to_owned())))
            });
            ended.collect()
        });
        for (number, _) in &self.work.pairs {
            let content = match said.remove(number) {
                Some(said) => said.map_or_else(Known::Unreadable, Known::Read),
                None if broken => Known::Unreadable("loading broke".to_owned()),
                None => Known::NotAsked,
            };
            let (node, name) = (self.work.node.clone(), format!("{}{KERNEL}", of_pair(*number)));
            self.pipe.say(&FromAgent::Text(Text { node, name, when: When::After, content }));
        }
    }

    /// The namespaces of all traced pods on this node, each once, by what their texts' names begin with.
    fn pods(&self) -> Vec<(String, Namespace)> {
        let mut pods: BTreeMap<&str, &Namespace> = BTreeMap::new();
        for point in &self.work.points {
            if let (Find::InsidePod { veth, .. }, Some(at)) = (&point.find, self.located.get(&point.number)) {
                pods.insert(veth, &at.namespace);
            }
        }
        pods.into_iter().map(|(veth, at)| (of_pod(veth), at.clone())).collect()
    }

    /// Those of a pair: two when both live here.
    fn pods_of(&self, pair: u16) -> Vec<Namespace> {
        let own = self.work.points.iter().filter(|point| point.pair == pair);
        let inside = own.filter_map(|point| self.located.get(&point.number)).filter(|at| at.inside_pod);
        inside.map(|at| at.namespace.clone()).collect()
    }

    fn pair(&self, number: u16) -> Option<&Pair> {
        self.work.pairs.iter().find(|(own, _)| *own == number).map(|(_, pair)| pair)
    }

    fn begin_captures(&mut self) {
        for point in self.work.points.clone() {
            let (Some(at), Some(pair)) = (self.located.get(&point.number).cloned(), self.pair(point.pair))
            else {
                continue;
            };
            let filter = Filter {
                ethernet: filter::expression(pair, point.role, true),
                bare: filter::expression(pair, point.role, false),
            };
            let order = Order { point: point.number, at, filter, settings: self.work.settings };
            let outlet = PointOutlet { point: point.number, pipe: self.pipe.clone(), ear: self.ear.clone() };
            match capture::start(order, Arc::clone(&self.stop), outlet) {
                Ok(_) => {
                    self.open += 1;
                    self.silent += 1;
                }
                Err(error) => self.refuse(point.number, self.label(point.number), &error.to_string()),
            }
        }
        let each = BEGINNING_OF_EACH * u32::try_from(self.silent).unwrap_or(0);
        let end = instant() + BEGINNING + each;
        while self.silent > 0 && instant() < end && !self.is_gone() {
            self.hear(Some(PULSE));
        }
    }

    fn end_captures(&mut self) {
        self.stop.say();
        let end = instant() + ENDING;
        while (self.open > 0 || self.probing > 0) && instant() < end && !self.is_gone() {
            self.hear(Some(PULSE));
        }
    }

    /// Takes the next thing heard, waiting for it at most that long.
    fn hear(&mut self, at_most: Option<Duration>) {
        let heard = match at_most {
            Some(time) => self.heard.recv_timeout(time).ok(),
            None => self.heard.recv().ok(),
        };
        match heard {
            Some(Heard::Message(ToAgent::Stop) | Heard::InputEnded) => self.stopping = true,
            Some(Heard::Message(ToAgent::Probe(pair, probe))) => self.begin_probe(pair, probe),
            Some(Heard::Message(ToAgent::Ping(_) | ToAgent::Alive | ToAgent::Work(_) | ToAgent::Read(_)))
            | None => {}
            Some(Heard::Probed(pair, result)) => {
                self.probing = self.probing.saturating_sub(1);
                self.pipe.say(&FromAgent::Probed(pair, result));
            }
            Some(Heard::Point(point, news)) => self.pass_on(point, news),
        }
    }

    fn pass_on(&mut self, point: u16, news: News) {
        match news {
            News::Started { time, link } => {
                self.silent -= 1;
                let interface = self.label(point).unwrap_or_default();
                self.pipe.say(&FromAgent::Started { point, interface, link: link.number(), time });
            }
            News::Counted(counts) => self.pipe.say(&FromAgent::Counted { point, counts }),
            News::Turned { up } => self.pipe.say(&FromAgent::Turned { point, up, time: now() }),
            News::Ended(coverage) => {
                self.open -= 1;
                self.pipe.say(&FromAgent::Ended { point, coverage });
            }
            News::Refused(error) => {
                self.open -= 1;
                self.silent -= 1;
                self.refuse(point, self.label(point), &error.to_string());
            }
        }
    }

    fn begin_probe(&mut self, number: u16, probe: Probe) {
        let (ear, stop) = (self.ear.clone(), Arc::clone(&self.stop));
        let Some(from) = self.pair(number).map(|pair| pair.from) else { return };
        match self.source(number, from) {
            Ok(namespace) => {
                self.probing += 1;
                thread::spawn(move || {
                    let result = match namespace.run(|| probe::send(&probe, &stop)) {
                        Ok(Ok(facts)) => Ok(facts),
                        Ok(Err(error)) => Err(error.to_string()),
                        Err(error) => Err(error.to_string()),
                    };
                    let _ = ear.send(Heard::Probed(number, result));
                });
            }
            Err(error) => {
                let why = format!("cannot send the probe from {from}: {error}");
                self.pipe.say(&FromAgent::Probed(number, Err(why)));
            }
        }
    }

    /// The namespace of a pair's first end: the pod's, or the node's own when the end is the node itself.
    fn source(&self, pair: u16, from: IpAddr) -> Result<Namespace, NetnsError> {
        let inside = |point: &&WorkPoint| {
            point.pair == pair && matches!(point.find, Find::InsidePod { address, .. } if address == from)
        };
        match self.work.points.iter().find(inside) {
            Some(point) => match self.located.get(&point.number) {
                Some(located) => Ok(located.namespace.clone()),
                None => netns::locate(&point.find).map(|located| located.namespace),
            },
            None => netns::locate(&Find::Holding(from)).map(|located| located.namespace),
        }
    }

    fn label(&self, point: u16) -> Option<String> {
        self.located.get(&point).map(Located::label)
    }

    fn refuse(&self, point: u16, interface: Option<String>, why: &str) {
        self.pipe.say(&FromAgent::Refused { point, interface, why: why.to_owned() });
    }
}

/// The whole work of an agent that captures nothing: reads once and says it. A pod that cannot be entered is left out;
/// that its texts are missing tells so.
pub(super) fn read_once(reading: &Reading, pipe: &Pipe) {
    let pulse = Pulse::start(pipe.clone());
    let said = match Namespace::here() {
        Ok(namespace) => {
            let found = reading.pods.iter().filter_map(|pod| netns::locate(pod).ok());
            let site = Site {
                node: reading.node.clone(),
                namespace,
                pods: found
                    .zip(["pod:", "pod2:"])
                    .map(|(located, prefix)| (prefix.to_owned(), located.namespace))
                    .collect(),
                pairs: reading.pair.iter().map(|pair| (String::new(), pair.clone())).collect(),
            };
            for text in texts::read_once(&site) {
                pipe.say(&FromAgent::Text(text));
            }
            FromAgent::Done
        }
        Err(error) => FromAgent::Failed(error.to_string()),
    };
    drop(pulse);
    pipe.say(&said);
    pipe.flush(FAREWELL);
}

/// A capture's way to the pipe and to the desk.
struct PointOutlet {
    point: u16,
    pipe: Pipe,
    ear: Sender<Heard>,
}

impl Outlet for PointOutlet {
    fn offer(&mut self, batch: Vec<u8>) -> Result<(), Vec<u8>> {
        self.pipe.offer(batch)
    }

    fn tell(&mut self, news: News) {
        // The desk outlives its captures, but for an agent that is ending anyway.
        let _ = self.ear.send(Heard::Point(self.point, news));
    }
}

/// Says that the agent lives, also while a program on the node takes its time. Ends when dropped.
struct Pulse(Arc<AtomicBool>);

impl Pulse {
    fn start(pipe: Pipe) -> Self {
        let ended = Arc::<AtomicBool>::default();
        let watched = Arc::clone(&ended);
        thread::spawn(move || {
            while !watched.load(Ordering::Relaxed) {
                pipe.say(&FromAgent::Alive);
                thread::sleep(PULSE);
            }
        });
        Self(ended)
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
