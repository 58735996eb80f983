"""Capture files as bytes: pcapng taken apart into blocks and frames, and both formats written freely, right or wrong."""

import struct

SECTION = 0x0A0D0D0A


def blocks(data):
    """The blocks of a little-endian pcapng file: type and whole bytes each."""
    at, found = 0, []
    while at + 12 <= len(data):
        kind, length = struct.unpack_from("<II", data, at)
        if length < 12 or at + length > len(data):
            break
        found.append((kind, data[at : at + length]))
        at += length
    return found


def frames(data):
    """Interface, nanoseconds, length on the wire and bytes of each frame of a file that trace-drop wrote."""
    for kind, block in blocks(data):
        if kind == 6:
            interface, high, low, kept, wire = struct.unpack_from("<IIIII", block, 8)
            yield interface, high << 32 | low, wire, block[28 : 28 + kept]


def block(kind, body, order="<", length=None, again=None):
    """One block; its length may lie, at its head or at its end."""
    body += bytes(-len(body) % 4)
    length = len(body) + 12 if length is None else length
    return struct.pack(order + "II", kind, length) + body + struct.pack(order + "I", length if again is None else again)


def option(code, value, order="<", length=None):
    return struct.pack(order + "HH", code, len(value) if length is None else length) + value + bytes(-len(value) % 4)


def section(order="<", major=1, minor=0, length=-1):
    return block(SECTION, struct.pack(order + "IHHq", 0x1A2B3C4D, major, minor, length), order)


def interface(link=1, snaplen=262144, options=b"", order="<"):
    return block(1, struct.pack(order + "HHI", link, 0, snaplen) + options, order)


def packet(frame, number=0, time=0, wire=None, kept=None, options=b"", order="<"):
    """An enhanced packet block; the lengths that it states may lie."""
    kept = len(frame) if kept is None else kept
    wire = len(frame) if wire is None else wire
    head = struct.pack(order + "IIIII", number & 0xFFFFFFFF, time >> 32 & 0xFFFFFFFF, time & 0xFFFFFFFF, kept, wire)
    return block(6, head + frame + bytes(-len(frame) % 4) + options, order)


def pcap(records, link=1, snaplen=262144, order="<", nanos=False, magic=None, version=(2, 4)):
    """A classic file of (seconds, fraction, frame) or (seconds, fraction, frame, kept, wire)."""
    magic = magic or (0xA1B23C4D if nanos else 0xA1B2C3D4)
    out = [struct.pack(order + "IHHiIII", magic, *version, 0, 0, snaplen, link)]
    extra = bytes(8) if magic == 0xA1B2CD34 else b""
    for seconds, fraction, frame, *lengths in records:
        kept, wire = lengths or (len(frame), len(frame))
        out.append(struct.pack(order + "IIII", seconds & 0xFFFFFFFF, fraction & 0xFFFFFFFF, kept, wire) + extra + frame)
    return b"".join(out)


def pcapng(taken, order="<", link=1, resolution=9):
    """A clean file of (interface, nanoseconds, wire length, bytes)."""
    n_interfaces = 1 + max((number for number, *_ in taken), default=0)
    options = option(9, bytes([resolution]), order) + option(0, b"", order)
    out = [section(order), *(interface(link, options=options, order=order) for _ in range(n_interfaces))]
    for number, time, wire, frame in taken:
        out.append(packet(frame, number, time, max(wire, len(frame)), order=order))
    return b"".join(out)
