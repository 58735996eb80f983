//! The course of one trace: its phases, which differ only in what they wait for, and the case that is written in the end. What
//! the nodes say is taken in by [`news`].

mod news;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use tokio::sync::mpsc::{self, Receiver, Sender, UnboundedSender};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::case::{self, Draft, Facts};
use super::end::{Clockwork, Interrupts};
use super::merge::Merge;
use super::node::{self, News};
use super::point::{self, Point, State};
use super::{Ending, Event, GatherError, Gathered, Request};
use crate::evidence::case::{NodeFacts, ProbeFacts, Window};
use crate::evidence::kernel::KERNEL;
use crate::evidence::plan::PlannedPoint;
use crate::evidence::{ClockFact, Known, Text, Texts};
use crate::gather::agent::wire::{ToAgent, Work, WorkPoint};
use crate::gather::capture::Settings;
use crate::gather::clock::now;
use crate::gather::filter::Pair;
use crate::gather::probe::Probe;

/// One trace under way.
pub(super) struct Session<'a> {
    request: &'a Request,
    events: &'a mut dyn FnMut(Event),
    pub(super) nodes: Vec<Node>,
    pub(super) points: Vec<Point>,
    /// Of each pair its points.
    spans: Vec<Range<usize>>,
    pub(super) texts: Vec<Text>,
    warnings: Vec<(About, String)>,
    /// Why points do not capture: what is said when none does.
    failures: Vec<String>,
    pub(super) probes: Vec<Option<ProbeFacts>>,
    pub(super) window: Option<Window>,
    merge: Merge,
    /// One a pair.
    drafts: Vec<Draft>,
    /// Packets of the forward direction seen at the first point of each pair.
    counted: u64,
    /// Whether the agents have their work.
    working: bool,
    /// Pairs whose probes were sent and have not ended; none before.
    probing: Option<BTreeSet<usize>>,
    /// When all points captured, by our clock.
    begun: i64,
}

/// Whom a warning concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    All,
    Node(usize),
    Pair(usize),
}

/// A node that points are planned on.
pub(super) struct Node {
    pub(super) facts: NodeFacts,
    pub(super) clock: Option<ClockFact>,
    orders: Option<UnboundedSender<ToAgent>>,
    /// All its points have started or been refused.
    ready: bool,
}

/// News that may wait to be taken: batches are about 64 KiB.
const NEWS: usize = 64;
/// How often counts are told and finished frames written.
const TICK: Duration = Duration::from_millis(200);
/// How long agents have to leave when everything is said.
const LEAVING: Duration = Duration::from_secs(3);

impl<'a> Session<'a> {
    pub(super) fn new(request: &'a Request, events: &'a mut dyn FnMut(Event)) -> Self {
        let pairs = 1 + request.more.len();
        let mut nodes: Vec<Node> = Vec::new();
        let mut points = Vec::new();
        let mut spans: Vec<Range<usize>> = Vec::new();
        let all =
            (0..pairs).flat_map(|pair| request.plan(pair).points.iter().map(move |point| (pair, point)));
        for (pair, planned) in all {
            let plan = request.plan(pair);
            let known = nodes.iter().position(|node| node.facts.name == planned.node);
            let node = known.unwrap_or_else(|| {
                let facts = plan.nodes.iter().find(|node| node.name == planned.node).cloned();
                let facts = facts.unwrap_or_else(|| NodeFacts {
                    name: planned.node.clone(),
                    addresses: Vec::new(),
                    on_path: true,
                });
                nodes.push(Node { facts, clock: None, orders: None, ready: false });
                nodes.len() - 1
            });
            points.push(Point { node, pair, ..Point::default() });
        }
        for pair in 0..pairs {
            let start = spans.last().map_or(0, |before| before.end);
            spans.push(start..start + request.plan(pair).points.len());
        }
        Self {
            request,
            events,
            merge: Merge::new(points.len()),
            nodes,
            points,
            spans,
            texts: Vec::new(),
            warnings: Vec::new(),
            failures: Vec::new(),
            probes: vec![None; pairs],
            window: None,
            drafts: Vec::new(),
            counted: 0,
            working: false,
            probing: None,
            begun: 0,
        }
    }

