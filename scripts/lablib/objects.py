"""The lab as Kubernetes and Calico objects, as `kubectl get … -o yaml` would print them.

In: a Topology. Out: YAML text, one List (contracts: what `--cluster` reads).
"""

from . import topology as t


def lab_objects(topology):
    items = []
    for node in topology.nodes:
        items.append(thing("v1", "Node", node.name, annotations={
            "projectcalico.org/IPv4Address": f"{node.address}/24", "projectcalico.org/IPv4VXLANTunnelAddr": node.tunnel,
            "projectcalico.org/IPv6Address": f"{node.address6}/64", "projectcalico.org/IPv6VXLANTunnelAddr": node.tunnel6,
        }, status={"addresses": [{"address": node.address, "type": "InternalIP"}, {"address": node.address6, "type": "InternalIP"},
                                 {"address": node.name, "type": "Hostname"}],
                   "conditions": [{"type": "Ready", "status": "True"}]}))
    for pod in topology.pods:
        labels, owners = owned(pod)
        items.append(thing("v1", "Pod", pod.name, pod.namespace, labels=labels, owners=owners,
                           annotations={"cni.projectcalico.org/podIPs": f"{pod.address}/32,{pod.address6}/128",
                                        "cni.projectcalico.org/containerID": handle(pod)},
                           spec={"nodeName": pod.node.name, "containers": [{"name": "main", "image": "example/main"}]},
                           status={"phase": "Running", "podIP": pod.address, "podIPs": [{"ip": pod.address}, {"ip": pod.address6}]}))
    return items + service(topology) + calico(topology)


def owned(pod):
    """Labels and owners: pods called web-… are those of the Deployment shop/web, the others nobody's."""
    if not pod.name.startswith("web-"):
        return {"app": pod.name}, None
    template = "7d4b9c6f58"
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": f"web-{template}", "uid": uid(f"ReplicaSet web-{template}"),
             "controller": True, "blockOwnerDeletion": True}
    return {"app": "web", "pod-template-hash": template}, [owner]


