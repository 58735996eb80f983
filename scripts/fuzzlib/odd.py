"""Odd and malformed captures from a seed: `made(random, captures)` gives name and bytes of each file. Mutations of what the
saved cases hold, and files written to be wrong in one way each."""

import gzip
import itertools
import struct
import subprocess

from . import capture as c
from . import frames as f

FAR = [0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1]
LENGTHS = [0, 1, 3, 4, 8, 11, 12, 13, 28, 2**16, 2**24, 2**26, 2**26 + 4, 2**31, 2**32 - 4, 2**32 - 1]
ORDERS = ["<", ">"]
START = 1_795_587_948_000_000_000


def made(random, captures, large=True):
    """`captures`: name and bytes of pcapng files as the cases hold them. Without `large` none that is much work to read."""
    short = [(name, taken[:40]) for name, data in captures if (taken := list(c.frames(data)))]
    files = itertools.chain(
        kinds(), lies_of_pcap(), lies_of_pcapng(), times(), packed(short), cuts(random, short), mutations(random, short)
    )
    if large:
        files = itertools.chain(files, shapes(), bombs())
    for number, (name, data) in enumerate(files):
        yield f"{number:04}-{name}", data


def ping(number=0):
    return f.ether(f.ip4(f.echo(number), 1, identification=number & 0xFFFF))


def kinds():
    """Every link type with every kind of frame."""
    by_link = {}
    for link, frame in f.all_kinds():
        by_link.setdefault(link, []).append(frame)
    for link, found in by_link.items():
        records = [(1_795_587_948, n, frame) for n, frame in enumerate(found)]
        yield f"link{link}.pcap", c.pcap(records, link)
        taken = [(0, START + n, len(frame), frame) for n, frame in enumerate(found)]
        yield f"link{link}.pcapng", c.pcapng(taken, link=link)
        for link_of_others in (1, 113, 276, 101, 65535):
            yield f"link{link}-as-{link_of_others}.pcap", c.pcap(records, link_of_others)
    yield "tunnels-in-tunnels.pcap", c.pcap([(1, n, f.nested(n)) for n in (0, 1, 4, 5, 100, 1000)])
    ipip = f.ip4(f.tcp(), 6)
    for _ in range(2000):
        ipip = f.ip4(ipip, 4)
    extensions = f.udp(b"x")
    for number in range(4000):
        extensions = bytes([60 if number else 17, 0]) + bytes(6) + extensions
    yield "headers-in-headers.pcap", c.pcap([(1, 0, f.ether(ipip)), (1, 1, f.ether(f.ip6(extensions, 60), 0x86DD))])
    tags = [(1, n, f.ether(f.ip4(f.tcp(), 6), tags=range(n))) for n in (1, 2, 3, 500)]
    yield "tags.pcap", c.pcap(tags)


def lies_of_pcap():
    yield "empty.pcap", b""
    for order in ORDERS:
        for nanos in (False, True):
            head = c.pcap([], order=order, nanos=nanos)
            for cut in (1, 3, 4, 8, 20, 23, 24):
                yield f"head-of-{cut}.pcap", head[:cut]
        for magic in (0xA1B2CD34, 0xA1B2C3D5, 0xA1E2CB12):
            yield f"magic-{magic:x}.pcap", c.pcap([(1, 2, ping())], order=order, magic=magic)
        for version in [(0, 0), (1, 4), (2, 65535), (3, 0), (65535, 65535)]:
            yield f"version-{version[0]}.pcap", c.pcap([(1, 2, ping())], order=order, version=version)
        for snaplen in FAR[:5]:
            yield f"snaplen-{snaplen}.pcap", c.pcap([(1, 2, ping()), (1, 3, ping(1))], snaplen=snaplen, order=order)
        for link in (2, 105, 127, 147, 0xFFFF, 0x10001, 0xFFFFFFFF):
            yield f"link-{link}.pcap", c.pcap([(1, 2, ping())], link, order=order)
        for length in LENGTHS:
            yield f"kept-{length}.pcap", c.pcap([(1, 2, ping()), (1, 3, ping(), length, length), (1, 4, ping())], order=order)
            yield f"wire-{length}.pcap", c.pcap([(1, 2, ping(), len(ping()), length), (1, 3, ping(1))], order=order)


