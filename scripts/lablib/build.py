"""Makes and removes a lab's namespaces, links, addresses, routes, neighbours and FDB entries.

In: a Topology. Out: the kernel's state. Rules come from rules.py, servers from servers.py.
"""

import os
import subprocess

from . import topology as t


def run(*command, text=None, check=True):
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    if check and done.returncode != 0:
        raise SystemExit(f"lab: `{' '.join(command)}` failed ({done.returncode}): {(done.stderr or done.stdout).strip()}")
    return done


def batch(netns, lines, tool="ip"):
    command = [tool, *(["-n", netns] if netns else []), "-batch", "-"]
    run(*command, text="\n".join(lines) + "\n")


def inside(netns, *command, **options):
    return run("ip", "netns", "exec", netns, *command, **options)


def existing():
    return {line.split()[0] for line in run("ip", "netns", "list").stdout.splitlines() if line}


def up(topology):
    taken = existing() & set(topology.namespaces)
    if taken:
        raise SystemExit(f"lab: {', '.join(sorted(taken))} exist already; `lab --name {topology.name} down` removes them")
    batch(None, [f"netns add {ns}" for ns in topology.namespaces])
    for netns in topology.namespaces:
        quiet(netns)
    wires(topology)
    underlay(topology)
    for node in topology.nodes:
        node_links(topology, node)
        for pod in node.pods:
            pod_links(node, pod)


def down(topology):
    for netns in sorted(existing() & set(topology.namespaces)):
        run("ip", "netns", "del", netns, check=False)


def quiet(netns):
    """IPv6 without its delays and without routers' words."""
    sysctls(netns, {"net.ipv6.conf.all.accept_dad": 0, "net.ipv6.conf.default.accept_dad": 0,
                    "net.ipv6.conf.default.accept_ra": 0, "net.ipv6.conf.all.disable_ipv6": 0})


def sysctls(netns, values):
    """Written through /proc in one process: sysctl -w would be one each."""
    script = "".join(f"echo {value} > /proc/sys/{key.replace('.', '/')} 2>/dev/null || true\n" if "/" not in key
                     else f"echo {value} > /proc/sys/{key} 2>/dev/null || true\n" for key, value in values.items())
    inside(netns, "sh", "-c", script)


def wires(topology):
    lines = []
    for node in topology.nodes:
        port = f"port{node.index}"
        lines.append(f"link add eth0 address {node.nic_mac} mtu {t.NIC_MTU} netns {node.name} type veth "
                     f"peer name {port} netns {topology.underlay}")
        lines += [pod_wire(node, pod) for pod in node.pods]
    batch(None, lines)


def pod_wire(node, pod):
    return (f"link add eth0 address {pod.mac} mtu {t.POD_MTU} netns {pod.netns} type veth "
            f"peer name {pod.veth} address {t.HOST_MAC} mtu {t.POD_MTU} netns {node.name}")


def underlay(topology):
    netns = topology.underlay
    # br_netfilter would defragment and filter bridged packets.
    sysctls(netns, {"net/bridge/bridge-nf-call-iptables": 0, "net/bridge/bridge-nf-call-ip6tables": 0,
                    "net/bridge/bridge-nf-call-arptables": 0})
    lines = ["link set lo up", "link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0"]
    for node in topology.nodes:
        lines += [f"link set port{node.index} master br0", f"link set port{node.index} up"]
    lines += ["link set br0 up", f"addr add {t.GATEWAY}/24 dev br0", f"addr add {t.GATEWAY6}/64 dev br0"]
    batch(netns, lines)


