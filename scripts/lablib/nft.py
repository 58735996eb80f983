"""The same rules in nftables mode: Felix's table `calico` and kube-proxy's table `kube-proxy`, as input of `nft -f`.

In: what rules.py makes of a node. Out: nft's own language. Chains, hooks, priorities, the dispatch by verdict maps, sets and
comments are Felix's in nftables mode (felix/nftables/{table,renderer,maps,ipsets}.go); kube-proxy's are those of
pkg/proxy/nftables/proxier.go, for the one Service.
"""

import shlex

from . import rules
from . import topology as t

# Felix's base chains with type, hook and priority.
BASES = {
    "raw": {"PREROUTING": ("filter", "prerouting", -300), "OUTPUT": ("filter", "output", -300)},
    "mangle": {"PREROUTING": ("filter", "prerouting", -150), "INPUT": ("filter", "input", -150),
               "FORWARD": ("filter", "forward", -150), "OUTPUT": ("route", "output", -150),
               "POSTROUTING": ("filter", "postrouting", -150)},
    "nat": {"PREROUTING": ("nat", "prerouting", -100), "INPUT": ("nat", "input", 100),
            "OUTPUT": ("nat", "output", 110), "POSTROUTING": ("nat", "postrouting", 110)},
    "filter": {"INPUT": ("filter", "input", 0), "FORWARD": ("filter", "forward", 0), "OUTPUT": ("filter", "output", 0)},
}
PROTOCOLS = {"58": "icmpv6", "17": "udp", "4": "ipencap", "6": "tcp"}


class Rule:
    """One rule of rules.py in nft's words."""

    def __init__(self, table, line, ip):
        self.table, self.ip = table, ip
        words = shlex.split(line)
        self.chain, self.comments, self.parts, self.action = words[1], [], [], ""
        self.protocol, self.counted = None, True
        self.read(words[2:])

    def read(self, words):
        negated = False
        while words:
            word, words = words[0], words[1:]
            if word == "!":
                negated = True
                continue
            n = self.option(word, words, "!= " if negated else "", negated)
            words, negated = words[n:], False

    def option(self, word, words, sign, negated):
        value = words[0] if words else ""
        if word == "-m":
            if value == "rpfilter":
                # `--invert --validmark`
                self.parts.append("fib saddr . mark . iif oif 0")
                return 3
            if value == "addrtype" and "--limit-iface-out" in words[:6]:
                self.parts.append("fib saddr . oif type != local")
                return words.index("--limit-iface-out") + 1
            return 1
        if word == "--comment":
            self.comments.append(value)
        elif word == "-p":
            self.protocol = PROTOCOLS.get(value, value)
            self.parts.append(f"meta l4proto {'ipv6-icmp' if self.protocol == 'icmpv6' else self.protocol}")
        elif word in ("--destination-ports", "--dport"):
            self.port("dport", value)
        elif word == "--source-ports":
            self.port("sport", value)
        elif word in ("-s", "-d"):
            self.parts.append(f"{self.ip} {'saddr' if word == '-s' else 'daddr'} {sign}{value}")
        elif word in ("--in-interface", "--out-interface", "-i", "-o"):
            self.parts.append(f"{'iifname' if word in ('-i', '--in-interface') else 'oifname'} {sign}\"{value.replace('+', '*')}\"")
        elif word == "--match-set":
            way = "saddr" if words[1] == "src" else "daddr"
            self.parts.append(f"{self.ip} {way} {sign}@{value.replace(':', '-')}")
            return 2
        elif word == "--mark":
            mark, mask = (int(part, 0) for part in value.split("/"))
            self.parts.append(f"meta mark & {mask:#010x} {'!=' if negated else '=='} {mark:#010x}")
        elif word == "--ctstate":
            if value == "DNAT":
                self.parts.append("ct status & dnat == 0" if negated else "ct status dnat")
            else:
                self.parts.append(f"ct state {sign}{value.lower()}")
        elif word in ("--src-type", "--dst-type"):
            self.parts.append(f"fib {'saddr' if 's' in word[2] else 'daddr'} type {sign}{value.lower()}")
        elif word == "--icmpv6-type":
            self.parts.append(f"icmpv6 type {value}")
        elif word in ("--jump", "-j", "--goto", "-g"):
            return self.target(word, words)
        else:
            raise SystemExit(f"lab: nft: {word} of {self.table} {self.chain} has no translation")
        return 1

    def port(self, which, value):
        ports = value.replace(":", "-")
        ports = "{ " + ports.replace(",", ", ") + " }" if "," in ports else ports
        self.parts.append(f"{self.protocol} {which} {ports}")

    def target(self, word, words):
        name, rest = words[0], words[1:]
        if name in ("ACCEPT", "DROP", "RETURN", "MASQUERADE"):
            self.action = name.lower() + (" fully-random" if "--random-fully" in rest else "")
        elif name == "NOTRACK":
            self.action = "notrack"
        elif name == "MARK":
            mark, mask = (int(part, 0) for part in rest[1].split("/"))
            keep = 0xFFFFFFFF & ~mask
            self.action = f"meta mark set meta mark | {mark:#010x}" if mark else f"meta mark set meta mark & {keep:#010x}"
        else:
            verb = "goto" if word in ("--goto", "-g") else "jump"
            self.action = f"{verb} {self.table}-{name}"
        return len(words)

    def text(self):
        said = "; ".join(self.comments[:1]) + ";" + "".join(f" {comment}" for comment in self.comments[1:])
        # A rule that does nothing is `continue`, without a counter.
        middle = ["counter", self.action] if self.action else ["continue"]
        return " ".join([*self.parts, *middle, f'comment "{said[:128]}"'])


