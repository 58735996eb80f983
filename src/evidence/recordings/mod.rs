//! Captures that people took by hand, made into a case. Takes files, and of some of them the points that somebody said they
//! are; gives points in path order with their coverage, the two ends, what was guessed, and the frames, each at its point and
//! by one clock. Opens capture files and nothing else. What became of a packet is not asked here.

mod clocks;
mod coverage;
mod ends;
mod look;
mod mixed;
mod name;
mod order;
mod place;
mod source;
#[cfg(test)]
mod tests;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::capture_file::CaptureError;
use super::case::{Aliases, Case, NodeFacts, Only};
use super::plan;
use super::{CapturePoint, Direction, Endpoint, Path, PointId, Role};
use ends::{Asked, Ends, Side};
use look::{Lane, Sample};
use name::Told;
use place::Draft;
pub use source::Openings;
use words::{alone_in_its_files, files, gaps, guess, no_packet, too_few};

/// A capture file, and where it was taken if somebody said so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recording {
    /// The file.
    pub file: PathBuf,
    /// `node/interface`; the interface `any` leaves it to the packets.
    pub point: Option<String>,
}

/// A case made of capture files.
#[derive(Debug)]
pub struct Recordings {
    /// The facts; what could not be known is among its warnings.
    pub case: Case,
    /// What was guessed, in words.
    pub guesses: Vec<String>,
    /// The frames of all points in the order of time.
    pub openings: Openings,
}

/// Why files make no case.
#[derive(Debug, thiserror::Error)]
pub enum RecordingsError {
    /// A file cannot be read.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// No packet of two addresses.
    #[error("no IP packet {about} is in {files}: say --from and --to as the packets have them")]
    NoPacket {
        /// What was looked for.
        about: String,
        /// Where.
        files: String,
    },
    /// Fewer than two places of the path.
    #[error(
        "{found}, and one place cannot show where packets vanish{because}; give captures of two places at least, and with --at where they were taken"
    )]
    TooFew {
        /// What could be placed.
        found: String,
        /// Why the others could not.
        because: String,
    },
    /// Two captures of one place at one time.
    #[error(
        "{point} was given for captures that ran at the same time, {one} and {other}: one place has one capture at a time; give one of them, or say where the other was taken"
    )]
    Twice {
        /// The point.
        point: String,
        /// A file.
        one: String,
        /// The other.
        other: String,
    },
    /// More places than a path has.
    #[error("{found} captures are more than a path has points: give at most {most}")]
    TooMany {
        /// Places.
        found: usize,
        /// The most.
        most: usize,
    },
    /// The order that was said is not the one that packets take.
    #[error(
        "the points are given in path order from {from}, but its packets come by {last} before they come by {first}: turn the order, or --from and --to"
    )]
    WrongOrder {
        /// Where traffic starts.
        from: IpAddr,
        /// The point given first.
        first: String,
        /// The point given last.
        last: String,
    },
}

/// Files together at most: those of a rotation count one each.
const MOST_FILES: usize = 4_096;

impl Recordings {
    /// Reads captures: between `from` and `to` where they are given, else between those who talk most. A path has at most
    /// `most_points`.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, or all of them show fewer than two places of one path.
    pub fn read(
        given: &[Recording],
        from: Option<IpAddr>,
        to: Option<IpAddr>,
        most_points: usize,
    ) -> Result<Self, RecordingsError> {
        if given.len() > MOST_FILES {
            return Err(RecordingsError::TooMany { found: given.len(), most: MOST_FILES });
        }
        let about: Vec<IpAddr> = from.into_iter().chain(to).collect();
        let mut warnings = Vec::new();
        let lanes = look_at(given, Sample { stride: 1, about: &about }, &mut warnings)?;
        twice(given, &lanes)?;
        let mut lanes = joined(given, lanes, &mut warnings);
        look::tell_apart(&mut lanes);
        let asked = Asked { from, to };
        let in_order = given.iter().all(|recording| recording.point.is_some());
        let (ends, chosen) = Ends::choose(&lanes, asked, in_order).ok_or_else(|| no_packet(given, &about))?;
        let mut guesses: Vec<String> = Some(chosen).into_iter().filter(|words| !words.is_empty()).collect();
        for (alias, end) in ends
            .aliases
            .to
            .iter()
            .map(|alias| (alias, ends.to))
            .chain(ends.aliases.from.iter().map(|alias| (alias, ends.from)))
        {
            guesses.push(format!("{alias} is another address of {end}: the same packets bear either"));
        }
        let drafts = drafts(given, lanes, &ends);
        Self::of(given, drafts, ends, in_order, most_points, guesses, warnings)
    }