def node_links(topology, node):
    lines = [
        "link set lo up", "link set eth0 up",
        f"addr add {node.address}/24 dev eth0", f"addr add {node.address6}/64 dev eth0",
        f"route add default via {t.GATEWAY}", f"route add default via {t.GATEWAY6}",
        f"link add vxlan.calico mtu {t.TUNNEL_MTU} address {node.mac} type vxlan id {t.VNI} dstport {topology.port} "
        f"local {node.address} dev eth0 nolearning",
        f"link add vxlan-v6.calico mtu {t.TUNNEL6_MTU} address {node.mac6} type vxlan id {t.VNI} dstport {topology.port} "
        f"local {node.address6} dev eth0 nolearning",
        # The devices' own multicast has no FDB entry and would count as dropped.
        "link set vxlan.calico addrgenmode none", "link set vxlan-v6.calico addrgenmode none",
        "link set vxlan.calico up", "link set vxlan-v6.calico up",
        f"addr add {node.tunnel}/32 dev vxlan.calico", f"addr add {node.tunnel6}/128 dev vxlan-v6.calico",
        f"route add blackhole {node.block} proto 80", f"route add blackhole {node.block6} dev lo proto 80",
    ]
    if topology.tunnel == "ipip":
        lines += ["tuntap add dev tunl0 mode tun", f"link set tunl0 mtu {t.IPIP_MTU} up", f"addr add {node.tunnel}/32 dev tunl0"]
    fdb = []
    for peer in topology.nodes:
        if peer is node:
            continue
        lines += [
            f"neigh replace {peer.tunnel} lladdr {peer.mac} dev vxlan.calico nud permanent",
            f"neigh replace {peer.tunnel6} lladdr {peer.mac6} dev vxlan-v6.calico nud permanent",
            f"route replace {peer.block} via {peer.tunnel} dev vxlan.calico onlink",
            f"route replace {peer.block6} via {peer.tunnel6} dev vxlan-v6.calico onlink metric 1024",
        ]
        if topology.tunnel == "ipip":
            lines.append(f"route replace {peer.block} dev tunl0")
        elif topology.tunnel == "none":
            lines.append(f"route replace {peer.block} via {peer.address} dev eth0")
        fdb += [f"fdb replace {peer.mac} dev vxlan.calico dst {peer.address} self permanent",
                f"fdb replace {peer.mac6} dev vxlan-v6.calico dst {peer.address6} self permanent"]
    batch(node.name, lines)
    batch(node.name, fdb, tool="bridge")
    values = {"net.ipv4.ip_forward": 1, "net.ipv6.conf.all.forwarding": 1, "net.ipv4.conf.all.rp_filter": 0,
              "net.ipv4.conf.default.rp_filter": 0, "net.ipv4.conf.eth0.rp_filter": 0,
              "net/ipv4/conf/vxlan.calico/rp_filter": 0, "net.ipv4.ipfrag_time": 2, "net.ipv6.ip6frag_time": 2}
    for pod in node.pods:
        values |= veth_values(pod)
    sysctls(node.name, values)


def veth_values(pod):
    values = {f"net/ipv4/conf/{pod.veth}/{key}": value
              for key, value in {"rp_filter": 1, "route_localnet": 1, "proxy_arp": 1, "forwarding": 1}.items()}
    return values | {f"net/ipv4/neigh/{pod.veth}/proxy_delay": 0, f"net/ipv6/conf/{pod.veth}/forwarding": 1,
                     f"net/ipv6/conf/{pod.veth}/proxy_ndp": 1}


def pod_links(node, pod):
    batch(node.name, [
        f"link set {pod.veth} addrgenmode none", f"link set {pod.veth} up",
        f"addr add {t.HOST_LINK_LOCAL}/64 dev {pod.veth}",
        f"route add {pod.address}/32 dev {pod.veth} scope link", f"route add {pod.address6}/128 dev {pod.veth}",
    ])
    batch(pod.netns, [
        "link set lo up", "link set eth0 up",
        f"addr add {pod.address}/32 dev eth0", f"addr add {pod.address6}/128 dev eth0",
        "route add 169.254.1.1 dev eth0 scope link", "route add default via 169.254.1.1 dev eth0",
        f"route add {t.HOST_LINK_LOCAL} dev eth0", f"route add default via {t.HOST_LINK_LOCAL} dev eth0",
    ])


def is_root():
    return os.geteuid() == 0