def service(topology):
    server = topology.pod("default/server")
    ports = [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}, {"name": "echo", "port": 5353, "protocol": "UDP", "targetPort": 5000}]
    slices = [thing("discovery.k8s.io/v1", "EndpointSlice", f"server-svc-{family.lower()}", "default",
                    labels={"kubernetes.io/service-name": "server-svc"}, addressType=family,
                    endpoints=[{"addresses": [address], "conditions": {"ready": True}, "nodeName": server.node.name}],
                    ports=[{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "echo", "port": 5000, "protocol": "UDP"}])
              for family, address in (("IPv4", server.address), ("IPv6", server.address6))]
    policy = [thing("networking.k8s.io/v1", "NetworkPolicy", name, "default", spec={"podSelector": {"matchLabels": {"app": "server"}}, "policyTypes": ["Ingress"]})
              for name in ("allow-server", "deny-all")]
    return [thing("v1", "Service", "server-svc", "default", spec={
        "clusterIP": t.SERVICE, "clusterIPs": [t.SERVICE, t.SERVICE6], "selector": {"app": "server"}, "ports": ports}),
        thing("v1", "Service", "empty-svc", "default", spec={
            "clusterIP": t.EMPTY, "clusterIPs": [t.EMPTY, t.EMPTY6], "selector": {"app": "nobody"},
            "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}]})] + slices + policy


def handle(pod):
    return f"{abs(hash_of(pod.key)):064x}"[:64]


def hash_of(text):
    import hashlib
    return int(hashlib.sha256(text.encode()).hexdigest(), 16)


def calico(topology):
    crd = "crd.projectcalico.org/v1"
    mode = lambda tunnel: "Always" if topology.tunnel == tunnel else "Never"  # noqa: E731
    items = [
        thing(crd, "IPPool", "default-ipv4-ippool", spec={"cidr": t.POOL, "blockSize": 26, "vxlanMode": mode("vxlan"), "ipipMode": mode("ipip"), "natOutgoing": True, "nodeSelector": "all()", "allowedUses": ["Workload", "Tunnel"]}),
        thing(crd, "IPPool", "default-ipv6-ippool", spec={"cidr": t.POOL6, "blockSize": 122, "vxlanMode": "Always", "ipipMode": "Never", "natOutgoing": True, "nodeSelector": "all()", "allowedUses": ["Workload", "Tunnel"]}),
        thing(crd, "FelixConfiguration", "default", spec={"vxlanEnabled": True, "vxlanPort": topology.port, "vxlanVNI": t.VNI, "ipv6Support": True}),
        thing(crd, "IPAMConfig", "default", spec={"strictAffinity": False, "autoAllocateBlocks": True, "maxBlocksPerHost": 0}),
    ]
    for node in topology.nodes:
        for block, tunnel, kind, own in ((node.block, f"vxlan-tunnel-addr-{node.name}", "vxlanTunnelAddress", lambda p: p.address),
                                         (node.block6, f"vxlan-v6-tunnel-addr-{node.name}", "vxlanV6TunnelAddress", lambda p: p.address6)):
            items += blocks(crd, node, block, tunnel, kind)
            items.append(held(crd, tunnel, [block]))
    items += [held(crd, f"k8s-pod-network.{handle(pod)}", [pod.node.block, pod.node.block6]) for pod in topology.pods]
    return items


def held(crd, name, blocks):
    """An IPAMHandle: one address in each block."""
    return stored(thing(crd, "IPAMHandle", name, spec={"handleID": name, "block": {block: 1 for block in blocks}, "deleted": False}))


def stored(object):
    """As the API server keeps it: with a version and an id that come from its name."""
    number = hash_of(object["kind"] + object["metadata"]["name"])
    object["metadata"]["resourceVersion"] = str(1000 + number % 100000)
    object["metadata"]["uid"] = uid(object["kind"] + object["metadata"]["name"])
    return object


def uid(text):
    digits = f"{hash_of(text):064x}"
    return "-".join((digits[:8], digits[8:12], "4" + digits[13:16], "8" + digits[17:20], digits[20:32]))


def blocks(crd, node, block, tunnel, kind):
    name = block.replace(".", "-").replace(":", "-").replace("/", "-")
    allocations = [None] * 64
    attributes = [{"handle_id": tunnel, "secondary": {"node": node.name, "type": kind}}]
    allocations[0] = 0
    for pod in node.pods:
        allocations[pod.ordinal] = len(attributes)
        attributes.append({"handle_id": f"k8s-pod-network.{handle(pod)}",
                           "secondary": {"namespace": pod.namespace, "node": node.name, "pod": pod.name, "timestamp": "2026-11-01 08:00:00 +0000 UTC"}})
    free = [i for i, used in enumerate(allocations) if used is None]
    # Numbered from the clock when the block was made; each write of it adds one.
    first = 1793520000000000000
    taken = [i for i, used in enumerate(allocations) if used is not None]
    return [
        stored(thing(crd, "IPAMBlock", name, spec={
            "cidr": block, "affinity": f"host:{node.name}", "allocations": allocations, "unallocated": free, "attributes": attributes,
            "sequenceNumber": first + len(taken), "sequenceNumberForAllocation": {str(ordinal): first + k for k, ordinal in enumerate(taken)},
            "strictAffinity": False, "deleted": False})),
        stored(thing(crd, "BlockAffinity", f"{node.name}-{name}", spec={
            "cidr": block, "node": node.name, "type": "host", "state": "confirmed", "deleted": "false"})),
    ]


def thing(version, kind, name, namespace=None, labels=None, annotations=None, owners=None, **rest):
    metadata = {"annotations": annotations, "labels": labels, "name": name, "namespace": namespace, "ownerReferences": owners}
    return {"apiVersion": version, **dict(sorted(rest.items())), "kind": kind, "metadata": {k: v for k, v in metadata.items() if v is not None}}


def yaml(value, depth=0):
    """Block style for maps and lists of maps, as kubectl prints it."""
    pad = "  " * depth
    if isinstance(value, dict) and value:
        lines = []
        for key, item in value.items():
            if isinstance(item, (dict, list)) and item:
                lines.append(f"{pad}{key}:\n{yaml(item, depth if isinstance(item, list) else depth + 1)}")
            else:
                lines.append(f"{pad}{key}: {scalar(item)}")
        return "\n".join(lines)
    if isinstance(value, list) and value:
        lines = []
        for item in value:
            if isinstance(item, dict) and item:
                lines.append(pad + "- " + yaml(item, depth + 1).lstrip())
            else:
                lines.append(f"{pad}- {scalar(item)}")
        return "\n".join(lines)
    return pad + scalar(value)


def scalar(value):
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, (dict, list)):
        return "{}" if isinstance(value, dict) else "[]"
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def cluster_file(topology):
    return yaml({"apiVersion": "v1", "items": lab_objects(topology), "kind": "List", "metadata": {"resourceVersion": ""}}) + "\n"