    fn of(
        given: &[Recording],
        mut drafts: Vec<Draft>,
        ends: Ends,
        in_order: bool,
        most_points: usize,
        mut guesses: Vec<String>,
        mut warnings: Vec<String>,
    ) -> Result<Self, RecordingsError> {
        place::place(&mut drafts, &ends);
        let said = in_order && drafts.iter().all(|draft| draft.useless.is_some() || draft.side.is_none());
        let encapsulated = place::encapsulated(&mut drafts, said);
        if !said {
            let silent = place::silent(&drafts, encapsulated);
            drafts.extend(silent);
            in_path_order(&mut drafts);
        }
        coverage::without_proof(&mut drafts, encapsulated);
        coverage::without_blind(&mut drafts);
        let names = node_names(&drafts, &ends, said);
        for draft in &drafts {
            match &draft.useless {
                Some(why) if draft.has_traffic() || alone_in_its_files(draft, &drafts) => {
                    warnings.push(format!("{} is left out: {why}", files(given, draft)));
                }
                Some(_) => {}
                None if draft.said.as_ref().is_some_and(|(_, interface)| interface != "any") => {}
                None => guesses.push(guess(given, draft, &names)),
            }
        }
        drafts.retain(|draft| draft.useless.is_none());
        if drafts.len() > most_points {
            return Err(RecordingsError::TooMany { found: drafts.len(), most: most_points });
        }
        if drafts.len() < 2 {
            return Err(too_few(given, &drafts, &names, &warnings));
        }
        if let (true, [first, .., last]) = (said, drafts.as_slice())
            && order::by_ttl(&first.lane, &last.lane, &ends) == Some(order::First::Other)
        {
            let id = |draft: &Draft| point_id(draft, &names);
            return Err(RecordingsError::WrongOrder { from: ends.from, first: id(first), last: id(last) });
        }
        warnings.extend(gaps(&drafts, &names, encapsulated));
        let shifts = clocks::shifts(given, &drafts, &names, &ends, &mut warnings)?;
        let points = coverage::points(&drafts, &names, &shifts, &mut warnings);
        let case = case(&drafts, &ends, points, encapsulated, warnings);
        let openings = Openings::new(given, &drafts, &shifts, ends);
        Ok(Self { case, guesses, openings })
    }
}

/// The lanes of all files, several of which are read at once.
fn look_at(
    given: &[Recording],
    sample: Sample<'_>,
    warnings: &mut Vec<String>,
) -> Result<Vec<Lane>, CaptureError> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(MOST_AT_ONCE);
    let next = AtomicUsize::new(0);
    let read = || {
        let mut mine = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(recording) = given.get(number) else { return mine };
            mine.push((number, sample.look(number, &recording.file)));
        }
    };
    let mut all = thread::scope(|scope| {
        let readers: Vec<_> = (0..threads).map(|_| scope.spawn(read)).collect();
        let results =
            readers.into_iter().map(|reader| reader.join().unwrap_or_else(|why| resume_unwind(why)));
        results.flatten().collect::<Vec<_>>()
    });
    all.sort_by_key(|(number, _)| *number);
    let mut lanes = Vec::new();
    for (number, seen) in all {
        let (more, cut) = seen?;
        warnings.extend(cut.map(|why| format!("{}: {why}", given[number].file.display())));
        lanes.extend(more);
    }
    Ok(lanes)
}

/// Files read at once: an unpacker may hold 64 MiB.
const MOST_AT_ONCE: usize = 4;

/// Files that were said to be of one point must follow each other.
fn twice(given: &[Recording], lanes: &[Lane]) -> Result<(), RecordingsError> {
    for (index, lane) in lanes.iter().enumerate() {
        let Some(point) = &given[lane.files[0]].point else { continue };
        for other in &lanes[index + 1..] {
            let same = given[other.files[0]].point.as_ref() == Some(point) && lane.files != other.files;
            if same && lane.index == other.index && overlap(lane, other) > AT_ONCE {
                return Err(RecordingsError::Twice {
                    point: point.clone(),
                    one: given[lane.files[0]].file.display().to_string(),
                    other: given[other.files[0]].file.display().to_string(),
                });
            }
        }
    }
    Ok(())
}

/// Parts of a rotated capture may have this much in common, in nanoseconds.
const AT_ONCE: i64 = 1_000_000_000;

/// For how long two lanes saw packets at the same time.
fn overlap(one: &Lane, other: &Lane) -> i64 {
    match (one.span, other.span) {
        (Some((a, b)), Some((c, d))) => b.min(d).saturating_sub(a.max(c)),
        _ => 0,
    }
}

