"""Frames made by hand: headers that the saved cases do not have, and tunnels around anything."""

import socket
import struct

MAC = bytes.fromhex("0202020202020404040404040800")[:12]


def ether(payload, kind=0x0800, tags=()):
    for tag in reversed(tags):
        payload = struct.pack(">HH", tag, kind) + payload
        kind = 0x8100
    return MAC + struct.pack(">H", kind) + payload


def ip4(payload, protocol, src="10.244.1.2", dst="10.244.2.2", identification=7, fragment=0x4000, length=None, words=5):
    length = words * 4 + len(payload) if length is None else length
    addresses = socket.inet_aton(src) + socket.inet_aton(dst)
    head = struct.pack(">BBHHHBBH", 0x40 | words, 0, length & 0xFFFF, identification, fragment, 64, protocol, 0) + addresses
    total = sum(struct.unpack(">10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    return head[:10] + struct.pack(">H", ~(total + (total >> 16)) & 0xFFFF) + head[12:] + payload


def ip6(payload, protocol, src="fd00:10:244:1::2", dst="fd00:10:244:2::2", length=None):
    addresses = socket.inet_pton(socket.AF_INET6, src) + socket.inet_pton(socket.AF_INET6, dst)
    return struct.pack(">IHBB", 6 << 28, len(payload) if length is None else length, protocol, 64) + addresses + payload


def udp(payload, src=4000, dst=5000, length=None):
    return struct.pack(">HHHH", src, dst, 8 + len(payload) if length is None else length, 0) + payload


def tcp(payload=b"", seq=1, flags=0x18, options=b"", words=None):
    words = 5 + len(options) // 4 if words is None else words
    return struct.pack(">HHIIHHHH", 4000, 8080, seq, 1, words << 12 | flags, 64240, 0, 0) + options + payload


def echo(number, kind=8, payload=bytes(56)):
    return struct.pack(">BBHHH", kind, 0, 0, 77, number) + payload


def vxlan(inner, vni=4096, flags=8, port=4789, src="192.168.50.11", dst="192.168.50.12"):
    return ip4(udp(struct.pack(">II", flags << 24, vni << 8) + inner, 51000, port), 17, src, dst)


def geneve(inner, options=b""):
    head = struct.pack(">BBHI", len(options) // 4, 0, 0x6558, 9 << 8)
    return ip4(udp(head + options + inner, 51000, 6081), 17, "192.168.50.11", "192.168.50.12")


def gre(inner, key=True, protocol=0x0800):
    head = struct.pack(">HH", 0x2000 if key else 0, protocol) + (struct.pack(">I", 5) if key else b"")
    return ip4(head + inner, 47, "192.168.50.11", "192.168.50.12")


def cooked(payload, version=1, kind=0x0800):
    if version == 1:
        return struct.pack(">HHH8sH", 0, 1, 6, bytes(8), kind) + payload
    return struct.pack(">HHIHBB8s", kind, 0, 3, 1, 0, 6, bytes(8)) + payload


def nested(depth):
    """A tunnel in a tunnel in a tunnel."""
    frame = ether(ip4(udp(b"within"), 17))
    for _ in range(depth):
        frame = ether(vxlan(frame))
    return frame


def all_kinds():
    """Link type and frame of everything that the reader of packets knows."""
    timestamps = bytes.fromhex("0101080a0000000100000002")
    plain = [ip4(tcp(b"x" * 40, options=timestamps), 6), ip4(udp(b"y" * 40), 17), ip4(echo(1), 1), ip6(udp(b"z" * 20), 17)]
    quoted = struct.pack(">BBHHH", 3, 4, 0, 0, 1450) + plain[0][:28]
    plain += [ip4(quoted, 1), ip6(struct.pack(">BBHI", 2, 0, 0, 1280) + plain[3][:60], 58), ip6(echo(3, 128), 58)]
    plain += [ip4(struct.pack(">HHII", 1, 2, 3, 4), 132), ip4(b"espespesp", 50), ip4(b"", 6)]
    plain += [ip4(udp(b"first" * 9), 17, fragment=0x2000), ip4(b"later" * 9, 17, fragment=0x0006)]
    extended = bytes([44, 0]) + bytes(6) + bytes([17, 0]) + struct.pack(">HI", 1, 99) + udp(b"frag")
    plain += [ip6(extended, 0), ip6(bytes([60, 255]) + bytes(30), 60), ip6(bytes([59, 0]) + bytes(6), 43)]
    plain += [ip4(plain[0], 4), ip4(plain[3], 41), ip6(plain[0], 4), ip6(plain[3], 41), gre(plain[1]), gre(plain[3], False, 0x86DD)]
    plain += [gre(ether(plain[1]), True, 0x6558), vxlan(ether(plain[0])), vxlan(ether(plain[3], 0x86DD), port=8472)]
    plain += [geneve(ether(plain[0])), geneve(ether(plain[0]), bytes(20))]
    arp = struct.pack(">HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, MAC[:6], b"\x0a\0\0\1", bytes(6), b"\x0a\0\0\2")
    found = [(1, ether(arp, 0x0806)), (1, ether(b"?", 0x88CC)), (1, nested(3)), (1, nested(9)), (127, bytes(60)), (1, b"")]
    for packet in plain:
        kind = 0x86DD if packet[0] >> 4 == 6 else 0x0800
        found += [(1, ether(packet, kind)), (1, ether(packet, kind, (5, 6))), (101, packet), (12, packet)]
        found += [(113, cooked(packet, 1, kind)), (276, cooked(packet, 2, kind)), (229 if kind == 0x86DD else 228, packet)]
        family = 2 if kind == 0x0800 else 10
        found += [(0, struct.pack("<I", family) + packet), (108, struct.pack(">I", family) + packet)]
    return found
