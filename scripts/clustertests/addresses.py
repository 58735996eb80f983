"""`trace-drop ipam` against a real API server of its own: what is shown by kubeconfig is what the file shows, and what
`release` writes and what it must not write.

In: a bench. The server holds the lab's objects and no nodes run: nobody else writes to them.
"""

import os
import pty
import subprocess
import time

from clusterlib import control

BLOCKS = "/apis/crd.projectcalico.org/v1/ipamblocks"
HANDLES = "/apis/crd.projectcalico.org/v1/ipamhandles"
KINDS = ["nodes,pods,services,endpointslices,networkpolicies",
         "ippools,ipamblocks,blockaffinities,ipamhandles,ipamconfigs,ipreservations,felixconfigurations"]


def run(bench):
    name = f"{bench.name}i"
    bench.cluster("up", "--api-only", name=name)
    try:
        yield from of(Server(bench, control.Place(name)))
    finally:
        bench.cluster("down", name=name)


class Server:
    def __init__(self, bench, place):
        self.bench, self.place, self.api = bench, place, place.api()
        self.kubeconfig = place.kubeconfig

    def run(self, *words):
        return self.bench.run("ipam", *words, KUBECONFIG=str(self.kubeconfig))

    def limited(self):
        """From now on as a user with nothing but the printed role."""
        role = self.bench.run("rbac", "--subject", "releaser", "--no-agents", "--ipam-release").out
        self.bench.kubectl("--kubeconfig", str(self.place.kubeconfig), "apply", "-f", "-", text=role)
        self.kubeconfig = self.bench.folder / "releaser.kubeconfig"
        self.place.authority.client("user-releaser", "releaser")
        self.place.authority.kubeconfig(self.kubeconfig, self.place.server, "user-releaser")

    def leak(self, block, ordinal, handle, node, pod="gone"):
        """Allocates an address as Calico does for a pod that was deleted since."""
        path = f"{BLOCKS}/{block}"
        stored = self.api.ask("GET", path)
        spec = stored["spec"]
        spec["allocations"][ordinal] = len(spec["attributes"])
        spec["unallocated"] = [one for one in spec["unallocated"] if one != ordinal]
        spec["attributes"].append({"handle_id": handle, "secondary": {"namespace": "default", "node": node, "pod": pod}})
        spec["sequenceNumber"] += 1
        spec["sequenceNumberForAllocation"][str(ordinal)] = spec["sequenceNumber"]
        self.api.ask("PUT", path, stored)

    def make(self, kind, name, spec):
        self.api.put({"apiVersion": "crd.projectcalico.org/v1", "kind": kind, "metadata": {"name": name}, "spec": spec})

    def get(self, path):
        try:
            return self.api.ask("GET", path)
        except Exception as error:  # noqa: BLE001: only absence is wanted
            if getattr(error, "code", None) == 404:
                return None
            raise


def of(server):
    one = f"{server.place.prefix}worker-1"
    block = "10-244-1-0-26"
    leaked = {"handleID": "k8s-pod-network.gone", "block": {"10.244.1.0/26": 2, "10.244.9.0/26": 1}, "deleted": False}
    server.make("IPAMHandle", leaked["handleID"], leaked)
    for ordinal in (40, 41):
        server.leak(block, ordinal, leaked["handleID"], one)
    server.make("IPAMHandle", "k8s-pod-network.other", {"handleID": "k8s-pod-network.other", "block": {"10.244.1.0/26": 1}, "deleted": False})
    server.leak(block, 50, "k8s-pod-network.other", one)
    nobodys(server, leaked["handleID"], one)
    # An empty list leaves no trace in a file of kubectl's.
    server.make("IPReservation", "spare", {"reservedCIDRs": ["10.244.3.60/32"]})
    yield from same(server)
    server.limited()
    yield "an address of a running pod is refused, and whose it is", in_use(server, block)
    yield "a leaked address is released; its handle keeps the others", released(server, block, leaked["handleID"])
    yield "the last of its handle: the handle goes", last_of_handle(server, block)
    yield "the last of a block that is nobody's: the block goes", last_of_block(server, leaked["handleID"])
    yield "an address that is free already", free(server)
    yield "an address of no block", nowhere(server)
    yield "a block that changed meanwhile is not written", changed(server, block)