/// Parts of one capture as one lane: files of one point, and files that rotation made.
fn joined(given: &[Recording], lanes: Vec<Lane>, warnings: &mut Vec<String>) -> Vec<Lane> {
    let mut by_capture: BTreeMap<(String, usize, Option<u32>), Vec<Lane>> = BTreeMap::new();
    let mut order = Vec::new();
    for lane in lanes {
        let recording = &given[lane.files[0]];
        let told = Told::by(&recording.file);
        let of = recording
            .point
            .clone()
            .unwrap_or_else(|| format!("{} {}", told.series, told.interface.unwrap_or_default()));
        let key = (of, lane.interface, lane.index);
        if !order.contains(&key) {
            order.push(key.clone());
        }
        by_capture.entry(key).or_default().push(lane);
    }
    let mut all = Vec::new();
    for key in order {
        let mut parts = by_capture.remove(&key).unwrap_or_default();
        parts.sort_by_key(|lane| (lane.span.is_none(), lane.span));
        let said = given[parts[0].files[0]].point.is_some();
        all.extend(chained(given, parts, said, warnings));
    }
    all
}

/// Joins lanes that follow each other in time; where a file of a numbered row is missing, the longer run is kept.
fn chained(given: &[Recording], parts: Vec<Lane>, said: bool, warnings: &mut Vec<String>) -> Vec<Lane> {
    let number = |lane: &Lane| Told::by(&given[lane.files[0]].file).number;
    let mut runs: Vec<Lane> = Vec::new();
    let mut last_number: Option<Option<u64>> = None;
    let mut gap = false;
    for lane in parts {
        let own = number(&lane);
        let follows = match (last_number, own) {
            // `tcpdump -W` begins again at 0.
            (Some(last), Some(own)) => own == last.unwrap_or(0) + 1 || own == 0,
            _ => true,
        };
        last_number = Some(own);
        match runs.last_mut() {
            Some(run)
                if run.link == lane.link
                    && (said || overlap(run, &lane) <= AT_ONCE)
                    && (follows || lane.frames == 0) =>
            {
                run.append(lane);
            }
            Some(run) if run.link == lane.link && overlap(run, &lane) <= AT_ONCE => {
                gap = true;
                runs.push(lane);
            }
            _ => runs.push(lane),
        }
    }
    if gap {
        runs.sort_by_key(|run| std::cmp::Reverse(run.frames));
        for run in runs.drain(1..) {
            warnings.push(format!(
                "{} is left out: a file between it and the others of its row is missing",
                given[run.files[0]].file.display()
            ));
        }
    }
    runs
}

fn drafts(given: &[Recording], lanes: Vec<Lane>, ends: &Ends) -> Vec<Draft> {
    let mut files: BTreeMap<usize, usize> = BTreeMap::new();
    for lane in &lanes {
        *files.entry(lane.files[0]).or_default() += 1;
    }
    let mut all = Vec::new();
    for mut lane in lanes {
        let recording = &given[lane.files[0]];
        let several = files[&lane.files[0]] > 1;
        let mut told = Told::by(&recording.file);
        // As saved cases call their interfaces.
        let point = lane.name.as_deref().and_then(|name| name.split_once('/'));
        if let Some((node, interface)) =
            point.filter(|(node, interface)| !node.is_empty() && !interface.is_empty())
        {
            told.node = Some(node.to_owned());
            lane.name = Some(interface.to_owned());
        }
        let said =
            recording.point.as_deref().and_then(|point| point.split_once('/')).map(|(node, interface)| {
                // A file of several interfaces is not one point: the node is taken from what was said.
                let interface = if several { "any" } else { interface };
                (node.to_owned(), interface.to_owned())
            });
        if lane.is_cooked() && told.node.is_none() {
            told.node = Told::node_of_all(&told.stem);
        }
        let whole = said.as_ref().is_some_and(|(_, interface)| interface != "any");
        let parts = if whole { vec![lane] } else { mixed::parts(lane, ends) };
        all.extend(parts.into_iter().map(|part| Draft::new(part, told.clone(), said.clone(), ends)));
    }
    all
}

/// In the order in which packets pass; of two at the same place one is left out, and both if none of them shows the traffic.
fn in_path_order(drafts: &mut [Draft]) {
    let depth = |role: Role| match role {
        Role::Pod => 0,
        Role::Veth => 1,
        Role::Tunnel => 2,
        Role::Nic => 3,
    };
    let place = |draft: &Draft| {
        let (Some(side), Some(role)) = (draft.side, draft.role) else { return (Side::To, 9) };
        (side, if side == Side::To { 3 - depth(role) } else { depth(role) })
    };
    drafts.sort_by_key(|draft| {
        (draft.useless.is_some(), place(draft), std::cmp::Reverse(draft.lane.sights.len()))
    });
    let mut taken = BTreeSet::new();
    let mut silent = BTreeMap::new();
    for draft in drafts.iter_mut().filter(|draft| draft.useless.is_none()) {
        // Of a capture of all interfaces any will do: the right one is among those that saw nothing.
        if !draft.has_traffic() && !draft.is_cooked() {
            *silent.entry(place(draft)).or_insert(0) += 1;
        }
    }
    for draft in drafts.iter_mut().filter(|draft| draft.useless.is_none()) {
        let here = place(draft);
        if !taken.insert(here) {
            draft.useless = Some(format!(
                "another capture of the same place is used, {}",
                place::words(draft.side, draft.role)
            ));
        } else if !draft.has_traffic()
            && !draft.is_cooked()
            && silent.get(&here).is_some_and(|several| *several > 1)
        {
            draft.useless = Some(format!(
                "several captures may be of {}, and none shows the traffic: which of them it is cannot be told; say it \
                 with --at",
                place::words(draft.side, draft.role)
            ));
        }
    }
}

