"""Fills an API server to a large cluster's size: Nodes without kubelets, their Pods, and Calico's blocks.

In: how many. Out: objects in etcd, byte for byte as the API server stores one of each that it was given the usual way;
only names, addresses and ids differ, all of one length, so that they can be put in place of the first one's. Written to
etcd itself, since through the API it takes many times as long. Run in the control plane's namespace.
"""

import base64
import http.client
import json
import re
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

from lablib import objects as lab

from .api import collection
from .objects import cleaned, namespaces

BATCH = 100
NAMESPACES = 50
CRD = "crd.projectcalico.org/v1"


class Store:
    """etcd through its own JSON door."""

    def __init__(self):
        self.connection = http.client.HTTPConnection("127.0.0.1", 2379, timeout=60)

    def write(self, pairs):
        puts = [{"requestPut": {"key": coded(key.encode()), "value": coded(value)}} for key, value in pairs]
        self.connection.request("POST", "/v3/kv/txn", json.dumps({"success": puts}), {"Content-Type": "application/json"})
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status != 200 or not json.loads(text).get("succeeded"):
            raise SystemExit(f"cluster: etcd refused {pairs[0][0]} and those after it: {answer.status} {text[:200]!r}")


def coded(data):
    return base64.b64encode(data).decode()


def node_of(number, pods):
    """The node and its pods, as the lab's makers of objects take them. Every number in an address has three digits."""
    high, low = divmod(number - 1, 156)
    front = f"10.{128 + high}.{100 + low}"
    node = SimpleNamespace(name=f"big-{number:05}", address=f"172.120.{128 + high}.{100 + low}", block=f"{front}.128/26", tunnel=f"{front}.128", pods=[])
    for ordinal in range(1, pods + 1):
        namespace, name = f"team-{(number * pods + ordinal) % NAMESPACES:02}", f"web-{number:05}-{ordinal:02}"
        node.pods.append(SimpleNamespace(namespace=namespace, name=name, key=f"{namespace}/{name}", ordinal=ordinal, address=f"{front}.{128 + ordinal}"))
    return node


def node_object(node):
    condition = {"lastHeartbeatTime": "2026-11-01T08:00:00Z", "lastTransitionTime": "2026-11-01T08:00:00Z", "status": "False"}
    return lab.thing("v1", "Node", node.name, labels={"kubernetes.io/hostname": node.name, "kubernetes.io/os": "linux", "topology.kubernetes.io/zone": "a"},
                     annotations={"projectcalico.org/IPv4Address": f"{node.address}/16", "projectcalico.org/IPv4VXLANTunnelAddr": node.tunnel},
                     spec={"podCIDR": node.block},
                     status={"addresses": [{"address": node.address, "type": "InternalIP"}, {"address": node.name, "type": "Hostname"}],
                             "capacity": {"cpu": "64", "memory": "256Gi", "pods": "110"}, "allocatable": {"cpu": "63", "memory": "250Gi", "pods": "110"},
                             "conditions": [condition | {"type": kind, "reason": f"KubeletHasNo{kind}", "message": "kubelet is well"}
                                            for kind in ("MemoryPressure", "DiskPressure", "PIDPressure")]
                             + [condition | {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "kubelet is posting ready status"}],
                             "images": [{"names": [f"registry.example/app-{k}@sha256:{k:064x}", f"registry.example/app-{k}:1.{k}"], "sizeBytes": 100000000 + k} for k in range(30)],
                             "nodeInfo": {"kernelVersion": "6.1.0", "osImage": "Linux", "kubeletVersion": "v1.35.4", "architecture": "amd64", "operatingSystem": "linux",
                                          "containerRuntimeVersion": "containerd://1.6.20", "bootID": "", "machineID": "", "systemUUID": "", "kubeProxyVersion": ""}})


