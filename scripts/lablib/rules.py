"""The rules of Felix (raw, mangle, nat, filter) and of kube-proxy for one node, as iptables-restore input.

In: a Topology, a Node, the address family, the mark layout (`new` = Calico 3.30 and later, `old` = before). Out: text
for iptables-restore and for ipset restore. Chain names, rule order, comments and the chained hashes are Felix's
(felix/rules/static.go, endpoints.go; felix/generictables/rules.go).
"""

import base64
import hashlib

from . import topology as t

ACCEPT, PASS = 0x10000, 0x20000
HEP = "Host endpoint policy accepted packet."
FAILSAFE_IN = ["tcp:22", "udp:68", "tcp:179", "tcp:2379", "tcp:2380", "tcp:5473", "tcp:6443", "tcp:6666", "tcp:6667"]
FAILSAFE_OUT = ["udp:53", "udp:67"] + FAILSAFE_IN[2:]


def b64(digest):
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def limited(prefix, name, limit=28):
    """libcalico-go/lib/hash/unique_id.go."""
    whole = prefix + name
    if len(whole) > limit or (len(whole) == limit and name.startswith("_")):
        return prefix + "_" + b64(hashlib.sha256(name.encode()).digest())[: limit - 1 - len(prefix)]
    return whole


class Table:
    """One table: its chains in order, each rule with its hash comment."""

    def __init__(self, name):
        self.name, self.chains, self.lines = name, [], []

    def chain(self, name, rules, seed=None):
        if name.startswith(("cali-", "KUBE-")):
            self.chains.append(name)
        state = hashlib.sha224((seed or name).encode()).digest()
        for comments, text in rules:
            said = "".join(f' -m comment --comment "{comment}"' for comment in comments)
            state = hashlib.sha224(state + f"-A {seed or name} HASH{said}{' ' + text if text else ''}".encode()).digest()
            self.lines.append(f'-A {name} -m comment --comment "cali:{b64(state)[:16]}"{said} {text}')

    def plain(self, name, rules, new=True):
        """Rules without Calico's hash."""
        if new:
            self.chains.append(name)
        self.lines += [f"-A {name} {rule}" for rule in rules]

    def text(self):
        return "\n".join([f"*{self.name}", *(f":{c} - [0:0]" for c in self.chains), *self.lines, "COMMIT"])


def mark(value, mask=None):
    return f"-m mark --mark {value:#x}/{mask or value:#x}" if value else f"-m mark --mark 0/{mask:#x}"


def put(value):
    return f"--jump MARK --set-mark {value:#x}/{value:#x}"


def clear(mask):
    return f"--jump MARK --set-mark 0/{mask:#x}"


def failsafe(ports, which):
    split = [port.split(":") for port in ports]
    return [([], f"-p {proto} -m multiport --{which}-ports {port} --jump ACCEPT") for proto, port in split]


