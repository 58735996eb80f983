"""Starts and ends the lab's nodes as real ones: containerd and a kubelet in each node's network namespace.

In: a Place and a Topology whose lab is up. Out: Nodes that are Ready, and the lab's pods run by their kubelets. Every
node has mount, pid, host name and cgroup namespaces of its own: ending its first process ends all that it ran.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from lablib import build as lab
from lablib import main as labmain
from lablib import objects as lab_objects

from . import binaries, control, images
from .objects import cleaned

HERE = Path(__file__).resolve().parent
PAUSE, SERVER, CALICO = "localhost/pause:1", "localhost/lab-server:1", "localhost/calico-node:lab"
GROUPS = Path("/sys/fs/cgroup")

CONTAINERD = """version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp"]
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "PAUSE"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
""".replace("PAUSE", PAUSE)


def own_images(place):
    """Made once for a cluster, of the machine's files."""
    folder = place.folder / "images"
    folder.mkdir(exist_ok=True)
    return [str(make(folder / file, name)) for make, file, name in
            ((images.pause, "pause.tar", PAUSE), (images.server, "server.tar", SERVER), (images.node_agent, "calico.tar", CALICO))]


def kubelet_settings(place):
    return {"kind": "KubeletConfiguration", "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "authentication": {"x509": {"clientCAFile": place.authority.path("ca.crt")}, "webhook": {"enabled": True}, "anonymous": {"enabled": False}},
            "authorization": {"mode": "Webhook"}, "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
            "cgroupDriver": "cgroupfs", "cgroupsPerQOS": False, "enforceNodeAllocatable": [], "failSwapOn": False, "failCgroupV1": False,
            # The lab's rules are the lab's.
            "makeIPTablesUtilChains": False, "oomScoreAdj": 0, "registerNode": True, "clusterDomain": "cluster.local",
            "evictionHard": {"memory.available": "1Mi", "nodefs.available": "0%", "imagefs.available": "0%", "nodefs.inodesFree": "0%"},
            "imageGCHighThresholdPercent": 100, "nodeStatusUpdateFrequency": "5s", "nodeLeaseDurationSeconds": 20}


def prepare(place, topology, node, archives):
    folder = place.folder / node.name
    folder.mkdir()
    name = f"kubelet-{node.name}"
    place.authority.client(name, f"system:node:{node.name}", "system:nodes")
    place.authority.server(f"serving-{node.name}", f"system:node:{node.name}",
                           [f"DNS:{node.name}", f"IP:{node.address}", f"IP:{node.address6}"])
    config = folder / "kubeconfig"
    place.authority.kubeconfig(config, f"https://{control.ADDRESS}:{control.PORT}", name)
    settings = kubelet_settings(place) | {"tlsCertFile": place.authority.path(f"serving-{node.name}.crt"),
                                          "tlsPrivateKeyFile": place.authority.path(f"serving-{node.name}.key")}
    (folder / "kubelet.json").write_text(json.dumps(settings))
    command = [binaries.program("kubelet"), f"--config={folder}/kubelet.json", f"--kubeconfig={config}", f"--hostname-override={node.name}",
               f"--node-ip={node.address},{node.address6}", "--v=1"]
    (folder / "node.json").write_text(json.dumps({"name": node.name, "kubelet": command, "images": archives}))
    (folder / "containerd.toml").write_text(CONTAINERD)
    cni(folder, topology)
    (folder / "kubelet.wanted").touch()


def cni(folder, topology):
    networks = folder / "etc-cni" / "net.d"
    programs = folder / "opt-cni" / "bin"
    networks.mkdir(parents=True)
    programs.mkdir(parents=True)
    pods = max(len(node.pods) for node in topology.nodes)
    network = {"cniVersion": "0.4.0", "name": "lab", "plugins": [
        {"type": "lab", "lab": {"name": topology.name, "nodes": len(topology.nodes), "pods": pods}}]}
    (networks / "10-lab.conflist").write_text(json.dumps(network))
    for kind in ("lab", "loopback"):
        program = programs / kind
        program.write_text(f"#!/bin/sh\nexec {sys.executable} -B {HERE}/wire.py {kind}\n")
        program.chmod(0o755)


