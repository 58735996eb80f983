"""The CNI plugin of the lab's nodes: wires a pod's namespace as the lab does, and gives it the lab's name.

In: what CNI gives (environment, and the network's configuration on stdin). Out: a result as CNI has it. Run by
containerd inside the node. `/run/netns` is shared with the machine, so `ip netns exec pod-default-client` and the lab's
own commands reach the namespace that the kubelet had made. Only pods of the lab get an address.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from lablib import build  # noqa: E402
from lablib import topology as t  # noqa: E402

NAMES = Path("/run/netns")


def add(node, pod, netns):
    name = NAMES / pod.netns
    build.run("ip", "-n", node.name, "link", "del", pod.veth, check=False)
    build.run("ip", "netns", "del", pod.netns, check=False)
    name.touch()
    build.run("mount", "--bind", netns, str(name))
    build.quiet(pod.netns)
    build.batch(None, [build.pod_wire(node, pod)])
    build.sysctls(node.name, build.veth_values(pod))
    build.pod_links(node, pod)


def remove(pod, netns):
    """A later sandbox of the same pod may have the name by now."""
    try:
        same = os.stat(NAMES / pod.netns).st_ino == os.stat(netns).st_ino
    except FileNotFoundError:
        return
    if same:
        build.run("ip", "netns", "del", pod.netns, check=False)


def result(network, node, pod, netns):
    return {"cniVersion": network["cniVersion"],
            "interfaces": [{"name": pod.veth, "mac": t.HOST_MAC}, {"name": "eth0", "mac": pod.mac, "sandbox": netns}],
            "ips": [{"version": "4", "interface": 1, "address": f"{pod.address}/32"},
                    {"version": "6", "interface": 1, "address": f"{pod.address6}/128"}]}


def loopback(network, netns):
    subprocess.run(["nsenter", f"--net={netns}", "ip", "link", "set", "lo", "up"], check=True)
    return {"cniVersion": network["cniVersion"], "interfaces": [{"name": "lo", "sandbox": netns}],
            "ips": [{"version": "4", "interface": 0, "address": "127.0.0.1/8"}]}


def main(kind):
    command, netns = os.environ["CNI_COMMAND"], os.environ.get("CNI_NETNS", "")
    if command == "VERSION":
        return {"cniVersion": "0.4.0", "supportedVersions": ["0.3.1", "0.4.0"]}
    network = json.load(sys.stdin)
    if kind == "loopback":
        return loopback(network, netns) if command == "ADD" else None
    words = dict(word.split("=", 1) for word in os.environ.get("CNI_ARGS", "").split(";") if "=" in word)
    key = f"{words.get('K8S_POD_NAMESPACE')}/{words.get('K8S_POD_NAME')}"
    topology = t.Topology(**network["lab"])
    pods = {pod.key: pod for pod in topology.pods}
    if key not in pods:
        if command == "ADD":
            raise SystemExit(f"the lab has no address for {key}; it has {', '.join(pods)}; other pods must have hostNetwork")
        return None
    pod = pods[key]
    if command == "ADD":
        add(pod.node, pod, netns)
        return result(network, pod.node, pod, netns)
    if command == "DEL" and netns:
        remove(pod, netns)
    return None


if __name__ == "__main__":
    try:
        if (answer := main(sys.argv[1])) is not None:
            print(json.dumps(answer))
    except (SystemExit, KeyError, OSError, subprocess.SubprocessError) as error:
        print(json.dumps({"cniVersion": "0.4.0", "code": 100, "msg": str(error)}))
        sys.exit(1)