def calico(topology, node, v6=False, layout="new"):
    """Felix's table."""
    felix = rules.Felix(topology, node, v6, layout)
    family, ip = ("ip6", "ip6") if v6 else ("ip", "ip")
    lines = [f"table {family} calico {{"]
    for name, members in sets(topology, node, v6).items():
        elements = f"\n\t\telements = {{ {', '.join(members)} }}" if members else ""
        kind = "ipv6_addr" if v6 else "ipv4_addr"
        lines.append(f"\tset {name.replace(':', '-')} {{\n\t\ttype {kind}\n\t\tflags interval{elements}\n\t}}")
    for which, chain in (("from", "fw"), ("to", "tw")):
        elements = ", ".join(f'"{pod.veth}" : goto filter-cali-{chain}-{pod.veth}' for pod in node.pods)
        lines.append(f"\tmap filter-cali-{which}-wl-dispatch {{\n\t\ttype ifname : verdict\n\t\telements = {{ {elements} }}\n\t}}")
    chains = {}
    for table in (felix.raw(), felix.mangle(), felix.nat(), felix.filter()):
        for name, (kind, hook, priority) in BASES[table.name].items():
            chains[f"{table.name}-{name}"] = [f"type {kind} hook {hook} priority {priority}; policy accept;"]
        for name in table.chains:
            if name.startswith("cali-"):
                chains.setdefault(f"{table.name}-{unhashed(name)}", [])
        for line in map(unhashed, table.lines):
            # kube-proxy's are in a table of their own.
            if "KUBE-" in line:
                continue
            rule = Rule(table.name, line, ip)
            into = chains[f"{table.name}-{rule.chain}"]
            which = {"cali-from-wl-dispatch": "iifname", "cali-to-wl-dispatch": "oifname"}.get(rule.chain)
            if which and rule.action.startswith("goto"):
                # The gotos of one chain are one look-up.
                if not into:
                    into.append(f'{which} vmap @filter-{rule.chain} comment "{rule.comments[0]};"')
                continue
            into.append(rule.text())
    # A chain must be there before one jumps to it.
    named = [f"table {family} calico {{", *(f"\tchain {chain} {{ }}" for chain, own in chains.items()
                                           if not (own and own[0].startswith("type "))), "}"]
    bodies = ["\n".join([f"\tchain {chain} {{", *(f"\t\t{line}" for line in own), "\t}"]) for chain, own in chains.items()]
    return "\n".join([*named, *lines, *bodies, "}"]) + "\n"


