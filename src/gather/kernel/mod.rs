//! The kernel's own word about dropped packets: puts a small program of ours (`drops.bpf.c`) on the tracepoint
//! `skb:kfree_skb`, counts what it tells of the traced pair in this node's namespaces, and gives it as text when
//! listening ends. Where the program cannot be loaded it says why, and the trace goes on without. The program only
//! reads, is not pinned, and goes with this process, however that ends.

mod btf;
mod count;
mod event;
mod symbols;

use std::error::Error;
use std::fs;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use aya::maps::{Array, MapData, RingBuf};
use aya::programs::BtfTracePoint;
use aya::{Btf, Ebpf, EbpfLoader};
use nix::time::{ClockId, clock_gettime};

use crate::evidence::kernel::{Heard, KernelWord, Within};
use crate::gather::clock::now;
use crate::gather::filter::{Pair, VXLAN_PORTS};
use crate::gather::netns::Namespace;
use crate::gather::privilege;
use crate::gather::stop::Stop;
use count::Counts;
use event::Event;

/// Listening under way.
#[derive(Debug)]
pub(crate) struct Listening {
    stop: Arc<Stop>,
    /// When the captures ended, by the wall clock; until then the end of time.
    captured_until: Arc<AtomicI64>,
    from: i64,
    thread: JoinHandle<(Counts, u64)>,
}

/// Why the kernel says nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KernelError {
    /// The kernel does not describe its types.
    #[error("cannot read the kernel's types from {BTF}: {0}")]
    Types(String),
    /// The program was refused.
    #[error("cannot put a program on the tracepoint skb:kfree_skb: {why}{remedy}")]
    Refused {
        /// What the kernel said.
        why: String,
        /// What to do.
        remedy: String,
    },
    /// A namespace's number could not be read.
    #[error("cannot tell which namespaces to listen in: {0}")]
    Namespaces(std::io::Error),
    /// Nothing to end the listening with.
    #[error("cannot make a pipe: {0}")]
    Pipe(std::io::Error),
}

/// Made of `drops.bpf.c` by `scripts/bpf`.
static PROGRAM: &[u8] = include_bytes!("drops.bpf.o");

const BTF: &str = "/sys/kernel/btf/vmlinux";
/// How often the ring is emptied while something comes: at 280 bytes an event and 4 MiB of ring that is 300,000 events a second.
const LOOK: Duration = Duration::from_millis(50);
/// How long silence is waited through at once.
const LONG: Duration = Duration::from_secs(30);
/// As in `drops.bpf.c`.
const ADDRESSES: usize = 16;
const NAMESPACES: usize = 8;

impl Listening {
    /// Listens for the pair's packets in the node's namespace and the pods', from the moment that this returns.
    pub(crate) fn start(pair: &Pair, node: &Namespace, pods: &[Namespace]) -> Result<Self, KernelError> {
        let mut within = vec![(node.inode().map_err(KernelError::Namespaces)?, Within::Node)];
        for (pod, which) in pods.iter().zip([Within::Pod, Within::SecondPod]) {
            within.push((pod.inode().map_err(KernelError::Namespaces)?, which));
        }
        let numbers: Vec<u32> = within.iter().map(|(number, _)| *number).collect();
        let (mut ring, unheard, program) = load(&wanted(pair, &numbers))?;
        let stop = Arc::new(Stop::new().map_err(KernelError::Pipe)?);
        let captured_until = Arc::new(AtomicI64::new(i64::MAX));
        let (stopped, until) = (Arc::clone(&stop), Arc::clone(&captured_until));
        let shift = wall_clock_ahead();
        let thread = thread::spawn(move || {
            let mut counts = Counts::new(within);
            let mut take = |bytes: &[u8]| {
                if let Some(mut event) = Event::read(bytes) {
                    event.time = event.time.saturating_add(shift);
                    counts.take(&event, event.time > until.load(Ordering::Relaxed));
                }
            };
            while !stopped.is_said() {
                let mut heard = false;
                while let Some(bytes) = ring.next()
                    && !stopped.is_said()
                {
                    take(&bytes);
                    heard = true;
                }
                // Where there is one event there are more: each would wake it.
                if heard {
                    stopped.wait(LOOK);
                } else {
                    stopped.wait_or_read(&ring, LONG);
                }
            }
            // Detached first, so that what is left in the ring has an end.
            drop(program);
            while let Some(bytes) = ring.next() {
                take(&bytes);
            }
            (counts, unheard.get(&0, 0).unwrap_or(0))
        });
        Ok(Self { stop, captured_until, from: now(), thread })
    }

    /// The captures have ended: what comes now is told apart.
    pub(crate) fn captures_ended(&self) {
        self.captured_until.store(now(), Ordering::Relaxed);
    }