class Felix:
    def __init__(self, topology, node, v6=False, layout="new"):
        self.topology, self.node, self.v6, self.new = topology, node, v6, layout == "new"
        self.scratch0 = 0x80000 if self.new else 0x40000
        self.all = 0x1B0000 if self.new else 0xF0000
        self.f = "60" if v6 else "40"
        self.word = "IPv6" if v6 else "IPv4"
        self.device = "vxlan-v6.calico" if v6 else "vxlan.calico"

    def tables(self):
        return "\n".join(table.text() for table in (self.raw(), self.mangle(), self.nat(), self.filter())) + "\n"

    def raw(self):
        table = Table("raw")
        table.chain("cali-failsafe-in", failsafe(FAILSAFE_IN, "destination") + failsafe(FAILSAFE_OUT, "source"))
        table.chain("cali-failsafe-out", failsafe(FAILSAFE_OUT, "destination") + failsafe(FAILSAFE_IN, "source"))
        for name in ("rpf-skip", "from-host-endpoint", "to-host-endpoint"):
            table.chain(f"cali-{name}", [])
        s0 = self.scratch0
        table.chain("cali-PREROUTING", [
            ([], clear(self.all)), ([], f"-p udp --dport {self.topology.port} --jump NOTRACK"),
            ([], f"--in-interface cali+ {put(s0)}"), ([], f"{mark(s0)} --jump cali-rpf-skip"),
            ([], f"{mark(s0)} -m rpfilter --invert --validmark --jump DROP"),
            ([], f"{mark(0, s0)} --jump cali-from-host-endpoint"), ([], f"{mark(ACCEPT)} --jump ACCEPT")])
        table.chain("cali-OUTPUT", [
            ([], clear(self.all)), ([], "--jump cali-to-host-endpoint"),
            ([], f"-p udp --dport {self.topology.port} --jump NOTRACK"), ([], f"{mark(ACCEPT)} --jump ACCEPT")])
        table.chain("PREROUTING", [([], "--jump cali-PREROUTING")])
        table.chain("OUTPUT", [([], "--jump cali-OUTPUT")])
        return table

    def mangle(self):
        table = Table("mangle")
        for name in ("from-host-endpoint", "to-host-endpoint"):
            table.chain(f"cali-{name}", [])
        table.chain("cali-PREROUTING", [
            ([], "-m conntrack --ctstate RELATED,ESTABLISHED --jump ACCEPT"), ([], f"{mark(ACCEPT)} --jump ACCEPT"),
            ([], "--jump cali-from-host-endpoint"), ([HEP], f"{mark(ACCEPT)} --jump ACCEPT")])
        table.chain("cali-POSTROUTING", [
            ([], f"{mark(ACCEPT)} --jump RETURN"), ([], clear(self.all)),
            ([], "-m conntrack --ctstate DNAT --jump cali-to-host-endpoint"), ([HEP], f"{mark(ACCEPT)} --jump RETURN")])
        table.chain("PREROUTING", [([], "--jump cali-PREROUTING")])
        table.chain("POSTROUTING", [([], "--jump cali-POSTROUTING")])
        return table

    def nat(self):
        table = Table("nat")
        self.services(table)
        for name in ("fip-dnat", "fip-snat"):
            table.chain(f"cali-{name}", [])
        table.chain("cali-nat-outgoing", [([], f"-m set --match-set cali{self.f}masq-ipam-pools src -m set ! --match-set "
                                               f"cali{self.f}all-ipam-pools dst --jump MASQUERADE --random-fully")])
        table.chain("cali-PREROUTING", [([], "--jump cali-fip-dnat")])
        table.chain("cali-OUTPUT", [([], "--jump cali-fip-dnat")])
        table.chain("cali-POSTROUTING", [
            ([], "--jump cali-fip-snat"), ([], "--jump cali-nat-outgoing"),
            ([], f"--out-interface {self.device} -m addrtype ! --src-type LOCAL --limit-iface-out -m addrtype "
                 "--src-type LOCAL --jump MASQUERADE --random-fully")])
        table.chain("PREROUTING", [([], "--jump cali-PREROUTING")])
        table.chain("OUTPUT", [([], "--jump cali-OUTPUT")])
        table.plain("PREROUTING", ['-m comment --comment "kubernetes service portals" -j KUBE-SERVICES'], new=False)
        table.plain("OUTPUT", ['-m comment --comment "kubernetes service portals" -j KUBE-SERVICES'], new=False)
        table.plain("POSTROUTING", ['-m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING'], new=False)
        table.chain("POSTROUTING", [([], "--jump cali-POSTROUTING")], seed="POSTROUTING*appends*" if self.new else None)
        return table

    def services(self, table):
        """kube-proxy's chains for the one Service (pkg/proxy/iptables/proxier.go)."""
        server = self.topology.pod("default/server")
        service, back = (t.SERVICE6, f"[{server.address6}]") if self.v6 else (t.SERVICE, server.address)
        own, length = (server.address6, 128) if self.v6 else (server.address, 32)
        table.plain("KUBE-MARK-MASQ", ["-j MARK --set-xmark 0x4000/0x4000"])
        table.plain("KUBE-POSTROUTING", ["-m mark ! --mark 0x4000/0x4000 -j RETURN", "-j MARK --set-xmark 0x4000/0x0",
                                         '-m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully'])
        heads = []
        for suffix, name, proto, port, target in (("TCPAAAAAAAAAAAAA", "http", "tcp", 80, 8080), ("UDPAAAAAAAAAAAAA", "echo", "udp", 5353, 5000)):
            svc, sep, said = f"KUBE-SVC-{suffix}", f"KUBE-SEP-{suffix}", f'-m comment --comment "default/server-svc:{name}"'
            table.plain(sep, [f"-s {own}/{length} {said} -j KUBE-MARK-MASQ",
                              f"-p {proto} {said} -m {proto} -j DNAT --to-destination {back}:{target}"])
            table.plain(svc, [f'-m comment --comment "default/server-svc:{name} -> {own}:{target}" -j {sep}'])
            heads.append(f'-d {service}/{length} -p {proto} -m comment --comment "default/server-svc:{name} cluster IP" -m {proto} --dport {port} -j {svc}')
        table.plain("KUBE-SERVICES", heads)

    def filter(self):
        table = Table("filter")
        table.chain("cali-failsafe-in", failsafe(FAILSAFE_IN, "destination"))
        table.chain("cali-failsafe-out", failsafe(FAILSAFE_OUT, "destination"))
        for name in ("from-host-endpoint", "to-host-endpoint", "from-hep-forward", "to-hep-forward", "cidr-block"):
            table.chain(f"cali-{name}", [])
        table.plain("KUBE-FORWARD", [
            '-m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT',
            '-m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT'])
        for pod in self.node.pods:
            self.endpoint(table, pod)
        self.policies(table)
        for which, flag, chain in (("from", "in", "fw"), ("to", "out", "tw")):
            gotos = [([], f"--{flag}-interface {pod.veth} --goto cali-{chain}-{pod.veth}")
                     for pod in sorted(self.node.pods, key=lambda pod: pod.veth)]
            table.chain(f"cali-{which}-wl-dispatch", gotos + [(["Unknown interface"], "--jump DROP")])
        icmp = [([], f"-p 58 -m icmp6 --icmpv6-type {kind} --jump ACCEPT") for kind in (130, 131, 132, 133, 135, 136)]
        table.chain("cali-wl-to-host", (icmp if self.v6 else []) + [
            ([], "--jump cali-from-wl-dispatch"), (["Configured DefaultEndpointToHostAction"], "--jump ACCEPT")])
        self.host(table)
        return table

    def host(self, table):
        vxlan = f"-p 17 -m multiport --destination-ports {self.topology.port}"
        table.chain("cali-INPUT", [
            ([f"Allow {self.word} VXLAN packets from allowed hosts"],
             f"{vxlan} -m set --match-set cali{self.f}all-vxlan-net src -m addrtype --dst-type LOCAL --jump ACCEPT"),
            ([f"Drop {self.word} VXLAN packets from non-allowed hosts"], f"{vxlan} -m addrtype --dst-type LOCAL --jump DROP"),
            ([], "--in-interface cali+ --goto cali-wl-to-host"), ([], f"{mark(ACCEPT)} --jump ACCEPT"),
            ([], clear(self.all)), ([], "--jump cali-from-host-endpoint"), ([HEP], f"{mark(ACCEPT)} --jump ACCEPT")])
        table.chain("cali-FORWARD", [
            ([], clear(self.all & ~ACCEPT)), ([], f"{mark(0, ACCEPT)} --jump cali-from-hep-forward"),
            ([], "--in-interface cali+ --jump cali-from-wl-dispatch"), ([], "--out-interface cali+ --jump cali-to-wl-dispatch"),
            ([], "--jump cali-to-hep-forward"), ([], "--jump cali-cidr-block")])
        table.chain("cali-OUTPUT", [
            ([], f"{mark(ACCEPT)} --jump ACCEPT"), ([], "--out-interface cali+ --jump RETURN"),
            ([f"Allow {self.word} VXLAN packets to other allowed hosts"],
             f"{vxlan} -m addrtype --src-type LOCAL -m set --match-set cali{self.f}all-vxlan-net dst --jump ACCEPT"),
            ([], clear(self.all)), ([], "-m conntrack ! --ctstate DNAT --jump cali-to-host-endpoint"),
            ([HEP], f"{mark(ACCEPT)} --jump ACCEPT")])
        for chain in ("FORWARD", "INPUT", "OUTPUT"):
            table.chain(chain, [([], f"--jump cali-{chain}")])
        table.plain("FORWARD", ['-m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD'], new=False)
        table.chain("FORWARD", [(["Policy explicitly accepted packet."], f"{mark(ACCEPT)} --jump ACCEPT"), ([], put(ACCEPT))],
                    seed="FORWARD*appends*")

    def endpoint(self, table, pod):
        end = "End of tier default. Drop if no policies passed packet" if self.new else "Drop if no policies passed packet"
        for chain, prefix, profile in (("tw", "cali-pi-", "cali-pri-"), ("fw", "cali-po-", "cali-pro-")):
            rules = [([], "-m conntrack --ctstate RELATED,ESTABLISHED --jump ACCEPT"),
                     ([], "-m conntrack --ctstate INVALID --jump DROP"), ([], clear(ACCEPT | PASS))]
            if chain == "fw":
                rules += [(["Drop VXLAN encapped packets originating in workloads"], f"-p 17 -m multiport --destination-ports {self.topology.port} --jump DROP"),
                          (["Drop IPinIP encapped packets originating in workloads"], "-p 4 --jump DROP")]
            policies = self.applied(pod) if chain == "tw" else []
            if policies:
                rules.append((["Start of tier default"] if self.new else ["Start of policies"], clear(PASS)))
                for policy in policies:
                    rules += [([], f"{mark(0, PASS)} --jump {limited(prefix, policy)}"),
                              (["Return if policy accepted"], f"{mark(ACCEPT)} --jump RETURN")]
                rules.append(([end], f"{mark(0, PASS)} --jump DROP"))
            for name in (f"kns.{pod.namespace}", f"ksa.{pod.namespace}.default"):
                rules += [([], f"--jump {limited(profile, name)}"), (["Return if profile accepted"], f"{mark(ACCEPT)} --jump RETURN")]
            rules.append((["Drop if no profiles matched"], "--jump DROP"))
            table.chain(f"cali-{chain}-{pod.veth}", rules)

    def applied(self, pod):
        return ["knp/default/allow-server", "knp/default/deny-all"] if pod.key == "default/server" else []

    def policies(self, table):
        if any(self.applied(pod) for pod in self.node.pods):
            said = ["KubernetesNetworkPolicy default/allow-server ingress"]
            source = f"-m set --match-set cali{self.f}s:n5MAdiB8NISc09JOdYHtATr src"
            allow = [("tcp", "80,5201,8080,8443"), ("udp", "5000:5999")]
            rules = [(said if i == 0 else [], f"-p {proto} {source} -m multiport --destination-ports {ports} {put(ACCEPT)}")
                     for i, (proto, ports) in enumerate(allow)]
            rules.append(([], f"-p {'58' if self.v6 else 'icmp'} {source} {put(ACCEPT)}"))
            table.chain(limited("cali-pi-", "knp/default/allow-server"), rules)
            table.chain(limited("cali-pi-", "knp/default/deny-all"), [(["KubernetesNetworkPolicy default/deny-all ingress"], "")])
        for namespace in sorted({pod.namespace for pod in self.node.pods}):
            for prefix, way in (("cali-pri-", "ingress"), ("cali-pro-", "egress")):
                table.chain(limited(prefix, f"kns.{namespace}"), [([f"Profile kns.{namespace} {way}"], put(ACCEPT))])
                table.chain(limited(prefix, f"ksa.{namespace}.default"), [([f"Profile ksa.{namespace}.default {way}"], "")])


def ipsets(topology, node):
    """ipset restore input for both families."""
    lines = []
    for v6 in (False, True):
        f, family = ("60", "inet6") if v6 else ("40", "inet")
        peers = [n.address6 if v6 else n.address for n in topology.nodes if n is not node]
        pool = t.POOL6 if v6 else t.POOL
        pods = [p.address6 if v6 else p.address for p in topology.pods if p.namespace == "default"]
        sets = {f"cali{f}all-vxlan-net": peers, f"cali{f}masq-ipam-pools": [pool], f"cali{f}all-ipam-pools": [pool],
                f"cali{f}s:n5MAdiB8NISc09JOdYHtATr": pods}
        for name, members in sets.items():
            lines.append(f"create {name} hash:net family {family} maxelem 1048576")
            lines += [f"add {name} {member}" for member in members]
    return "\n".join(lines) + "\n"