def nobodys(server, handle, node):
    """A block whose node was deleted: no affinity any more, one address left."""
    server.make("IPAMBlock", "10-244-9-0-26", {
        "cidr": "10.244.9.0/26", "allocations": [None] * 5 + [0] + [None] * 58, "unallocated": [one for one in range(64) if one != 5],
        "attributes": [{"handle_id": handle, "secondary": {"namespace": "default", "node": node, "pod": "gone"}}], "strictAffinity": False,
        "deleted": False, "sequenceNumber": 7, "sequenceNumberForAllocation": {"5": 7}})


def same(server):
    file = server.bench.folder / "kubectl.yaml"
    config = ["--kubeconfig", str(server.place.kubeconfig)]
    file.write_text("".join("---\n" + server.bench.kubectl(*config, "get", kinds, "-A", "-o", "yaml") for kinds in KINDS))
    for words in (["show", "--show-blocks"], ["show", "--show-nodes"], ["show", "--show-borrowed"], ["show", "-o", "json"], ["show", "--ip", "10.244.1.40"],
                  ["check"], ["check", "-o", "json"]):
        ours, theirs = server.run(*words), server.bench.run("ipam", *words, "--cluster", str(file), KUBECONFIG="/nonexistent")
        leaks = words[0] == "check" and "10.244.1.40" not in ours.out
        wrong = "" if (ours.code, ours.out) == (theirs.code, theirs.out) and ours.out and not leaks else f"{ours} {ours.out} / {theirs} {theirs.out}"
        yield f"ipam {' '.join(words)}: as from kubectl's file", wrong


def in_use(server, block):
    before = server.get(f"{BLOCKS}/{block}")
    done = server.run("release", "--ip", "10.244.1.2", "--yes")
    told = done.code == 1 and "default/client" in done.err
    return "" if told and server.get(f"{BLOCKS}/{block}") == before else str(done)


def released(server, block, handle):
    done = server.run("release", "--ip", "10.244.1.40", "--yes")
    spec = server.get(f"{BLOCKS}/{block}")["spec"]
    counts = server.get(f"{HANDLES}/{handle}")["spec"]["block"]
    good = done.code == 0 and spec["allocations"][40] is None and 40 in spec["unallocated"] and spec["allocations"][41] is not None
    used = [index for index in spec["allocations"] if index is not None]
    whole = all(spec["attributes"][index]["handle_id"] for index in used) and len(set(used)) <= len(spec["attributes"])
    return "" if good and whole and counts == {"10.244.1.0/26": 1, "10.244.9.0/26": 1} else f"{done} {spec['allocations']} {counts}"


def last_of_handle(server, block):
    done = server.run("release", "--ip", "10.244.1.50", "--yes")
    gone = server.get(f"{HANDLES}/k8s-pod-network.other") is None and server.get(f"{BLOCKS}/{block}")["spec"]["allocations"][50] is None
    return "" if done.code == 0 and gone else str(done)


def last_of_block(server, handle):
    done = server.run("release", "--ip", "10.244.9.5", "--yes")
    counts = server.get(f"{HANDLES}/{handle}")["spec"]["block"]
    return "" if done.code == 0 and server.get(f"{BLOCKS}/10-244-9-0-26") is None and counts == {"10.244.1.0/26": 1} else f"{done} {counts}"


def free(server):
    done = server.run("release", "--ip", "10.244.1.60", "--yes")
    return "" if done.code == 0 and "not assigned" in done.out else str(done)


def nowhere(server):
    done = server.run("release", "--ip", "10.99.0.1", "--yes")
    return "" if done.code == 4 and "no block" in done.err else str(done)


def changed(server, block):
    """Somebody takes another address of the block between the question and the answer: theirs must stay."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([server.bench.program, "ipam", "release", "--ip", "10.244.1.41"], stdin=theirs, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, env={**server.bench.env, "KUBECONFIG": str(server.kubeconfig)})
    os.close(theirs)
    asked, begun = b"", time.monotonic()
    while not asked.endswith(b"[y/N] ") and time.monotonic() - begun < 20:
        asked += process.stderr.read1(1000)
    server.leak(block, 45, "k8s-pod-network.new", "somebody", pod="new")
    os.write(ours, b"y\n")
    out, err = process.communicate(timeout=20)
    os.close(ours)
    spec = server.get(f"{BLOCKS}/{block}")["spec"]
    good = process.returncode == 4 and b"somebody else changed it" in err and spec["allocations"][41] is not None and spec["allocations"][45] is not None
    return "" if good else f"exit {process.returncode}: {asked} {out} {err} {spec['allocations']}"
