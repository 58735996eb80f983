//! All objects of a text, decoded on all processors while the text is still being taken apart: a large cluster's blocks
//! are hundreds of megabytes. Takes the text; gives the cluster and the warnings as if the objects had been read one
//! after the other.

use std::sync::{Mutex, PoisonError, mpsc};
use std::{mem, thread};

use super::split::{self, Item};
use super::{Cluster, ClusterError, decode};

type Part = (Cluster, Vec<String>);

/// Fewer objects are not worth a thread.
const CHUNK: usize = 256;
const MOST_THREADS: usize = 8;

pub(super) fn decode(text: &str) -> Result<Part, ClusterError> {
    let most = thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    let (chunks, taken) = mpsc::channel::<(usize, Vec<Item<'_>>)>();
    let taken = Mutex::new(taken);
    let done = Mutex::new(Vec::new());
    let work = || {
        loop {
            let next = taken.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok((place, chunk)) = next else { break };
            let part = one_by_one(&chunk);
            done.lock().unwrap_or_else(PoisonError::into_inner).push((place, part));
        }
    };
    thread::scope(|scope| {
        let (mut place, mut chunk) = (0, Vec::new());
        split::objects(text, &mut |item| {
            chunk.push(item);
            if chunk.len() == CHUNK {
                if place < most {
                    scope.spawn(work);
                }
                // The receiver is there until the end.
                let _sent = chunks.send((place, mem::take(&mut chunk)));
                place += 1;
            }
        })?;
        let _sent = chunks.send((place, chunk));
        drop(chunks);
        work();
        Ok(())
    })?;
    let mut parts = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    parts.sort_by_key(|(place, _)| *place);
    let mut all = Part::default();
    for (_, (cluster, warnings)) in parts {
        append(&mut all.0, cluster);
        all.1.extend(warnings);
    }
    Ok(all)
}

fn one_by_one(objects: &[Item<'_>]) -> Part {
    let (mut cluster, mut warnings) = Part::default();
    for object in objects {
        decode::take(&mut cluster, object, &mut warnings);
    }
    (cluster, warnings)
}

pub(super) fn append(all: &mut Cluster, part: Cluster) {
    let Cluster { kinds, nodes, pods, services, slices, policies, pools, felix, ipam, left_out, narrowed: _ } =
        part;
    for kind in kinds {
        if !all.kinds.contains(&kind) {
            all.kinds.push(kind);
        }
    }
    all.nodes.extend(nodes);
    all.pods.extend(pods);
    all.services.extend(services);
    all.slices.extend(slices);
    all.policies.extend(policies);
    all.pools.extend(pools);
    all.felix.extend(felix);
    all.ipam.blocks.extend(ipam.blocks);
    all.ipam.affinities.extend(ipam.affinities);
    all.ipam.handles.extend(ipam.handles);
    all.ipam.reservations.extend(ipam.reservations);
    all.ipam.config = ipam.config.or(all.ipam.config.take());
    for (kind, count) in left_out {
        *all.left_out.entry(kind).or_default() += count;
    }
}
