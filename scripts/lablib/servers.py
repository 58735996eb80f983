"""What runs in a pod: TCP echo, TCP sink, UDP echo; dual stack, one process a pod.

In: nothing but its namespace. Out: answers. Started by `lab up` inside the pod and ended by its recorded pid.
"""

import asyncio
import sys

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


if __name__ == "__main__":
    try:
        asyncio.run(serve())
    except KeyboardInterrupt:
        sys.exit(0)
