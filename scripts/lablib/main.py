"""The lab's command line: up, down, cluster, status, fault, traffic.

In: words. Out: the lab in the kernel, its state in /run/trace-drop-lab/NAME, and what was asked for on stdout.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from . import build, faults, nft, objects, rules
from . import topology as t

HERE = Path(__file__).resolve().parent
STATE = Path("/run/trace-drop-lab")


class State:
    """What must be remembered between calls."""

    def __init__(self, name):
        self.folder = STATE / name
        self.file = self.folder / "lab.json"

    def read(self):
        try:
            return json.loads(self.file.read_text())
        except FileNotFoundError:
            return None

    def write(self, data):
        self.folder.mkdir(parents=True, exist_ok=True)
        half = self.file.with_suffix(".new")
        half.write_text(json.dumps(data))
        half.rename(self.file)

    def remove(self):
        shutil.rmtree(self.folder, ignore_errors=True)


def up(words):
    state = State(words.name)
    topology = t.Topology(words.name, words.nodes, words.pods, words.tunnel)
    data = {"nodes": words.nodes, "pods": words.pods, "tunnel": words.tunnel, "backend": words.backend, "layout": words.layout, "fault": None}
    if state.read():
        raise SystemExit(f"lab: {words.name} is up already; `lab --name {words.name} down` ends it")
    state.write(data)
    build.up(topology)
    for node in topology.nodes:
        if words.backend == "nftables":
            build.inside(node.name, "nft", "-f", "-", text=nft.tables(topology, node, words.layout))
            continue
        build.inside(node.name, "ipset", "restore", text=rules.ipsets(topology, node))
        for v6, tool in ((False, "iptables"), (True, "ip6tables")):
            text = rules.Felix(topology, node, v6, words.layout).tables()
            build.inside(node.name, f"{tool}-{words.backend}-restore", "--noflush", text=text)
    started = [(f"the server of {pod.key}", start(pod.netns, "servers.py")) for pod in topology.pods]
    if topology.tunnel == "ipip":
        started += [(f"IPIP on {node.name}", start_ipip(topology, node)) for node in topology.nodes]
    for what, process in started:
        if not process.stdout.readline().startswith(b"ready"):
            raise SystemExit(f"lab: {what} did not start")
    if not words.quiet:
        print(f"lab {words.name}: {len(topology.nodes)} nodes, {len(topology.pods)} pods, rules in {words.backend}", file=sys.stderr)


def start_ipip(topology, node):
    peers = [f"{peer.block}={peer.address}" for peer in topology.nodes if peer is not node]
    return start(node.name, "ipip.py", "tunl0", node.address, *peers)


def start(netns, script, *words):
    command = ["ip", "netns", "exec", netns, sys.executable, "-B", str(HERE / script), *words]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)


def down(words):
    state = State(words.name)
    data = state.read() or {"nodes": 9, "pods": 4}
    topology = t.Topology(words.name, max(data["nodes"], 9), max(data["pods"], 4))
    # Also those of an `up` that did not come to its end: what runs in the lab's own namespaces and is ours.
    for netns in build.existing() & set(topology.namespaces):
        for pid in build.run("ip", "netns", "pids", netns, check=False).stdout.split():
            end(int(pid))
    build.down(topology)
    state.remove()


def end(pid):
    """Ends a server of ours, and nothing else."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
        if b"servers.py" in words or b"lablib/ipip.py" in words:
            os.kill(pid, signal.SIGKILL)
    except (FileNotFoundError, ProcessLookupError):
        pass


def loaded(words):
    data = State(words.name).read()
    if data is None:
        raise SystemExit(f"lab: {words.name} is not up; start it with `lab --name {words.name} up`")
    return data, t.Topology(words.name, data["nodes"], data["pods"], data.get("tunnel", "vxlan"))


def cluster(words):
    _, topology = loaded(words)
    print(objects.cluster_file(topology), end="")


def status(words):
    data, topology = loaded(words)
    print(json.dumps({"name": words.name, "backend": data["backend"], "fault": data["fault"],
                      "nodes": [n.name for n in topology.nodes], "pods": {p.key: p.netns for p in topology.pods}}, indent=2))


def fault(words):
    if words.what == "list":
        print(faults.listed(words.json))
        return
    data, topology = loaded(words)
    world = faults.World(topology, data["backend"], STATE / words.name)
    if data["fault"]:
        world.undo(data["fault"])
        data["fault"] = None
        State(words.name).write(data)
    if words.what == "apply":
        data["fault"] = words.fault
        State(words.name).write(data)
        world.apply(words.fault)


def traffic(words):
    _, topology = loaded(words)
    source, target = topology.pod(words.source), topology.pod(words.target)
    address = target.address6 if words.six else target.address
    if words.kind == "service":
        address = t.SERVICE6 if words.six else t.SERVICE
    command = [sys.executable, "-B", str(HERE / "traffic.py"), words.kind, address, "--interval", str(words.interval)]
    for key in ("count", "port", "size"):
        if getattr(words, key) is not None:
            command += [f"--{key}", str(getattr(words, key))]
    done = build.inside(source.netns, *command)
    print(done.stdout, end="")


def parser():
    words = argparse.ArgumentParser(prog="lab", description="A real Calico VXLAN cluster in network namespaces.")
    words.add_argument("--name", default="lab", help="several labs can run at once")
    commands = words.add_subparsers(required=True, metavar="COMMAND")
    one = commands.add_parser("up", help="make the lab")
    one.add_argument("--nodes", type=int, default=3)
    one.add_argument("--pods", type=int, default=2, help="pods a node")
    one.add_argument("--backend", choices=["nft", "legacy", "nftables"], default="nft",
                     help="which iptables holds the rules, or nftables without iptables")
    one.add_argument("--layout", choices=["new", "old"], default="new", help="Calico's mark layout: 3.30 and later, or before")
    one.add_argument("--tunnel", default="vxlan", metavar="vxlan|vxlan:PORT|ipip|none", help="how packets go from node to node")
    one.add_argument("-q", "--quiet", action="store_true")
    one.set_defaults(run=up)
    commands.add_parser("down", help="remove it").set_defaults(run=down)
    commands.add_parser("cluster", help="print the cluster file").set_defaults(run=cluster)
    commands.add_parser("status", help="what is up").set_defaults(run=status)
    one = commands.add_parser("fault", help="list, apply or clear faults")
    one.add_argument("what", choices=["list", "apply", "clear"])
    one.add_argument("fault", nargs="?")
    one.add_argument("--json", action="store_true")
    one.set_defaults(run=fault)
    one = commands.add_parser("traffic", help="send some")
    one.add_argument("kind")
    one.add_argument("--from", dest="source", default="default/client")
    one.add_argument("--to", dest="target", default="default/server")
    one.add_argument("-6", dest="six", action="store_true")
    one.add_argument("--count", type=int)
    one.add_argument("--interval", type=float, default=0.02)
    one.add_argument("--port", type=int)
    one.add_argument("--size", type=int)
    one.set_defaults(run=traffic)
    return words


def main():
    words = parser().parse_args()
    if not build.is_root() and not (words.run is fault and words.what == "list"):
        raise SystemExit("lab: network namespaces need root")
    started = time.monotonic()
    words.run(words)
    if os.environ.get("LAB_TIME"):
        print(f"{time.monotonic() - started:.2f} s", file=sys.stderr)
    return 0
