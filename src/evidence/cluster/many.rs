//! All objects of a text, decoded on all processors: a large cluster's blocks are hundreds of megabytes. Takes the
//! objects; gives the cluster and the warnings as if they had been read one after the other.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::Cluster;
use super::decode;
use super::split::Item;

type Part = (Cluster, Vec<String>);

/// Fewer objects are not worth a thread.
const CHUNK: usize = 256;
const MOST_THREADS: usize = 8;

pub(super) fn decode(objects: &[Item<'_>]) -> Part {
    let chunks: Vec<&[Item<'_>]> = objects.chunks(CHUNK).collect();
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let n_threads = processors.min(MOST_THREADS).min(chunks.len());
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    let work = || {
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(chunk) = chunks.get(place) else { break };
            let part = one_by_one(chunk);
            done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((place, part));
        }
    };
    thread::scope(|scope| {
        for _ in 1..n_threads {
            scope.spawn(work);
        }
        work();
    });
    let mut parts = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    parts.sort_by_key(|(place, _)| *place);
    let mut all = Part::default();
    for (_, (cluster, warnings)) in parts {
        append(&mut all.0, cluster);
        all.1.extend(warnings);
    }
    all
}

fn one_by_one(objects: &[Item<'_>]) -> Part {
    let (mut cluster, mut warnings) = Part::default();
    for object in objects {
        decode::take(&mut cluster, object, &mut warnings);
    }
    (cluster, warnings)
}

fn append(all: &mut Cluster, part: Cluster) {
    let Cluster { kinds, nodes, pods, services, slices, policies, pools, felix, ipam, left_out } = part;
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
