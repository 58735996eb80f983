"""What each fuzz target begins with: `SEEDS[target](root)` gives inputs in the form that tests/fuzz/targets says, made of the
saved cases, of recorded texts and of files written on the spot. Small ones first: a fuzzer is quick with small inputs."""

import gzip
import io
import json
import random
import re
import struct
import tarfile

from . import capture, frames, odd, saved

LINKS = [1, 113, 276, 101, 12, 14, 228, 229, 0, 108, 127, 65_535]


def packets(root):
    for link, frame in frames.all_kinds():
        yield struct.pack("<BH", LINKS.index(link), 0) + frame[:2000]
    for _, taken in taken_of(root):
        for _, _, wire, frame in taken[::9]:
            yield struct.pack("<BH", 0, min(wire - len(frame), 65_535)) + frame


def captures(root):
    for _, data in odd.made(random.Random(1), saved.captures(root), large=False):
        if len(data) < 20_000:
            yield data


def rulesets(root):
    texts = by_name(root)
    odd_rules = [file.read_text() for file in sorted((root / "tests/data/netfilter").glob("*.txt"))]
    nft = [file.read_text() for file in sorted((root / "tests/data/nft").glob("*.json"))]
    ipset, state = texts["ipset"][0], texts["state"][0]
    for rules in sorted(odd_rules, key=len):
        yield joined(rules)
        yield joined(thinned(rules, 5), "", ipset, state)
    for rules in nft + texts.get("nft", []):
        yield joined("", thinned_nft(rules, 40))
        yield joined("", thinned_nft(rules, 4), ipset, state)
    for rules in texts["iptables-nft-save"]:
        yield joined(thinned(rules, 9), "", ipset)
    for text in texts["ipset"]:
        yield joined("", "", text)


def texts(root):
    found = by_name(root)
    for state in found["state"] + found["pod:state"]:
        yield joined(state)
        yield joined(json.dumps(halved(json.loads(state))))
    for conntrack, kernel in zip(found["conntrack"], found["kernel"]):
        yield joined("", conntrack[:2000])
        yield joined("", "", kernel[:4000])


def collections(root):
    for file in sorted((root / "tests/data/nft").glob("*.txt")):
        for table in re.split(r"(?m)^(?=table )", file.read_text()):
            chains = re.split(r"\n\n", table)
            yield joined("nft", table[:6000])
            for chain in chains[1:]:
                if len(chain) < 3000:
                    yield joined("nft", chains[0].split("\n")[0] + "\n" + chain.rstrip().removesuffix("\n}") + "\n}\n")
    for archive in sorted((root / "tests/data/foreign").glob("*/*.tar.gz")):
        with tarfile.open(archive) as files:
            for entry in files:
                text = files.extractfile(entry).read().decode(errors="replace") if entry.isfile() else ""
                lines = text.split("\n")
                yield joined(entry.name.rsplit("/", 1)[-1], "\n".join(lines[:60]))


def clusters(root):
    texts = [(root / "tests/data/cluster.yaml").read_text()]
    texts += [file.read_text() for file in sorted((root / "tests/data/ipam").glob("*.json"))]
    for text in list(texts):
        if text.lstrip().startswith("{"):
            texts += [json.dumps(item) for item in json.loads(text).get("items", [])]
        else:
            texts += text.split("\n---\n")
    texts += [yaml_bomb(depth) for depth in (2, 4, 6)]
    for case, path, data in saved.files(root):
        if path == "cluster.json":
            texts.append(json.dumps(halved(json.loads(data))))
    return [text.encode() for text in sorted(texts, key=len)]