def start(place, node):
    folder = place.folder / node.name
    command = ["nsenter", f"--net=/run/netns/{node.name}", "unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child",
               "--propagation", "unchanged", sys.executable, "-B", str(HERE / "inside.py"), str(folder)]
    groups = enter(place, node)
    with open(folder / "node.log", "ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                                   preexec_fn=lambda: [one.write_text(str(os.getpid())) for one in groups])
    place.remember(node.name, process)


def hierarchies():
    """Where cgroups are mounted: one of v2, or one a controller."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, point, kind, *_ = line.split()
        if kind.startswith("cgroup") and point.startswith(str(GROUPS)):
            yield Path(point)


def group_name(place):
    return f"trace-drop-{place.name}"


def enter(place, node):
    """Makes the node's cgroup in every hierarchy; gives the files that take a process in."""
    files = []
    for point in hierarchies():
        top = point / group_name(place)
        own = top / node.name
        for one in (top, own):
            one.mkdir(exist_ok=True)
            for setting in ("cpuset.cpus", "cpuset.mems"):
                # v1 gives a new group no CPUs.
                if (one / setting).exists() and (point / setting).exists():
                    (one / setting).write_text((one.parent / setting).read_text())
        files.append(own / "cgroup.procs")
    return files


def leave(place):
    """Removes the cluster's cgroups, deepest first. They are empty when its processes have ended."""
    for point in hierarchies():
        top = point / group_name(place)
        folders = [Path(root) for root, _, _ in os.walk(top, topdown=False)] if top.exists() else []
        for folder in folders:
            gone(folder)


def gone(folder):
    end = time.monotonic() + 10
    while True:
        try:
            folder.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError as error:
            if time.monotonic() > end:
                raise SystemExit(f"cluster: {folder} cannot be removed: {error}") from None
            time.sleep(0.1)


def hand_over(topology):
    """The lab's pods become the kubelets': their servers end and their namespaces go; the plugin makes them anew."""
    for pod in topology.pods:
        for pid in lab.run("ip", "netns", "pids", pod.netns, check=False).stdout.split():
            labmain.end(int(pid))
        lab.run("ip", "netns", "del", pod.netns)


def up(place, topology):
    archives = own_images(place)
    hand_over(topology)
    for node in topology.nodes:
        prepare(place, topology, node, archives)
        start(place, node)
    api = place.api()
    for node in topology.nodes:
        ready(place, api, node)
    for thing in lab_objects.lab_objects(topology):
        if thing["kind"] == "Node":
            api.ask("PATCH", f"/api/v1/nodes/{thing['metadata']['name']}", {"metadata": {"annotations": thing["metadata"]["annotations"]}},
                    "application/merge-patch+json")
    api.close()
    pods(place, topology)


def pods(place, topology):
    """Those that are missing; gives back when all run."""
    api = place.api()
    for thing in lab_objects.lab_objects(topology):
        if thing["kind"] == "Pod":
            api.put(runnable(thing))
    for node in topology.nodes:
        api.put(calico_pod(node))
    running(api, [f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}" for pod in topology.pods]
            + [f"/api/v1/namespaces/kube-system/pods/calico-node-{node.index}" for node in topology.nodes])
    api.close()


def inside(place, name, *command):
    """Runs it in a node's own namespaces: those of its first process, the child of the one that was started."""
    if not place.runs(name):
        raise SystemExit(f"cluster: {name} does not run")
    pid = place.pid(name)
    first = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0]
    lab.run("nsenter", f"--target={first}", "--mount", "--uts", "--ipc", "--net", "--pid", *command)


def ready(place, api, node):
    def condition():
        if not place.runs(node.name):
            raise SystemExit(f"cluster: {node.name} ended: {control.last_line(place.folder / node.name / 'node.log')}")
        found = api.ask("GET", f"/api/v1/nodes/{node.name}")
        return any(one["type"] == "Ready" and one["status"] == "True" for one in found["status"]["conditions"])

    api.wait(f"{node.name} to be Ready", 120, condition, f"see {place.folder}/{node.name}/kubelet.log and containerd.log")


def running(api, paths):
    for path in paths:
        def state(path=path):
            status = api.ask("GET", path)["status"]
            return status.get("phase") == "Running" and all(one["ready"] for one in status.get("containerStatuses", [{"ready": False}]))

        api.wait(f"{path} to run", 120, state, "its events tell why not")


def runnable(thing):
    """The lab's pod, for a kubelet: the lab's server in it, without an account's token."""
    thing = cleaned({key: value for key, value in thing.items() if key != "status"})
    container = {"name": "main", "image": SERVER, "imagePullPolicy": "Never"}
    thing["spec"] = {"nodeName": thing["spec"]["nodeName"], "automountServiceAccountToken": False, "terminationGracePeriodSeconds": 1,
                     "enableServiceLinks": False, "containers": [container], "tolerations": [{"operator": "Exists"}]}
    return thing


def calico_pod(node):
    """In calico-node's place: its name, label and rights, an image with a shell and the tools. The rules are the lab's."""
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"calico-node-{node.index}", "namespace": "kube-system",
                                                            "labels": {"k8s-app": "calico-node"}},
            "spec": {"nodeName": node.name, "hostNetwork": True, "automountServiceAccountToken": False, "terminationGracePeriodSeconds": 1,
                     "tolerations": [{"operator": "Exists"}], "enableServiceLinks": False,
                     "containers": [{"name": "calico-node", "image": CALICO, "imagePullPolicy": "Never", "securityContext": {"privileged": True}}]}}


def end(place, names):
    """Ends each node's first process; the kernel ends the rest of its pid namespace."""
    for name in names:
        pid = place.pid(name)
        if not place.runs(name):
            continue
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)
        place.stop(name)
    leave(place)
