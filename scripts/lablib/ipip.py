"""IPIP between the nodes, for kernels that have no such device: a tun device and a raw socket.

In: the device, this node's address, and BLOCK=ADDRESS for every other node. Out: each packet that is routed to the device leaves in
one of IP protocol 4 to the node that has its block, and what comes in such packets from these nodes comes out of the device. The
packets on the NIC and on the device are those of `tunl0`; only the header is made here and not in the kernel. Run inside the node's
namespace; says `ready`.
"""

import fcntl
import ipaddress
import select
import socket
import struct
import sys

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 1, 0x1000
LARGEST = 65535


def main():
    device, local, *peers = sys.argv[1:]
    nodes = [(ipaddress.ip_network(block), address) for block, address in (peer.split("=") for peer in peers)]
    known = {address for _, address in nodes}
    tun = open("/dev/net/tun", "r+b", buffering=0)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", device.encode(), IFF_TUN | IFF_NO_PI))
    wire = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_IPIP)
    wire.bind((local, 0))
    print("ready", flush=True)
    while True:
        for ready in select.select([tun, wire], [], [])[0]:
            if ready is wire:
                packet, (sender, _) = wire.recvfrom(LARGEST)
                if sender in known:
                    write(tun, packet[(packet[0] & 15) * 4 :])
                continue
            packet = tun.read(LARGEST)
            if packet[0] >> 4 != 4:
                continue
            to = ipaddress.ip_address(packet[16:20])
            for block, address in nodes:
                if to in block:
                    try:
                        wire.sendto(packet, (address, 0))
                    except OSError:
                        pass  # As the kernel's: what cannot be sent is dropped.


def write(tun, packet):
    try:
        tun.write(packet)
    except OSError:
        pass


if __name__ == "__main__":
    main()
