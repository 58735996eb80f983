"""The cluster's command line: build, up, down, status, kubeconfig, stop, start, load.

In: words. Out: a real Kubernetes around the lab of that name, its state in /run/trace-drop-cluster/NAME.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from lablib import build as lab
from lablib import main as labmain
from lablib import topology as t

from . import binaries, control, load, nodes, objects

SCRIPTS = Path(__file__).resolve().parent.parent
PROGRAMS = ["kube-apiserver", "kube-controller-manager"]


def build(words):
    binaries.build(PROGRAMS + ([] if words.api_only else ["kubelet", "kubectl"]))


def up(words):
    started = time.monotonic()
    place = control.Place(words.name)
    if place.folder.exists():
        raise SystemExit(f"cluster: {words.name} is up already, or was not taken down; `scripts/cluster --name {words.name} down` ends it")
    subprocess.run([str(SCRIPTS / "setup"), "cluster"], check=True)
    binaries.build(PROGRAMS + ([] if words.api_only else ["kubelet"]), quiet=True)
    place.folder.mkdir(parents=True, mode=0o700)
    standing = labmain.State(words.name).read()
    if standing and not words.api_only:
        words.nodes, words.pods = standing["nodes"], standing["pods"]
    topology = t.Topology(words.name, words.nodes, words.pods)
    (place.folder / "cluster.json").write_text(json.dumps({"nodes": words.nodes, "pods": words.pods, "api_only": words.api_only}))
    if not words.api_only:
        options = ["--nodes", str(words.nodes), "--pods", str(words.pods), "--backend", words.backend, "--layout", words.layout]
        if not standing:
            subprocess.run([str(SCRIPTS / "lab"), "--name", words.name, "up", "--quiet", *options], check=True)
    control.keys(place)
    control.network(place, None if words.api_only else topology.underlay)
    control.start(place)
    objects.load(place, topology, kubelets=not words.api_only)
    if not words.api_only:
        nodes.up(place, topology)
    print(f"cluster {words.name}: up after {time.monotonic() - started:.1f} s", file=sys.stderr)
    print(place.kubeconfig)


def down(words):
    place = control.Place(words.name)
    try:
        data = json.loads((place.folder / "cluster.json").read_text())
    except FileNotFoundError:
        data = {"nodes": 9, "pods": 4, "api_only": False}
    nodes.end(place, [node.name for node in t.Topology(words.name, data["nodes"], data["pods"]).nodes])
    control.end(place)
    if not data["api_only"]:
        subprocess.run([str(SCRIPTS / "lab"), "--name", words.name, "down"], check=True)
    shutil.rmtree(place.folder, ignore_errors=True)


def known(words):
    place = control.Place(words.name)
    try:
        return place, json.loads((place.folder / "cluster.json").read_text())
    except FileNotFoundError:
        raise SystemExit(f"cluster: {words.name} is not up; start it with `scripts/cluster --name {words.name} up`") from None


def kubeconfig(words):
    print(known(words)[0].kubeconfig)


def status(words):
    place, data = known(words)
    print(json.dumps({"name": words.name, **data, "kubeconfig": str(place.kubeconfig), "server": place.server,
                      "running": {name: place.runs(name) for name in ("etcd", "kube-apiserver", "kube-controller-manager")}}, indent=2))


def restart(words):
    """Ends the API server and starts it again; etcd keeps the objects."""
    place, _ = known(words)
    place.stop("kube-apiserver", seconds=1)
    time.sleep(words.pause)
    control.start_api(place)


def stop(words):
    """Ends a node's kubelet, not its containers: what a node that hangs looks like to the API."""
    place, _ = known(words)
    node_folder(place, words.node).joinpath("kubelet.wanted").unlink(missing_ok=True)


def start(words):
    place, _ = known(words)
    node_folder(place, words.node).joinpath("kubelet.wanted").touch()


def node_folder(place, name):
    if not (place.folder / name / "node.json").exists():
        raise SystemExit(f"cluster: {place.name} has no node {name}")
    return place.folder / name


def image(words):
    """Hands an archive to every node's containerd."""
    place, data = known(words)
    if data["api_only"]:
        raise SystemExit(f"cluster: {words.name} was started with --api-only: it has no nodes that take images")
    for node in t.Topology(words.name, data["nodes"], data["pods"]).nodes:
        nodes.inside(place, node.name, "ctr", "-n", "k8s.io", "images", "import", str(Path(words.archive).resolve()))


def pods(words):
    """Makes those of the lab's pods again that were deleted."""
    place, data = known(words)
    if data["api_only"]:
        raise SystemExit(f"cluster: {words.name} was started with --api-only: its pods are objects only")
    nodes.pods(place, t.Topology(words.name, data["nodes"], data["pods"]))


def fill(words):
    """Runs itself again where etcd is, in the control plane's namespace."""
    place, _ = known(words)
    if not words.inside:
        # No kubelet speaks for the new nodes: what would judge them dead and remove their pods has to rest.
        place.stop("kube-controller-manager")
        control.start_controllers(place, judges=False)
        again = [sys.executable, "-B", *sys.argv, "--inside"]
        raise SystemExit(subprocess.run(["nsenter", f"--net=/run/netns/{place.netns}", *again]).returncode)
    load.fill(place, words.nodes, words.pods, lambda text: print(f"cluster {words.name}: {text}", file=sys.stderr))


def parser():
    words = argparse.ArgumentParser(prog="cluster", description="A real Kubernetes around the lab.")
    words.add_argument("--name", default="lab", help="the lab's name; several can be up at once")
    commands = words.add_subparsers(required=True, metavar="COMMAND")
    one = commands.add_parser("build", help="build Kubernetes' programs, where missing")
    one.add_argument("--api-only", action="store_true")
    one.set_defaults(run=build)
    one = commands.add_parser("up", help="start it; prints the path of the kubeconfig")
    one.add_argument("--nodes", type=int, default=3)
    one.add_argument("--pods", type=int, default=2, help="pods a node")
    one.add_argument("--api-only", action="store_true", help="no lab and no kubelets: the lab's objects in an API server")
    one.add_argument("--backend", choices=["nft", "legacy", "nftables"], default="nft", help="as the lab's")
    one.add_argument("--layout", choices=["new", "old"], default="new", help="as the lab's")
    one.set_defaults(run=up)
    commands.add_parser("down", help="end it, and the lab with it").set_defaults(run=down)
    commands.add_parser("status", help="what runs, as JSON").set_defaults(run=status)
    commands.add_parser("kubeconfig", help="print its path").set_defaults(run=kubeconfig)
    one = commands.add_parser("restart-api", help="end the API server and start it again")
    one.add_argument("--pause", type=float, default=0, help="seconds between")
    one.set_defaults(run=restart)
    one = commands.add_parser("image", help="import an image's archive into every node")
    one.add_argument("archive")
    one.set_defaults(run=image)
    commands.add_parser("pods", help="make those of the lab's pods again that were deleted").set_defaults(run=pods)
    one = commands.add_parser("load", help="add many nodes and pods, as objects without kubelets")
    one.add_argument("--nodes", type=int, default=5000)
    one.add_argument("--pods", type=int, default=100000, help="in all")
    one.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    one.set_defaults(run=fill)
    for name, run, told in (("stop", stop, "end a node's kubelet"), ("start", start, "start it again")):
        one = commands.add_parser(name, help=told)
        one.add_argument("node")
        one.set_defaults(run=run)
    return words


def main():
    words = parser().parse_args()
    if not lab.is_root() and words.run is not build:
        raise SystemExit("cluster: network namespaces need root")
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    words.run(words)
    return 0
