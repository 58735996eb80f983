"""An XDP program that drops one EtherType, for a link of the own namespace; made of instructions, without a compiler.

In: the link's name, `ip` or `ipv6`. Out: the program, attached in generic mode; `ip link set dev LINK xdpgeneric off`
takes it off. Run inside the namespace: `python3 xdp.py LINK ip`.
"""

import ctypes
import os
import platform
import socket
import struct
import sys

BPF = {"x86_64": 321, "aarch64": 280}[platform.machine()]
PROG_LOAD, TYPE_XDP = 5, 6
DROP, PASS = 1, 2
GENERIC = 2  # XDP_FLAGS_SKB_MODE
ETHERTYPES = {"ip": 0x0800, "ipv6": 0x86DD}


def instruction(code, dst=0, src=0, offset=0, value=0):
    return struct.pack("<BBhi", code, src << 4 | dst, offset, value)


def program(ethertype):
    """if (data + 14 <= data_end && eth->h_proto == ethertype) return DROP; return PASS;"""
    return b"".join([
        instruction(0x61, 2, 1, 0), instruction(0x61, 3, 1, 4),
        instruction(0xBF, 4, 2), instruction(0x07, 4, 0, 0, 14),
        instruction(0x2D, 4, 3, 4),
        instruction(0x69, 5, 2, 12), instruction(0x55, 5, 0, 2, socket.htons(ethertype)),
        instruction(0xB7, 0, 0, 0, DROP), instruction(0x95),
        instruction(0xB7, 0, 0, 0, PASS), instruction(0x95)])


def load(code):
    text, licence, log = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(b"MIT"), ctypes.create_string_buffer(65536)
    wanted = struct.pack("<IIQQIIQI", TYPE_XDP, len(code) // 8, ctypes.addressof(text), ctypes.addressof(licence),
                         1, len(log), ctypes.addressof(log), 0).ljust(128, b"\0")
    asked = ctypes.create_string_buffer(wanted, len(wanted))
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.syscall(BPF, PROG_LOAD, asked, len(wanted))
    if fd < 0:
        raise SystemExit(f"bpf: {os.strerror(ctypes.get_errno())}\n{log.value.decode()}")
    return fd


def attach(link, fd):
    """RTM_SETLINK with IFLA_XDP {IFLA_XDP_FD, IFLA_XDP_FLAGS}."""
    nested = struct.pack("<HHiHHI", 8, 1, fd, 8, 3, GENERIC)
    body = struct.pack("<BxHiII", 0, 0, socket.if_nametoindex(link), 0, 0) + struct.pack("<HH", 4 + len(nested), 43 | 0x8000) + nested
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as s:
        s.sendall(struct.pack("<IHHII", 16 + len(body), 19, 5, 1, 0) + body)
        error = struct.unpack_from("<i", s.recv(4096), 16)[0]
    if error:
        raise SystemExit(f"xdp on {link}: {os.strerror(-error)}")


if __name__ == "__main__":
    attach(sys.argv[1], load(program(ETHERTYPES[sys.argv[2]])))