def pod_object(node, pod):
    started = "2026-11-01T08:00:00Z"
    return lab.thing("v1", "Pod", pod.name, pod.namespace, labels={"app": "web", "pod-template-hash": "5d9c7f8b64", "team": pod.namespace},
                     annotations={"cni.projectcalico.org/podIP": f"{pod.address}/32", "cni.projectcalico.org/podIPs": f"{pod.address}/32",
                                  "cni.projectcalico.org/containerID": lab.handle(pod)},
                     spec={"nodeName": node.name, "automountServiceAccountToken": False,
                           "containers": [{"name": "main", "image": "registry.example/app-1:1.1", "ports": [{"containerPort": 8080}],
                                           "env": [{"name": f"SETTING_{k}", "value": f"value of setting {k}"} for k in range(12)],
                                           "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
                                           "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}}}]},
                     status={"phase": "Running", "hostIP": node.address, "hostIPs": [{"ip": node.address}], "podIP": pod.address, "podIPs": [{"ip": pod.address}],
                             "startTime": started, "qosClass": "Burstable",
                             "conditions": [{"type": kind, "status": "True", "lastTransitionTime": started}
                                            for kind in ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")],
                             "containerStatuses": [{"name": "main", "image": "registry.example/app-1:1.1", "imageID": f"registry.example/app-1@sha256:{1:064x}",
                                                    "containerID": f"containerd://{lab.handle(pod)}", "ready": True, "started": True, "restartCount": 0,
                                                    "state": {"running": {"startedAt": started}}}]})


def blocks_of(node):
    block, affinity = lab.blocks(CRD, node, node.block, f"vxlan-tunnel-addr-{node.name}", "vxlanTunnelAddress")
    return cleaned(block), cleaned(affinity)


class Mould:
    """What the server stores for one object, into which others' names are put."""

    def __init__(self, api, thing, names):
        api.put(thing)
        place = f"{collection(thing)}/{thing['metadata']['name']}"
        self.uid = api.ask("GET", place)["metadata"]["uid"]
        self.stored, self.names = api.stored(place), names
        # A name that is part of another is put in with that other.
        wanted = sorted([*names, self.uid], key=len, reverse=True)
        self.pattern = re.compile(b"|".join(re.escape(name.encode()) for name in wanted))

    def cast(self, key, names):
        new = {old.encode(): name.encode() for old, name in zip(self.names, names)}
        new[self.uid.encode()] = str(uuid.uuid5(uuid.NAMESPACE_URL, key)).encode()
        if any(len(old) != len(name) for old, name in new.items()):
            raise SystemExit(f"cluster: the names of {key} are not as long as the first one's")
        return self.pattern.sub(lambda found: new[found[0]], self.stored)


def node_names(node):
    return [node.name, node.address, node.block, node.tunnel]


def pod_names(node, pod):
    return [pod.name, pod.namespace, pod.address, node.name, node.address, lab.handle(pod)]


def pairs_of(node, moulds):
    """Keys and values as etcd holds them: Kubernetes' own kinds as protobuf, Calico's as JSON."""
    key = f"/registry/minions/{node.name}"
    yield key, moulds["Node"].cast(key, node_names(node))
    for thing, plural in zip(blocks_of(node), ("ipamblocks", "blockaffinities")):
        key = f"/registry/crd.projectcalico.org/{plural}/{thing['metadata']['name']}"
        thing["metadata"] |= {"uid": str(uuid.uuid5(uuid.NAMESPACE_URL, key)), "generation": 1, "creationTimestamp": "2026-11-01T08:00:00Z"}
        yield key, json.dumps(thing, separators=(",", ":")).encode()
    for pod in node.pods:
        key = f"/registry/pods/{pod.namespace}/{pod.name}"
        yield key, moulds["Pod"].cast(key, pod_names(node, pod))


def fill(place, nodes, pods, say):
    started = time.monotonic()
    a_node = -(-pods // nodes)
    if a_node > 62 or nodes > 64 * 156:
        raise SystemExit(f"cluster: at most 62 pods a node (a block has 64 addresses) and {64 * 156} nodes; asked for {a_node} and {nodes}")
    api = place.api(timeout=120)
    namespaces(api, [f"team-{k:02}" for k in range(NAMESPACES)], place.authority)
    api.put(lab.thing(CRD, "IPPool", "big", spec={"cidr": "10.128.0.0/10", "blockSize": 26, "vxlanMode": "Always", "ipipMode": "Never",
                                                  "natOutgoing": True, "nodeSelector": "all()", "allowedUses": ["Workload", "Tunnel"]}))
    first = node_of(1, a_node)
    pod = first.pods[0]
    moulds = {"Node": Mould(api, node_object(first), node_names(first)), "Pod": Mould(api, pod_object(first, pod), pod_names(first, pod))}
    rate = api_rate(api, [pod_object(first, other) for other in first.pods[1:]])
    stores, jobs, left, size = [Store() for _ in range(4)], [], pods, 0
    with ThreadPoolExecutor(len(stores)) as pool:
        pairs = []
        for number in range(1, nodes + 1):
            node = node_of(number, min(a_node, left))
            left -= len(node.pods)
            pairs += pairs_of(node, moulds)
            while len(pairs) >= BATCH or (pairs and number == nodes):
                batch, pairs = pairs[:BATCH], pairs[BATCH:]
                size += sum(len(value) for _, value in batch)
                jobs.append(pool.submit(write, stores, batch))
                while len(jobs) > 16:
                    jobs.pop(0).result(timeout=120)
        for job in jobs:
            job.result(timeout=120)
    say(f"{nodes} nodes and {pods} pods, {size >> 20} MB, written in {time.monotonic() - started:.0f} s; through the API it is {rate:.0f} pods a second")
    settled(api, nodes, pods)
    say(f"served after {time.monotonic() - started:.0f} s")


def write(stores, batch):
    store = stores.pop()
    try:
        store.write(batch)
    finally:
        stores.append(store)


def api_rate(api, things):
    """What the usual way would cost: the first node's other pods are made by it, one after another."""
    started = time.monotonic()
    for thing in things:
        api.put(thing)
    return len(things) / max(0.001, time.monotonic() - started)


def settled(api, nodes, pods):
    """The server's own cache has them: a list of one says how many are left."""
    for plural, wanted in (("nodes", nodes), ("pods", pods)):
        def all_there(plural=plural, wanted=wanted):
            page = api.ask("GET", f"/api/v1/{plural}?limit=1")
            return 1 + page["metadata"].get("remainingItemCount", 0) >= wanted

        api.wait(f"{wanted} {plural}", 120, all_there, "the API server's log tells what it makes of them")