def cases(root):
    for name, files in whole_cases(root):
        manifest = json.loads(files["manifest.json"])
        case = json.dumps(manifest["case"], separators=(",", ":")).encode()
        taken = list(capture.frames(files["capture.pcapng"]))
        n_interfaces = len(manifest["case"]["points"])
        head = [block for kind, block in capture.blocks(files["capture.pcapng"]) if kind in (capture.SECTION, 1)]
        some = [capture.packet(frame, number, time, wire) for number, time, wire, frame in taken[:: max(1, len(taken) // 60)]]
        packets = b"".join([*head[: n_interfaces + 1], *some])
        entries = []
        for entry in manifest["texts"]:
            text = files.get(entry["content"].get("read", "")) if isinstance(entry["content"], dict) else None
            if text and "ip6" not in entry["name"]:
                words = f"{entry['node']} {entry['name']} {entry['when']}\n"
                entries.append((words + shortened(entry["name"], text.decode(errors="replace"))).encode())
        cluster = json.dumps(halved(json.loads(files.get("cluster.json", b"{}")))).encode()
        yield case + b"\xff\xfe" + packets
        yield b"\xff".join([case, b"", *entries[::2]]) + b"\xfe" + packets[:6000]
        yield b"\xff".join([case, cluster, *entries]) + b"\xfe" + packets[:6000]


def shortened(name, text):
    """A text of a node, with some of everything in it."""
    if name.endswith("state"):
        return json.dumps(halved(json.loads(text)), separators=(",", ":"))
    if name.endswith("-save"):
        text = "".join(line for line in thinned(text, 12).splitlines(keepends=True) if not line.startswith(":cali") or line[-20] in "aeg13")
    return text[:3000]


def archives(root):
    for _, files in whole_cases(root):
        plain = tarred((f"case/{name}", data) for name, data in files.items() if name in ("manifest.json", "capture.pcapng"))
        yield plain
        yield gzip.compress(plain)
        yield odd.zstd(plain)
        break
    for names in (["manifest.json"], ["../manifest.json"], ["/manifest.json"], ["x" * 300], ["a/b/c", "a"], ["a", "a"], []):
        yield tarred((name, b"{}") for name in names)
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.GNUTYPE_SPARSE):
        yield tarred([("link", b""), ("link/manifest.json", b"{}")], kind)
    yield tarred([("é" * 120, b"{}"), ("manifest.json", b"{}")], style=tarfile.PAX_FORMAT)


def agents(root):
    coverage = {"started": 1, "stopped": 2, "snaplen": 256, "received": 3, "dropped": 4, "dropped_interface": 5}
    pair = {"from": "10.0.0.1", "from_aliases": [], "to": "10.0.0.2", "to_aliases": ["fd00::1"], "nodes": ["192.168.0.1"]}
    pair |= {"vxlan_port": 4789, "only": {"protocol": 6, "port": 80}}
    text = {"node": "worker-1", "name": "ipset", "when": "before", "content": {"read": "create x hash:ip\n"}}
    finds = [{"name": "eth0"}, {"holding": "192.168.0.1"}, {"inside_pod": {"veth": "cali1", "address": "10.0.0.1"}}]
    points = [{"number": n, "pair": 0, "role": role, "find": find} for n, (role, find) in enumerate(zip(["nic", "tunnel", "pod"], finds))]
    settings = {"snaplen": 256, "buffer": 1 << 25}
    said = [
        {"pong": {"ping": 1, "time": 2}}, "alive", {"text": text}, "ready", "done", {"failed": "why"},
        {"text": text | {"content": {"unreadable": "why"}}}, {"text": text | {"content": "not_asked"}},
        {"started": {"point": 1, "interface": "eth0", "link": 1, "time": 5}},
        {"refused": {"point": 1, "interface": None, "why": "none"}},
        {"counted": {"point": 1, "counts": {"received": 1, "dropped": 2, "dropped_interface": 3, "complete_until": 4}}},
        {"turned": {"point": 1, "up": False, "time": -5}},
        {"ended": {"point": 1, "coverage": coverage}},
        {"probed": [0, {"Ok": {"kind": "icmp", "sent": 5, "answered": 4, "errors": [["refused", 1]]}}]},
        {"probed": [1, {"Err": "no route"}]},
        {"ping": 7}, "stop", {"read": {"node": "worker-1", "pods": finds, "pair": pair}},
        {"probe": [0, {"kind": "icmp", "target": "10.0.0.2", "count": 3, "size": 56, "interval": {"secs": 1, "nanos": 0}}]},
        {"work": {"node": "worker-1", "pairs": [[0, pair]], "points": points, "settings": settings, "kernel": True}},
    ]
    control = [struct.pack("<BI", 1, len(text)) + text for text in (json.dumps(message).encode() for message in said)]
    batch = b"".join(struct.pack("<HqII", n, n * 1000, 100, 20) + bytes(20) for n in range(4))
    control.append(struct.pack("<BI", 2, len(batch)) + batch)
    greeting = b"\x02td-wire" + struct.pack("<HH", 5, 5) + b"0.1.0"
    for frame in control:
        yield b"\xff" + frame
    yield b"\x07" + b"".join(control)
    yield b"\x03Last login: yesterday\r\n" + greeting + control[0]


def replay(root):
    for _, taken in taken_of(root):
        for step in (1, 3):
            out, before = [], taken[0][1]
            for point, time, wire, frame in taken[: 120 * step : step]:
                delta = max(-(2**31), min(2**31 - 1, (time - before) // 1000))
                out.append(struct.pack("<BiHH", point, delta, min(wire - len(frame), 65_535), len(frame)) + frame)
                before = time
            yield b"".join(out[:30])
            yield b"".join(out)
    kinds = [frame for link, frame in frames.all_kinds() if link == 1]
    yield b"".join(struct.pack("<BiHH", n, 1000, 0, len(frame)) + frame[:1500] for n, frame in enumerate(kinds) if len(frame) < 1500)


SEEDS = {
    maker.__name__: maker for maker in (packets, captures, rulesets, texts, collections, clusters, cases, archives, agents, replay)
}


def words(inputs):
    """A dictionary for a target whose inputs are texts: words that stand in them."""
    found = {}
    for data in inputs:
        for word in re.findall(rb"[A-Za-z_:.-]{2,24}", data):
            found[word] = found.get(word, 0) + 1
    common = sorted(found, key=lambda word: -found[word])[:600]
    return "".join('"' + word.decode() + '"\n' for word in common)


def taken_of(root):
    return [(name, list(capture.frames(data))) for name, data in saved.captures(root)]


def whole_cases(root):
    found = {}
    for name, path, data in saved.files(root):
        found.setdefault(name, {})[path] = data
    return found.items()


def by_name(root):
    """All texts by the name that their file has, `pod:` for those of a pod."""
    found = {}
    for _, path, data in saved.files(root):
        if path.startswith("texts/") and data:
            name = path.split("/")[-1].split(".")[0].replace("pod_", "pod:")
            found.setdefault(name, []).append(data.decode(errors="replace"))
    return found


def joined(*parts):
    return "\0".join(parts).encode()


def thinned(rules, step):
    """Every so many lines of the rules, and all others."""
    lines = rules.splitlines(keepends=True)
    return "".join(line for number, line in enumerate(lines) if not re.match(r"(\[|-A)", line) or number % step == 0)


def thinned_nft(text, step):
    out = []
    for line in text.splitlines():
        try:
            document = json.loads(line)
        except ValueError:
            continue
        found = document.get("nftables", [])
        kept = [entry for number, entry in enumerate(found) if "rule" not in entry or number % step == 0]
        out.append(json.dumps({"nftables": kept}, separators=(",", ":")))
    return "\n".join(out)


def halved(value):
    """The first entries of every list."""
    if isinstance(value, dict):
        return {key: halved(inner) for key, inner in value.items()}
    return [halved(inner) for inner in value[:3]] if isinstance(value, list) else value


def yaml_bomb(depth):
    lines = ["apiVersion: v1", "kind: Pod", "a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, depth)]
    return "\n".join([*lines, "metadata: {name: x, namespace: y, labels: *a1}", ""])


def tarred(files, kind=tarfile.REGTYPE, style=tarfile.GNU_FORMAT):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=style) as archive:
        for name, data in files:
            entry = tarfile.TarInfo(name)
            entry.size, entry.type, entry.linkname = len(data), kind if not data else tarfile.REGTYPE, "/etc"
            archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()