    /// All phases.
    pub(super) async fn gather(mut self) -> Result<Gathered, GatherError> {
        let mut interrupts = Interrupts::watch().map_err(GatherError::Runtime)?;
        let (told, mut news) = mpsc::channel(NEWS);
        let mut tasks = self.start_agents(&told);
        drop(told);
        let ended = self.phases(&mut news, &mut interrupts).await;
        // Without orders the tasks let their agents go; news nobody takes must not hold them up.
        for node in &mut self.nodes {
            node.orders = None;
        }
        drop(news);
        let gone = async { while tasks.join_next().await.is_some() {} };
        let _ = timeout(LEAVING, gone).await;
        ended?;
        self.write()
    }

    async fn phases(
        &mut self,
        news: &mut Receiver<(usize, News)>,
        interrupts: &mut Interrupts,
    ) -> Result<(), GatherError> {
        self.until_ready(news, interrupts).await?;
        self.begun = now();
        self.begin()?;
        let why = self.capture(news, interrupts).await?;
        #[expect(clippy::cast_precision_loss, reason = "a window is far shorter than 2^52 ns")]
        let seconds = (now() - self.begun) as f64 / 1e9;
        self.window = Some(Window { start: self.begun, seconds });
        self.tell(Event::Stopping(why));
        self.order_all(&ToAgent::Stop);
        self.until_done(news, interrupts).await
    }

