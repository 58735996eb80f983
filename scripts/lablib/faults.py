"""Faults: data in scripts/faults.toml, applied to a lab and undone.

In: a Topology and the rules' backend. Out: the kernel's state, changed by the fault's steps and changed back. A step
is a command; its first word names the namespace. Names in braces are filled in from the lab.
"""

import json
import subprocess
import tomllib
from pathlib import Path

from . import build
from . import topology as t

FILE = Path(__file__).resolve().parent.parent / "faults.toml"


def all_faults():
    data = tomllib.loads(FILE.read_text())
    return {name: {"name": name, **fault} for name, fault in data.items()}


def listed(as_json):
    faults = list(all_faults().values())
    if as_json:
        return json.dumps(faults, indent=1)
    return "\n".join(f"{f['name']:28} {f['outcome']:10} {f['stage']:12} {f['direction']:8} {f['title']}" for f in faults)


class World:
    def __init__(self, topology, backend, folder):
        self.topology, self.backend, self.folder = topology, backend, folder

    def names(self, v6=False):
        a, b, c = (self.topology.pod(f"default/{name}") for name in ("client", "server", "neighbour"))
        n1, n2, n3 = self.topology.nodes[:3]
        names = {
            "node1": n1.name, "node2": n2.name, "node3": n3.name, "underlay": self.topology.underlay,
            "pod1": a.netns, "pod2": b.netns, "cali1": a.veth, "cali2": b.veth,
            "folder": self.folder, "lablib": Path(__file__).resolve().parent,
            "mac1": n1.mac, "mac2": n2.mac, "mac3": n3.mac, "podmac2": b.mac, "nicmac1": n1.nic_mac, "nicmac2": n2.nic_mac,
        }
        names |= {
            "ip1": a.address6, "ip2": b.address6, "ip3": c.address6, "nic1": n1.address6, "nic2": n2.address6, "nic3": n3.address6,
            "tun1": n1.tunnel6, "tun2": n2.tunnel6, "tun3": n3.tunnel6, "block1": n1.block6, "block2": n2.block6, "block3": n3.block6, "vmtu": t.TUNNEL6_MTU,
            "vxlan": "vxlan-v6.calico", "vtep1": n1.mac6, "vtep2": n2.mac6, "vtep3": n3.mac6, "len": 128, "ip": "ip -6",
            "ipt": f"ip6tables-{self.backend} -w 10", "set": "cali60all-vxlan-net", "nf": "ip6", "f": "60", "gw": t.GATEWAY6,
            "empty": t.EMPTY6, "stray": t.STRAY6, "eth": "ipv6",
        } if v6 else {
            "ip1": a.address, "ip2": b.address, "ip3": c.address, "nic1": n1.address, "nic2": n2.address, "nic3": n3.address,
            "tun1": n1.tunnel, "tun2": n2.tunnel, "tun3": n3.tunnel, "block1": n1.block, "block2": n2.block, "block3": n3.block, "vmtu": t.TUNNEL_MTU,
            "vxlan": "vxlan.calico", "vtep1": n1.mac, "vtep2": n2.mac, "vtep3": n3.mac, "len": 32, "ip": "ip -4",
            "ipt": f"iptables-{self.backend} -w 10", "set": "cali40all-vxlan-net", "nf": "ip", "f": "40", "gw": t.GATEWAY,
            "empty": t.EMPTY, "stray": t.STRAY, "eth": "ip",
        }
        return names

    def steps(self, fault, which):
        """IPv4 steps, then the same for IPv6 where the fault is told to be for both."""
        if fault not in (known := all_faults()):
            raise SystemExit(f"lab: there is no fault {fault}; `lab fault list` names them")
        data = known[fault]
        for v6 in ([False, True] if data.get("ipv6") else [False]):
            names = self.names(v6)
            for step in data[which]:
                for key, value in names.items():
                    step = step.replace("{" + key + "}", str(value))
                yield step

    def run(self, step, check):
        netns, _, command = step.partition(": ")
        done = subprocess.run(["ip", "netns", "exec", netns, "sh", "-c", command], capture_output=True, text=True)
        if check and done.returncode != 0:
            raise SystemExit(f"lab: `{command}` in {netns} failed: {(done.stderr or done.stdout).strip()}")

    def apply(self, fault):
        for step in self.steps(fault, "apply"):
            self.run(step, check=True)

    def undo(self, fault):
        for step in self.steps(fault, "undo"):
            self.run(step, check=False)
        # Flows that were refused while the fault stood must not be remembered as such, nor neighbours as failed.
        for node in self.topology.nodes:
            build.inside(node.name, "sh", "-c", "conntrack -F 2>/dev/null; ip neigh flush nud failed 2>/dev/null", check=False)