def lies_of_pcapng():
    for order in ORDERS:
        head = c.section(order) + c.interface(order=order)
        good = c.packet(ping(), 0, START // 1000, order=order)
        for length in LENGTHS:
            yield f"block-of-{length}.pcapng", head + good + c.block(6, bytes(20), order, length & 0xFFFFFFFF) + good
            yield f"block-again-{length}.pcapng", head + good + c.block(6, bytes(20), order, again=length & 0xFFFFFFFF) + good
            yield f"kept-{length}.pcapng", head + c.packet(ping(), kept=length & 0xFFFFFFFF, wire=length & 0xFFFFFFFF, order=order) + good
            yield f"option-of-{length}.pcapng", head + c.packet(ping(), options=c.option(1, b"word", order, length & 0xFFFF), order=order)
            snaplen = c.section(order) + c.interface(snaplen=length & 0xFFFFFFFF, order=order)
            yield f"snaplen-{length}.pcapng", snaplen + good + c.block(3, struct.pack(order + "I", length & 0xFFFFFFFF) + ping(), order)
        for number in (1, 2, 65535, 65536, 2**31, 2**32 - 1):
            yield f"interface-{number}.pcapng", head + good + c.packet(ping(), number, order=order) + good
            yield f"statistics-{number}.pcapng", head + good + c.block(5, struct.pack(order + "I", number) + bytes(8), order)
        for kind in (0, 2, 3, 4, 5, 10, 0xBAD, 0x40000BAD, 0x80000001, 0xFFFFFFFF):
            yield f"block-{kind:x}-empty.pcapng", head + c.block(kind, b"", order) * 3 + good
            yield f"block-{kind:x}.pcapng", head + c.block(kind, bytes(range(64)), order) * 3 + good
            yield f"block-{kind:x}-first.pcapng", c.block(kind, bytes(64), order) + head + good
        for length in (0, 1, 28, 2**62, -1, -2):
            yield f"section-of-{length}.pcapng", c.section(order, length=length) + c.interface(order=order) + good + head + good
        for version in [(0, 0), (1, 2), (1, 65535), (2, 0)]:
            yield f"version-{version[0]}.pcapng", c.section(order, *version) + c.interface(order=order) + good
        yield "no-interface.pcapng", c.section(order) + good
        yield "no-section.pcapng", c.interface(order=order) + good
        yield "only-sections.pcapng", c.section(order) * 5000
        yield "sections-of-both-orders.pcapng", b"".join(
            c.section(o) + c.interface(order=o) + c.packet(ping(n), order=o) for n in range(500) for o in ORDERS
        )
        for code in (1, 2, 3, 9, 11, 14):
            for value in (b"", b"\xff", b"\xff" * 7, b"\0" * 8, b"\xff" * 8, b"\x7f" * 300, "\u202e\x1b[31mé".encode(), b"\xc3" * 65535):
                options = c.option(code, value, order) + c.option(0, b"", order)
                yield f"says-{code}-{len(value)}.pcapng", c.section(order) + c.interface(options=options, order=order) + good
        statistics = b"".join(c.option(code, b"\xff" * 8, order) for code in range(1, 9))
        yield "counts-without-end.pcapng", head + good + c.block(5, bytes(4) + b"\xff" * 8 + statistics, order)


def times():
    """At the ends of what a file can say, backwards, and in every resolution."""
    for order in ORDERS:
        for time in FAR:
            taken = [(0, time, 100, ping(n)) for n in range(3)] + [(0, START, 100, ping(9))]
            yield f"time-{time}.pcapng", c.pcapng(taken, order)
        for resolution in (0, 6, 9, 10, 19, 38, 39, 127, 128, 129, 160, 192, 254, 255):
            options = c.option(9, bytes([resolution]), order) + c.option(0, b"", order)
            frames = b"".join(c.packet(ping(n), 0, time, order=order) for n, time in enumerate([*FAR, START]))
            yield f"resolution-{resolution}.pcapng", c.section(order) + c.interface(options=options, order=order) + frames
        for seconds in FAR:
            options = c.option(14, struct.pack(order + "Q", seconds), order) + c.option(0, b"", order)
            frames = b"".join(c.packet(ping(n), 0, time, order=order) for n, time in enumerate([0, START, 2**64 - 1]))
            yield f"offset-{seconds}.pcapng", c.section(order) + c.interface(options=options, order=order) + frames
        for seconds, fraction in itertools.product((0, 2**31, 2**32 - 1), (0, 999_999, 10**9, 2**32 - 1)):
            for nanos in (False, True):
                records = [(seconds, fraction, ping(1)), (0, 0, ping(2)), (seconds, fraction, ping(3))]
                yield f"at-{seconds}-{fraction}.pcap", c.pcap(records, order=order, nanos=nanos)
    backwards = [(0, START - n * 1_000_000_000, 100, ping(n)) for n in range(2000)]
    yield "backwards.pcapng", c.pcapng(backwards)
    yield "one-moment.pcapng", c.pcapng([(0, START, 100, ping(n % 7)) for n in range(20_000)])
    yield "same-packet.pcapng", c.pcapng([(0, START + n * 1000, 100, ping(1)) for n in range(20_000)])


def shapes():
    """Many of something."""
    many = [(n, START + n, 100, ping(n)) for n in range(3000)]
    yield "interfaces-3000.pcapng", c.pcapng(many)
    yield "interfaces-70000.pcapng", c.section() + c.interface() * 70_000 + c.packet(ping())
    flows = [(0, START + n * 1000, 60, f.ether(f.ip4(f.udp(b"", n & 0xFFFF, n >> 16), 17, identification=n & 0xFFFF))) for n in range(20_000)]
    yield "flows-20000.pcapng", c.pcapng(flows)
    hosts = [(0, START + n * 1000, 60, f.ether(f.ip4(f.udp(b""), 17, f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}"))) for n in range(20_000)]
    yield "hosts-20000.pcapng", c.pcapng(hosts)
    fragments = [(0, START + n * 1000, 60, f.ether(f.ip4(bytes(24), 17, identification=n & 0xFFFF, fragment=0x2000 | n % 8000))) for n in range(20_000)]
    yield "fragments.pcapng", c.pcapng(fragments)
    slow = [(0, START + n * 20_000, 60, f.ether(f.ip4(bytes(24), 17, identification=n & 0xFFFF, fragment=0x2001))) for n in range(40_000)]
    yield "fragments-without-end.pcapng", c.pcapng(slow)
    over = [(0, START + n * 1000, 60_066, f.ether(f.ip4(f.tcp(b"", seq=n), 6, length=60_052))) for n in range(20_000)]
    yield "overlapping-segments.pcapng", c.pcapng(over)
    outer = [(0, START + n * 1000, 60, f.ether(f.vxlan(f.ether(f.ip4(f.echo(n & 0xFFFF), 1)), vni=n))) for n in range(10_000)]
    yield "vnis.pcapng", c.pcapng(outer)
    nulls = c.section() + c.interface() + c.packet(b"") * 100_000
    yield "frames-of-nothing.pcapng", nulls
    names = c.option(2, b"n" * 60_000) + c.option(3, b"d" * 60_000) + c.option(0, b"")
    yield "names-of-60000.pcapng", c.section() + c.interface(options=names) * 200 + c.packet(ping())
    yield "frame-of-60MiB.pcap", c.pcap([(1, 2, bytes(60 << 20)), (1, 3, ping())])
    yield "frames-of-7MiB.pcapng", c.section() + c.interface() + c.packet(ping() + bytes(7 << 20)) * 3
    yield "frame-of-60MiB.pcapng", c.section() + c.interface() + c.packet(bytes(60 << 20)) + c.packet(ping())
    yield "block-of-60MiB.pcapng", c.section() + c.interface() + c.block(0x40000BAD, bytes(60 << 20)) + c.packet(ping())


def packed(short):
    """Compressed: whole, cut, doubled, damaged, one in the other."""
    name, taken = short[0]
    plain = c.pcapng(taken)
    whole = {"gz": gzip.compress(plain), "zst": zstd(plain)}
    for end, data in whole.items():
        yield f"{name}.pcapng.{end}", data
        yield f"twice.pcapng.{end}", data + data
        yield f"junk-behind.pcapng.{end}", data + b"junk" * 100
        for part in (2, 4, 9, 12, 20, len(data) // 2, len(data) - 9, len(data) - 1):
            yield f"cut-{part}.pcapng.{end}", data[:part]
        for at in range(4, len(data), max(1, len(data) // 12)):
            yield f"damaged-{at}.pcapng.{end}", data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]
    yield "gz-in-gz.pcapng.gz", gzip.compress(whole["gz"])
    yield "gz-in-zst.pcapng.zst", zstd(whole["gz"])
    yield "skippable.zst", struct.pack("<II", 0x184D2A50, 4) + b"skip" + whole["zst"]
    yield "skippable-without-end.zst", struct.pack("<II", 0x184D2A5F, 2**32 - 1) + b"skip"
    yield "window-of-2GiB.zst", bytes.fromhex("28b52ffd00a8") + bytes(20)
    yield "bzip2.pcap.bz2", b"BZh91AY&SY" + bytes(50)
    yield "nothing.gz", gzip.compress(b"")


def bombs():
    """Small files that are gigabytes when unpacked."""
    head = c.section() + c.interface()
    bodies = {
        "interfaces": (c.interface(options=c.option(2, b"n" * 65_000) + c.option(0, b"")), 40_000),
        "frames": (c.packet(ping(), 0, START // 1000) * 100, 1_500),
        "nothing": (c.block(0x40000BAD, b""), 3_000_000),
        "large-blocks": (c.block(0x40000BAD, bytes(15 << 20)), 20),
        "large-frames": (c.packet(ping() + bytes(12 << 20)), 12),
        "endless-frame": (struct.pack("<III", 6, 2**26, 0) + bytes(1 << 20), 64),
        "zeros": (bytes(1 << 20), 1000),
    }
    for name, (body, times_over) in bodies.items():
        many = 1 + (1 << 20) // len(body)
        # Members of one gzip file follow each other as their contents do.
        yield f"bomb-{name}.gz", gzip.compress(head) + gzip.compress(body * many, 6) * (times_over // many + 1)
    many = head + b"".join(c.packet(ping(), 0, START // 1000 + n) for n in range(50_000)) + c.block(0x40000BAD, bytes(15 << 20)) * 10
    for window in (26, 27):
        yield f"bomb-window-{window}.zst", zstd(many, f"--long={window}")


def cuts(random, short):
    for name, taken in random.sample(short, min(len(short), 4)):
        for data in (c.pcapng(taken[:6]), c.pcap([(1, n, frame) for n, (*_, frame) in enumerate(taken[:4])])):
            for at in sorted(random.sample(range(4, len(data)), 12)):
                yield f"{name}-cut-{at}", data[:at]


def mutations(random, short):
    """Bytes changed, put in, taken out, numbers at the edge written over, pieces doubled."""
    for number in range(150):
        name, taken = random.choice(short)
        begin = random.randrange(max(1, len(taken) - 12))
        order, taken = random.choice(ORDERS), taken[begin : begin + 12]
        data = bytearray(random.choice([c.pcapng, lambda taken, order: c.pcap([(1, n, frame) for n, (*_, frame) in enumerate(taken)], order=order)])(taken, order))
        for _ in range(random.choice([1, 1, 2, 4, 16])):
            at = random.randrange(4, len(data))
            match random.randrange(5):
                case 0:
                    data[at] ^= 1 << random.randrange(8)
                case 1:
                    data[at : at + 4] = struct.pack("<I", random.choice(LENGTHS) & 0xFFFFFFFF)
                case 2:
                    del data[at : at + random.choice([1, 4, 16, 200])]
                case 3:
                    data[at:at] = random.randbytes(random.choice([1, 4, 16]))
                case 4:
                    data[at:at] = data[at : at + random.choice([4, 100, 1000])]
            if len(data) < 8:
                break
        yield f"{name}-mutated-{number}", bytes(data)


def zstd(data, *words):
    return subprocess.run(["zstd", "-q", "-c", *words], input=data, stdout=subprocess.PIPE, check=True).stdout