/// What the node of each side is called.
fn node_names(drafts: &[Draft], ends: &Ends, said: bool) -> BTreeMap<Side, String> {
    let mut names = BTreeMap::new();
    if said {
        return names;
    }
    for (side, direction) in [(Side::From, Direction::Forward), (Side::To, Direction::Reply)] {
        let of_side = || drafts.iter().filter(|draft| draft.useless.is_none() && draft.side == Some(side));
        let told = of_side().find_map(|draft| draft.node().map(str::to_owned));
        let stem = || {
            of_side().find_map(|draft| {
                let same = drafts.iter().filter(|other| other.lane.files.first() == draft.lane.files.first());
                let alone = same.clone().count() > 1
                    && same.into_iter().all(|other| other.side.is_none_or(|of| of == side));
                alone.then(|| Told::node_of_all(&draft.told.stem)).flatten()
            })
        };
        // Both pods on one node, in one capture.
        let shared = || {
            let from = names.get(&Side::From)?;
            let same = |draft: &Draft| {
                draft.is_cooked()
                    && drafts.iter().any(|other| {
                        other.side == Some(Side::From)
                            && other.useless.is_none()
                            && other.lane.files == draft.lane.files
                    })
            };
            of_side().any(same).then(|| String::clone(from))
        };
        let shared = shared();
        let address = || place::sender(drafts, ends, direction).map(|address| address.to_string());
        let end = if side == Side::From { ends.from } else { ends.to };
        names.insert(
            side,
            told.or_else(stem).or(shared).or_else(address).unwrap_or_else(|| format!("node-of-{end}")),
        );
    }
    // Both pods on one node, with one name.
    names.insert(Side::Between, "between".to_owned());
    names
}

fn node(draft: &Draft, names: &BTreeMap<Side, String>) -> String {
    match draft.side.and_then(|side| names.get(&side)) {
        Some(name) => name.clone(),
        None => draft.node().unwrap_or_default().to_owned(),
    }
}

fn point_id(draft: &Draft, names: &BTreeMap<Side, String>) -> String {
    format!("{}/{}", node(draft, names), draft.interface())
}

/// A path that does not count on a point: the stages on its two sides are one, named after the first.
fn leave_out(path: &mut Path, id: PointId) {
    let Some(at) = path.points.iter().position(|point| *point == id) else { return };
    path.points.remove(at);
    path.stages.remove(at.min(path.stages.len() - 1));
}

fn case(
    drafts: &[Draft],
    ends: &Ends,
    points: Vec<CapturePoint>,
    encapsulated: bool,
    warnings: Vec<String>,
) -> Case {
    let (first, last) = (&points[0].node, &points[points.len() - 1].node);
    let mut paths = plan::paths(&points, encapsulated);
    for path in &mut paths {
        for (id, draft) in (0..=u8::MAX).map(PointId).zip(drafts) {
            if draft.lacks == Some(path.direction) && path.points.len() > 2 {
                leave_out(path, id);
            }
        }
        let end = path.points.last().map(|PointId(id)| points[usize::from(*id)].role);
        path.open_end = !matches!(end, Some(Role::Veth | Role::Pod));
    }
    let end = |address: IpAddr, node: &str| Endpoint {
        name: address.to_string(),
        address,
        node: Some(node.to_owned()),
    };
    let facts = |name: &str, direction| {
        let address = place::sender(drafts, ends, direction)?;
        Some(NodeFacts { name: name.to_owned(), addresses: vec![address], on_path: true })
    };
    let nodes = if first == last {
        Vec::new()
    } else {
        facts(first, Direction::Forward).into_iter().chain(facts(last, Direction::Reply)).collect()
    };
    let aliases = Aliases { from: ends.aliases.from.clone(), to: ends.aliases.to.clone() };
    let vxlan_port = drafts.iter().find_map(|draft| draft.lane.vxlan_port).unwrap_or(4789);
    Case {
        from: end(ends.from, first),
        to: end(ends.to, last),
        aliases,
        nodes,
        paths,
        points,
        vxlan_port,
        window: None,
        clocks: Vec::new(),
        only: Only::default(),
        probe: None,
        conntrack: Vec::new(),
        warnings,
    }
}
