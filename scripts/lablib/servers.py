"""What runs in a pod: TCP echo, TCP sink, UDP echo; dual stack, one process a pod.

In: nothing but its namespace. Out: answers. Started by `lab up` inside the pod and ended by `lab down`. With the words
`slow-udp PORT` or `stuck-tcp PORT` it is a program that does not keep up, for the faults of full sockets.
"""

import asyncio
import socket
import sys
import time

TCP_ECHO = (80, 8080)
TCP_SINK = (5201,)
UDP_ECHO = (5000,)


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        self.transport.sendto(data[:64], address)


async def talk(reader, writer, answer):
    try:
        while data := await reader.read(1 << 16):
            if answer:
                writer.write(data[:4096])
                await writer.drain()
        if not answer:
            writer.write(b"done")
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def serve():
    loop = asyncio.get_running_loop()
    for ports, answer in ((TCP_ECHO, True), (TCP_SINK, False)):
        for port in ports:
            await asyncio.start_server(lambda r, w, a=answer: talk(r, w, a), ["0.0.0.0", "::"], port, backlog=128)
    for port in UDP_ECHO:
        await loop.create_datagram_endpoint(Echo, ("::", port))  # IPv4 too, mapped
    print("ready", flush=True)
    await asyncio.Event().wait()


def slow_udp(port):
    """Reads one datagram in 50 ms, with room for about two."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        s.bind(("::", port))
        while True:
            data, address = s.recvfrom(65535)
            s.sendto(data[:64], address)
            time.sleep(0.05)


def stuck_tcp(port):
    """Listens, and never accepts: one connection of its own fills the queue."""
    with socket.create_server(("::", port), family=socket.AF_INET6, backlog=0, dualstack_ipv6=True):
        with socket.create_connection(("::1", port)):
            time.sleep(600)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        {"slow-udp": slow_udp, "stuck-tcp": stuck_tcp}[sys.argv[1]](int(sys.argv[2]))
    try:
        asyncio.run(serve())
    except KeyboardInterrupt:
        sys.exit(0)