    /// Ends listening and gives what was heard, as the text `kernel`.
    pub(crate) fn finish(self) -> Result<String, String> {
        self.stop.say();
        let captured_until = self.captured_until.load(Ordering::Relaxed).min(now());
        let (counts, unheard) = self.thread.join().map_err(|_| "the listening thread broke".to_owned())?;
        let mut heard = Heard { from: self.from, captured_until, unheard, ..Heard::default() };
        heard.left_out = counts.left_out();
        let mut nameless = Vec::new();
        let mut given_up = Vec::new();
        if !counts.is_empty() {
            let symbols = fs::read_to_string("/proc/kallsyms").map_err(|error| error.to_string());
            let symbols = symbols.and_then(|text| symbols::names(&text, &counts.addresses()));
            let symbols = symbols.unwrap_or_else(|why| {
                nameless.push(format!("functions: /proc/kallsyms: {why}"));
                symbols::Names::default()
            });
            let reasons = fs::read(BTF).map_err(|error| error.to_string());
            let reasons = reasons.and_then(|bytes| btf::names(&bytes, "skb_drop_reason"));
            let reasons = reasons.unwrap_or_else(|why| {
                nameless.push(format!("reasons: {BTF}: {why}"));
                btf::Names::default()
            });
            given_up = counts.name(&symbols, &reasons);
        }
        heard.nameless = nameless;
        heard.until = now();
        KernelWord { heard, given_up, broken: Vec::new() }.to_text().map_err(|error| error.to_string())
    }
}

type Loaded = (RingBuf<MapData>, Array<MapData, u64>, Ebpf);

/// Loads the program and attaches it. It stays as long as the last of what is given.
fn load(wanted: &[u8]) -> Result<Loaded, KernelError> {
    let types = Btf::from_sys_fs().map_err(|error| KernelError::Types(chain(&error)))?;
    let refused = |error: &dyn Error| KernelError::Refused { why: chain(error), remedy: remedy() };
    let absent = |what: &str| KernelError::Refused {
        why: format!("the built-in program has no {what}"),
        remedy: String::new(),
    };
    let mut program = EbpfLoader::new()
        .btf(Some(&types))
        .override_global("wanted", wanted, true)
        .load(PROGRAM)
        .map_err(|error| refused(&error))?;
    let ring = program.take_map("events").ok_or_else(|| absent("ring"))?;
    let ring = RingBuf::try_from(ring).map_err(|error| refused(&error))?;
    let unheard = program.take_map("unheard").ok_or_else(|| absent("counter"))?;
    let unheard = Array::try_from(unheard).map_err(|error| refused(&error))?;
    let entry = program.program_mut("kfree_skb").ok_or_else(|| absent("entry"))?;
    let entry: &mut BtfTracePoint = entry.try_into().map_err(|error| refused(&error))?;
    entry.load("kfree_skb", &types).map_err(|error| refused(&error))?;
    entry.attach().map_err(|error| refused(&error))?;
    Ok((ring, unheard, program))
}

/// The filter in the kernel, as `struct wanted` of `drops.bpf.c` lays it out. More addresses than it has room for are
/// not listened for: a pair has two of its own, few of its nodes, and one of a Service.
fn wanted(pair: &Pair, namespaces: &[u32]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (address, aliases) in [(pair.from, &pair.from_aliases), (pair.to, &pair.to_aliases)] {
        let all = std::iter::once(address).chain(aliases.iter().copied());
        let of_family = all.filter(|one| one.is_ipv4() == pair.from.is_ipv4());
        let padding = std::iter::repeat([0; 16]);
        bytes.extend(of_family.map(mapped).chain(padding).take(ADDRESSES).flatten());
    }
    let numbers = namespaces.iter().copied().chain(std::iter::repeat(0)).take(NAMESPACES);
    bytes.extend(numbers.flat_map(u32::to_ne_bytes));
    let [usual, older] = VXLAN_PORTS;
    // It knows one port: of packets that change theirs it hears all.
    let port = pair.only.port.filter(|_| pair.only.also.is_none()).unwrap_or(0);
    let numbers = [pair.vxlan_port, usual, older, port];
    bytes.extend(numbers.into_iter().flat_map(u16::to_ne_bytes));
    bytes.push(pair.only.protocol.unwrap_or(0));
    bytes.extend([0; 7]);
    bytes
}

/// Either family in one form.
fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// Nanoseconds to add to the clock that the program stamps with, for the wall clock.
fn wall_clock_ahead() -> i64 {
    let monotonic = clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(0, |time| time.tv_sec().saturating_mul(1_000_000_000).saturating_add(time.tv_nsec()));
    now().saturating_sub(monotonic)
}

/// What an error and its sources say, on one line of bearable length: the verifier's log is behind the first line.
fn chain(error: &dyn Error) -> String {
    let mut said: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        let line: String = text.lines().next().unwrap_or_default().chars().take(200).collect();
        if !line.is_empty() && !said.iter().any(|one| one.contains(&line)) {
            said.push(line);
        }
        next = error.source();
    }
    said.join(": ")
}

/// What may be done about a refusal; nothing when all rights are there and the kernel is just not able to.
fn remedy() -> String {
    let lacking = privilege::lacking_for_kernel();
    if lacking.is_empty() {
        return "; Linux 5.17 or later with BTF is needed, and no lockdown".to_owned();
    }
    let list: Vec<String> =
        lacking.iter().map(|right| format!("{} ({})", right.name, right.reason)).collect();
    format!("; grant {}", list.join(", "))
}

#[cfg(test)]
pub(crate) mod tests;