    fn start_agents(&mut self, told: &Sender<(usize, News)>) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        for number in 0..self.nodes.len() {
            let (orders, taken) = mpsc::unbounded_channel();
            let node = &mut self.nodes[number];
            node.orders = Some(orders);
            let reach = self.request.reach.clone();
            tasks.spawn(node::attend(number, reach, node.facts.clone(), taken, told.clone()));
        }
        tasks
    }

    fn work_of(&self, node: usize) -> Work {
        let own = self.points.iter().zip(0u16..).filter(|(point, _)| point.node == node);
        let points: Vec<WorkPoint> = own
            .map(|(point, number)| {
                let planned = self.planned(usize::from(number));
                let pair = u16::try_from(point.pair).unwrap_or(u16::MAX);
                WorkPoint { number, pair, role: planned.role, find: planned.find.clone() }
            })
            .collect();
        let mut pairs: Vec<u16> = points.iter().map(|point| point.pair).collect();
        pairs.dedup();
        let settings = self.request.settings;
        Work {
            node: self.nodes[node].facts.name.clone(),
            pairs: pairs
                .into_iter()
                .map(|pair| (pair, Pair::of(self.request.plan(usize::from(pair)))))
                .collect(),
            settings: Settings { buffer: share(settings.buffer, points.len()), ..settings },
            points,
            kernel: self.request.kernel,
        }
    }

    fn planned(&self, number: usize) -> &PlannedPoint {
        let pair = self.points[number].pair;
        &self.request.plan(pair).points[number - self.spans[pair].start]
    }

    /// Gives all agents their work, once every node is reached or lost: one that waits for its image must not keep the others
    /// capturing, and what is read before the capture is to be as old everywhere.
    fn set_to_work(&mut self) {
        let waits = |node: &Node| node.orders.is_some() && node.clock.is_none();
        if self.working || self.nodes.iter().any(waits) {
            return;
        }
        self.working = true;
        for number in 0..self.nodes.len() {
            if let Some(orders) = &self.nodes[number].orders {
                // A task that has ended has told why.
                let _ = orders.send(ToAgent::Work(self.work_of(number)));
            }
        }
    }

    /// Waits until every node is ready or lost.
    async fn until_ready(
        &mut self,
        news: &mut Receiver<(usize, News)>,
        interrupts: &mut Interrupts,
    ) -> Result<(), GatherError> {
        while self.nodes.iter().any(|node| node.orders.is_some() && !node.ready) {
            tokio::select! {
                Some((node, told)) = news.recv() => self.hear(node, told)?,
                () = interrupts.next() => return Err(GatherError::Interrupted),
            }
        }
        Ok(())
    }

    /// All points that can capture do: opens the file and tells.
    fn begin(&mut self) -> Result<(), GatherError> {
        let capturing: Vec<String> =
            (0..self.points.len()).filter(|point| self.is_open(*point)).map(|point| self.id(point)).collect();
        if capturing.is_empty() {
            return Err(GatherError::NothingCaptured(std::mem::take(&mut self.failures)));
        }
        let clocks: Vec<ClockFact> = self.nodes.iter().filter_map(|node| node.clock.clone()).collect();
        for (pair, span) in self.spans.iter().enumerate() {
            let points = &self.points[span.clone()];
            self.drafts.push(Draft::begin(self.request, pair, points, clocks.clone())?);
        }
        self.tell(Event::Capturing(capturing));
        if self.request.watch.is_some() {
            let case = self.drafts[0].begun(&self.points[self.spans[0].clone()]);
            self.tell(Event::Begun(Box::new(case)));
        }
        Ok(())
    }

    /// Takes frames until the end that was asked for, an interrupt, or the last point's failure.
    async fn capture(
        &mut self,
        news: &mut Receiver<(usize, News)>,
        interrupts: &mut Interrupts,
    ) -> Result<Ending, GatherError> {
        let mut clockwork = Clockwork::start(self.request.duration);
        self.send_probes();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reached = None;
        loop {
            if !(0..self.points.len()).any(|point| self.is_open(point)) {
                return Ok(Ending::AllLost);
            }
            let goal = self.goal();
            if goal.is_some() && reached.is_none() {
                reached = goal;
                clockwork.reached(goal.unwrap_or(Ending::Count));
            }
            tokio::select! {
                Some((node, told)) = news.recv() => self.hear(node, told)?,
                () = interrupts.next() => return Ok(Ending::Interrupted),
                why = clockwork.end() => return Ok(why),
                _ = tick.tick() => {
                    for (draft, span) in self.drafts.iter_mut().zip(&self.spans) {
                        draft.counted(&self.points[span.clone()]);
                    }
                    self.write_frames()?;
                    let counts = (0..self.points.len()).map(|point| (self.id(point), self.points[point].counts));
                    let counts = counts.collect();
                    self.tell(Event::Counts(counts));
                }
            }
        }
    }

    fn send_probes(&mut self) {
        let request = self.request;
        let probes = (0..self.spans.len()).filter_map(|pair| Some((pair, request.probe(pair)?.clone())));
        let probes: Vec<(usize, Probe)> = probes.collect();
        self.probing =
            Some(probes.iter().map(|(pair, _)| *pair).collect()).filter(|all: &BTreeSet<_>| !all.is_empty());
        for (pair, probe) in probes {
            self.send_probe(pair, probe);
        }
    }

    fn send_probe(&mut self, pair: usize, probe: Probe) {
        let from = self.request.plan(pair).from.node.as_deref();
        let number = u16::try_from(pair).unwrap_or(u16::MAX);
        let source = self.nodes.iter().position(|node| Some(node.facts.name.as_str()) == from);
        let sent = source
            .and_then(|node| self.nodes[node].orders.as_ref())
            .is_some_and(|orders| orders.send(ToAgent::Probe(number, probe)).is_ok());
        if !sent {
            let name = &self.request.plan(pair).from.name;
            let words = format!("the probe was not sent: there is no agent on the node of {name}");
            self.warn(About::Pair(pair), words);
            self.probe_ended(pair);
        }
    }

    fn probe_ended(&mut self, pair: usize) {
        let Some(probing) = &mut self.probing else { return };
        if probing.remove(&pair) && probing.is_empty() {
            // Those of all pairs are one kind.
            let all = self.probes.iter().flatten().cloned().reduce(|all, one| ProbeFacts {
                sent: all.sent + one.sent,
                answered: all.answered + one.answered,
                ..all
            });
            if let Some(all) = all {
                self.tell(Event::Probed(all));
            }
        }
    }

    /// Why capturing may end now, after a grace.
    fn goal(&self) -> Option<Ending> {
        if self.request.count.is_some_and(|count| self.counted >= count) {
            return Some(Ending::Count);
        }
        let enough = self.request.watch.as_ref().and_then(|watch| watch.enough.ending());
        enough.or(self.probing.as_ref().is_some_and(BTreeSet::is_empty).then_some(Ending::Probe))
    }

    /// Waits for the farewell of every node. A second interrupt ends the waiting, not the report.
    async fn until_done(
        &mut self,
        news: &mut Receiver<(usize, News)>,
        interrupts: &mut Interrupts,
    ) -> Result<(), GatherError> {
        while self.nodes.iter().any(|node| node.orders.is_some()) {
            tokio::select! {
                Some((node, told)) = news.recv() => self.hear(node, told)?,
                () = interrupts.next() => {
                    let words = "interrupted again: what the nodes had not sent by then is missing";
                    self.warn(About::All, words.to_owned());
                    break;
                }
            }
        }
        self.end_points("nothing came from its node at the end");
        self.write_frames()
    }

    fn write(mut self) -> Result<Gathered, GatherError> {
        self.warn_of_silent_kernels();
        let mut texts = Texts(std::mem::take(&mut self.texts));
        let mut cases = Vec::new();
        let mut whole = None;
        for (pair, draft) in std::mem::take(&mut self.drafts).into_iter().enumerate() {
            let number = u16::try_from(pair).unwrap_or(u16::MAX);
            let span = self.spans[pair].clone();
            let own = texts.of(number, draft.case());
            let on_path = |node: &Node| draft.case().points.iter().any(|point| point.node == node.facts.name);
            let clocks = self.nodes.iter().filter(|node| self.spans.len() == 1 || on_path(node));
            let facts = Facts {
                window: self.window.clone(),
                clocks: clocks.filter_map(|node| node.clock.clone()).collect(),
                probe: self.probes[pair].take(),
                conntrack: own.0.iter().filter_map(case::conntrack).collect(),
                warnings: self.warnings_of(pair),
                loss: self.request.watch.as_ref().and_then(|watch| watch.enough.loss()),
            };
            let (case, all_of_it) = draft.finish(&self.points[span], facts)?;
            whole = whole.or(all_of_it);
            if self.spans.len() == 1 {
                texts = own;
            }
            cases.push(case);
        }
        if cases.is_empty() {
            return Err(GatherError::Interrupted);
        }
        Ok(Gathered { case: cases.remove(0), more: cases, texts, whole })
    }

    fn warnings_of(&self, pair: usize) -> Vec<String> {
        let mine = |about: &About| match *about {
            About::All => true,
            About::Node(node) => self.points[self.spans[pair].clone()].iter().any(|point| point.node == node),
            About::Pair(own) => own == pair,
        };
        self.warnings.iter().filter(|(about, _)| mine(about)).map(|(_, words)| words.clone()).collect()
    }

    /// One line for all nodes whose kernels could not be listened to for the same reason.
    fn warn_of_silent_kernels(&mut self) {
        let mut silent: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for text in self.texts.iter().filter(|text| text.name.ends_with(KERNEL)) {
            if let Known::Unreadable(why) = &text.content {
                let nodes = silent.entry(why.clone()).or_default();
                if !nodes.contains(&text.node.as_str()) {
                    nodes.push(&text.node);
                }
            }
        }
        let lines = silent.into_iter().map(|(why, nodes)| {
            format!("{}: without the kernel's own word about dropped packets: {why}", nodes.join(", "))
        });
        for line in lines.collect::<Vec<_>>() {
            self.warn(About::All, line);
        }
    }

    fn is_open(&self, point: usize) -> bool {
        matches!(self.points[point].state, State::Capturing { .. })
    }

    fn first_open(&self, pair: usize) -> Option<usize> {
        self.spans[pair].clone().find(|point| self.is_open(*point))
    }

    fn id(&self, point: usize) -> String {
        let pair = self.points[point].pair;
        let span = self.spans[pair].clone();
        point::id(self.request.plan(pair), &self.points[span.clone()], point - span.start)
    }

    fn order_all(&self, order: &ToAgent) {
        for orders in self.nodes.iter().filter_map(|node| node.orders.as_ref()) {
            // A task that has ended has told why.
            let _ = orders.send(order.clone());
        }
    }

    fn warn(&mut self, about: About, text: String) {
        if !self.warnings.iter().any(|(_, known)| *known == text) {
            self.tell(Event::Warning(text.clone()));
        }
        self.warnings.push((about, text));
    }

    fn tell(&mut self, event: Event) {
        (self.events)(event);
    }
}

/// Each point's part of the room that eight points of the wanted size take: pairs of many pods must not eat their node's
/// memory.
fn share(wanted: u32, points: usize) -> u32 {
    let points = u64::try_from(points).unwrap_or(u64::MAX).max(1);
    let part = u32::try_from(u64::from(wanted) * 8 / points).unwrap_or(u32::MAX);
    part.clamp(LEAST_RING.min(wanted), wanted)
}

/// Less room loses frames at once.
const LEAST_RING: u32 = 1 << 20;
