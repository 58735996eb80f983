"""Names and addresses of a lab, derived as Calico derives them.

In: the lab's name, how many nodes and pods a node. Out: Node and Pod objects with every name, address and MAC. Makes
nothing.
"""

import hashlib
from dataclasses import dataclass, field

HOST_MAC = "ee:ee:ee:ee:ee:ee"
HOST_LINK_LOCAL = "fe80::ecee:eeff:feee:eeee"
NIC_MTU = 1500
TUNNEL_MTU = 1450
TUNNEL6_MTU = 1430
IPIP_MTU = 1480
POD_MTU = 1430
VNI = 4096
PORT = 4789
GATEWAY = "192.168.50.1"
GATEWAY6 = "fd00:50::1"
POOL = "10.244.0.0/16"
POOL6 = "fd00:10:244::/48"
SERVICE = "10.96.0.10"
SERVICE6 = "fd00:10:96::10"
# A Service without endpoints, and an address of the underlay that no node is known by.
EMPTY, EMPTY6 = "10.96.0.20", "fd00:10:96::20"
STRAY, STRAY6 = "192.168.50.99", "fd00:50::99"


def vtep_mac(node):
    """felix/calc/vxlan_resolver.go: 66, then five bytes of SHA-1 of the node's name."""
    digest = hashlib.sha1(node.encode()).hexdigest()
    return "66:" + ":".join(digest[i : i + 2] for i in range(0, 10, 2))


def veth_name(namespace, pod):
    """libcalico-go: cali, then eleven digits of SHA-1 of namespace.pod."""
    return "cali" + hashlib.sha1(f"{namespace}.{pod}".encode()).hexdigest()[:11]


@dataclass
class Node:
    index: int
    name: str
    pods: list = field(default_factory=list)

    def __post_init__(self):
        i = self.index
        self.address, self.address6 = f"192.168.50.{10 + i}", f"fd00:50::{10 + i}"
        self.block, self.block6 = f"10.244.{i}.0/26", f"fd00:10:244:{i}::/122"
        self.tunnel, self.tunnel6 = f"10.244.{i}.0", f"fd00:10:244:{i}::"
        self.mac, self.mac6 = vtep_mac(self.name), vtep_mac(self.name + "-v6")
        self.nic_mac = f"02:00:c0:a8:32:{10 + i:02x}"


@dataclass
class Pod:
    namespace: str
    name: str
    node: Node
    ordinal: int
    netns: str

    def __post_init__(self):
        self.address = f"10.244.{self.node.index}.{self.ordinal}"
        self.address6 = f"fd00:10:244:{self.node.index}::{self.ordinal:x}"
        self.veth = veth_name(self.namespace, self.name)
        self.mac = f"0a:58:0a:f4:{self.node.index:02x}:{self.ordinal:02x}"
        self.link_local = f"fe80::858:aff:fef4:{self.node.index:02x}{self.ordinal:02x}"

    @property
    def key(self):
        return f"{self.namespace}/{self.name}"


class Topology:
    """Everything that a lab of this name and size consists of."""

    def __init__(self, name="lab", nodes=3, pods=2, tunnel="vxlan"):
        """`tunnel` is how packets go from node to node: vxlan, vxlan:PORT, ipip, or none."""
        self.name = name
        self.tunnel, _, port = tunnel.partition(":")
        self.port = int(port or PORT)
        self.prefix = "" if name == "lab" else f"{name}-"
        self.underlay = f"{self.prefix}underlay"
        self.nodes = [Node(i, f"{self.prefix}worker-{i}") for i in range(1, nodes + 1)]
        first = {1: ["client", "neighbour"], 2: ["server"]}
        for node in self.nodes:
            names = [("default", pod) for pod in first.get(node.index, [])]
            names += [("shop", f"web-{node.index}-{k}") for k in range(len(names), pods)]
            for ordinal, (namespace, pod) in enumerate(names, start=2):
                netns = f"{self.prefix}pod-{namespace}-{pod}"
                node.pods.append(Pod(namespace, pod, node, ordinal, netns))

    @property
    def pods(self):
        return [pod for node in self.nodes for pod in node.pods]

    def pod(self, key):
        for pod in self.pods:
            if pod.key == key or (("/" not in key) and pod.key == f"default/{key}"):
                return pod
        raise SystemExit(f"lab: there is no pod {key}; there are {', '.join(p.key for p in self.pods)}")

    @property
    def namespaces(self):
        return [self.underlay] + [n.name for n in self.nodes] + [p.netns for p in self.pods]