# Names are not cut to 28 characters here, so that none of these is hashed.
LONG = {rules.limited("cali-pi-", name): f"cali-pi-{name}" for name in ("knp/default/allow-server", "knp/default/deny-all")}


def unhashed(text):
    for short, whole in LONG.items():
        text = text.replace(short, whole)
    return text


def sets(topology, node, v6):
    found = {}
    for line in rules.ipsets(topology, node).splitlines():
        words = line.split()
        if words[0] == "create" and words[1].startswith("cali60" if v6 else "cali40"):
            found[words[1]] = []
        elif words[0] == "add" and words[1] in found:
            found[words[1]].append(words[2])
    return found


def kube_proxy(topology, v6=False):
    """kube-proxy's table, as far as the one Service needs it."""
    family, kind = ("ip6", "ipv6_addr") if v6 else ("ip", "ipv4_addr")
    server = topology.pod("default/server")
    service, own, shown = ((t.SERVICE6, server.address6, f"[{server.address6}]") if v6
                           else (t.SERVICE, server.address, server.address))
    heads, chains = [], []
    for hashed, name, protocol, port, target in (("TCPAAAAA", "http", "tcp", 80, 8080), ("UDPAAAAA", "echo", "udp", 5353, 5000)):
        svc = f"service-{hashed}-default/server-svc/{protocol}/{name}"
        end = f"endpoint-{hashed}-default/server-svc/{protocol}/{name}__{own.replace(':', '.')}/{target}"
        heads.append(f"{service} . {protocol} . {port} : goto {svc}")
        chains += [f'\tchain {end} {{\n\t\t{family} saddr {own} jump mark-for-masquerade\n'
                   f"\t\tmeta l4proto {protocol} dnat to {shown}:{target}\n\t}}",
                   f"\tchain {svc} {{\n\t\tnumgen random mod 1 vmap {{ 0 : goto {end} }}\n\t}}"]
    return f"""table {family} kube-proxy {{
\tcomment "rules for kube-proxy"
\tset cluster-ips {{
\t\ttype {kind}
\t\telements = {{ {service} }}
\t}}
\tchain mark-for-masquerade {{
\t\tmeta mark set meta mark | 0x00004000
\t}}
{chr(10).join(chains)}
\tmap service-ips {{
\t\ttype {kind} . inet_proto . inet_service : verdict
\t\tcomment "ClusterIP, ExternalIP and LoadBalancer IP traffic"
\t\telements = {{ {', '.join(heads)} }}
\t}}
\tchain services {{
\t\t{family} daddr . meta l4proto . th dport vmap @service-ips
\t}}
\tchain cluster-ips-check {{
\t\t{family} daddr @cluster-ips reject comment "Reject traffic to invalid ports of ClusterIPs"
\t}}
\tchain masquerading {{
\t\tmeta mark & 0x00004000 == 0x00000000 return
\t\tmeta mark set meta mark ^ 0x00004000
\t\tmasquerade fully-random
\t}}
\tchain nat-prerouting {{
\t\ttype nat hook prerouting priority -100; policy accept;
\t\tjump services
\t}}
\tchain nat-output {{
\t\ttype nat hook output priority -100; policy accept;
\t\tjump services
\t}}
\tchain nat-postrouting {{
\t\ttype nat hook postrouting priority 100; policy accept;
\t\tjump masquerading
\t}}
\tchain filter-forward {{
\t\ttype filter hook forward priority -110; policy accept;
\t\tct state new jump cluster-ips-check
\t}}
\tchain filter-output {{
\t\ttype filter hook output priority -110; policy accept;
\t\tct state new jump cluster-ips-check
\t}}
}}
"""


def tables(topology, node, layout="new"):
    """Everything of one node, both families."""
    return "".join(calico(topology, node, v6, layout) + kube_proxy(topology, v6) for v6 in (False, True))
