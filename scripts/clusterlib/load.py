"""Fills an API server to a large cluster's size: Nodes without kubelets, their Pods, and Calico's blocks.

In: how many. Out: objects in etcd, byte for byte as the API server gives back one of each that it was given the usual
way; only names, addresses and ids differ. Written to etcd itself, since through the API it takes many times as long.
Run in the control plane's namespace.
"""

import base64
import copy
import http.client
import json
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
        puts = [{"requestPut": {"key": coded(key), "value": coded(value)}} for key, value in pairs]
        self.connection.request("POST", "/v3/kv/txn", json.dumps({"success": puts}), {"Content-Type": "application/json"})
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status != 200 or not json.loads(text).get("succeeded"):
            raise SystemExit(f"cluster: etcd refused {pairs[0][0]} and those after it: {answer.status} {text[:200]!r}")


def coded(text):
    return base64.b64encode(text.encode()).decode()


def node_of(number, pods):
    """The node and its pods, as the lab's makers of objects take them. 64 addresses a block."""
    high, low = divmod(number - 1, 1024)
    block = f"10.{128 + high}.{low // 4}.{low % 4 * 64}"
    front, last = block.rsplit(".", 1)
    node = SimpleNamespace(name=f"big-{number:05}", address=f"172.{20 + number // 65536}.{number // 256 % 256}.{number % 256}",
                           block=f"{block}/26", tunnel=block, pods=[])
    for ordinal in range(1, pods + 1):
        namespace, name = f"big-{(number * pods + ordinal) % NAMESPACES:02}", f"web-{number:05}-{ordinal:02}"
        node.pods.append(SimpleNamespace(namespace=namespace, name=name, key=f"{namespace}/{name}", ordinal=ordinal, address=f"{front}.{int(last) + ordinal}"))
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


def objects_of(node):
    block, affinity = lab.blocks(CRD, node, node.block, f"vxlan-tunnel-addr-{node.name}", "vxlanTunnelAddress")
    return [node_object(node), cleaned(block), cleaned(affinity)] + [pod_object(node, pod) for pod in node.pods]


def keyed(thing):
    metadata = thing["metadata"]
    if thing["kind"] == "Node":
        return f"/registry/minions/{metadata['name']}"
    if thing["kind"] == "Pod":
        return f"/registry/pods/{metadata['namespace']}/{metadata['name']}"
    return f"/registry/crd.projectcalico.org/{thing['kind'].lower().replace('affinity', 'affinitie')}s/{metadata['name']}"


def given_back(api, thing):
    """As the server completes it: the frame into which the others' own values are laid."""
    api.put(thing)
    whole = api.ask("GET", f"{collection(thing)}/{thing['metadata']['name']}")
    whole["metadata"].pop("resourceVersion", None)
    return {"apiVersion": thing["apiVersion"], "kind": thing["kind"]} | whole


def laid(frame, thing):
    """`thing` over `frame`, map by map; lists of the same length likewise."""
    if isinstance(frame, dict) and isinstance(thing, dict):
        return {**frame, **{key: laid(frame.get(key), value) for key, value in thing.items()}}
    if isinstance(frame, list) and isinstance(thing, list) and len(frame) == len(thing):
        return [laid(*pair) for pair in zip(frame, thing)]
    return copy.deepcopy(thing) if frame is None else thing


def fill(place, nodes, pods, say):
    started = time.monotonic()
    api = place.api(timeout=120)
    namespaces(api, [f"big-{k:02}" for k in range(NAMESPACES)], place.authority)
    api.put(lab.thing(CRD, "IPPool", "big", spec={"cidr": "10.128.0.0/9", "blockSize": 26, "vxlanMode": "Always", "ipipMode": "Never",
                                                  "natOutgoing": True, "nodeSelector": "all()", "allowedUses": ["Workload", "Tunnel"]}))
    a_node = -(-pods // nodes)
    if a_node > 62:
        raise SystemExit(f"cluster: {a_node} pods a node do not fit into a block of 64 addresses; more nodes, or fewer pods")
    first = objects_of(node_of(1, min(a_node, pods)))
    frames = {}
    for thing in first:
        frames.setdefault(thing["kind"], given_back(api, thing) if thing["kind"] not in frames else None)
    rate = api_rate(api, first)
    stores, jobs, left, size = [Store() for _ in range(4)], [], pods, 0
    with ThreadPoolExecutor(len(stores)) as pool:
        pairs = []
        for number in range(1, nodes + 1):
            node = node_of(number, min(a_node, left))
            left -= len(node.pods)
            for thing in objects_of(node):
                whole = laid(frames[thing["kind"]], thing)
                whole["metadata"]["uid"] = str(uuid.uuid5(uuid.NAMESPACE_URL, keyed(thing)))
                pairs.append((keyed(thing), json.dumps(whole, separators=(",", ":"))))
                size += len(pairs[-1][1])
            while len(pairs) >= BATCH:
                batch, pairs = pairs[:BATCH], pairs[BATCH:]
                jobs.append(pool.submit(write, stores, batch))
                while len(jobs) > 16:
                    jobs.pop(0).result(timeout=120)
        if pairs:
            jobs.append(pool.submit(write, stores, pairs))
        for job in jobs:
            job.result(timeout=120)
    say(f"{nodes} nodes and {pods} pods, {size >> 20} MB, written in {time.monotonic() - started:.0f} s; through the API it is {rate:.0f} objects a second")
    settled(api, nodes, pods - left)
    say(f"served after {time.monotonic() - started:.0f} s")


def write(stores, batch):
    store = stores.pop()
    try:
        store.write(batch)
    finally:
        stores.append(store)


def api_rate(api, things):
    """What the usual way would cost: the first node's pods are made by it, one after another."""
    started = time.monotonic()
    for thing in things:
        api.put(thing)
    return len(things) / (time.monotonic() - started)


def settled(api, nodes, pods):
    """The server's own cache has them: a list of one says how many are left."""
    for plural, wanted in (("nodes", nodes), ("pods", pods)):
        def all_there(plural=plural, wanted=wanted):
            page = api.ask("GET", f"/api/v1/{plural}?limit=1")
            return 1 + page["metadata"].get("remainingItemCount", 0) >= wanted

        api.wait(f"{wanted} {plural}", 120, all_there, "the API server's log tells what it makes of them")
