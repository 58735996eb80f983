"""Traffic from one pod to another. In: kind, addresses, count, interval. Out: {"sent", "answered"}. Bounded in time.

Run inside the sending pod's namespace: `python3 traffic.py KIND ADDRESS …` prints one JSON line.
"""

import argparse
import json
import socket
import subprocess
import sys
import time

DF_ALWAYS = 2  # IP_PMTUDISC_DO: the kernel then leaves the IP identification 0
PORTS = {"tcp": 8080, "tcp-bulk": 5201, "udp": 5000, "udp-burst": 5000, "udp-fragments": 5000, "udp-same": 5000,
         "service": 80, "overload": 5000}


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def ping(words, size, df):
    command = ["ping", "-n", "-q", "-i", str(words.interval), "-c", str(words.count), "-W", "1", "-s", str(size)]
    done = subprocess.run(command + (["-M", "do"] if df else []) + [words.address], capture_output=True, text=True)
    received = [line for line in done.stdout.splitlines() if "received" in line]
    return words.count, int(received[0].split(",")[1].split()[0]) if received else 0


def tcp(words, size=100):
    answered = 0
    for _ in range(words.count):
        with socket.socket(family(words.address), socket.SOCK_STREAM) as s:
            s.settimeout(1.5)
            try:
                s.connect((words.address, words.port))
                s.sendall(b"x" * size)
                answered += bool(s.recv(1))
            except OSError:
                pass
        time.sleep(words.interval)
    return words.count, answered


def bulk(words):
    total, sent = words.size or 20_000_000, 0
    with socket.socket(family(words.address), socket.SOCK_STREAM) as s:
        s.settimeout(5)
        try:
            s.connect((words.address, words.port))
            while sent < total:
                sent += s.send(b"b" * 65536)
            s.shutdown(socket.SHUT_WR)
            return 1, int(s.recv(4) == b"done")
        except OSError:
            return 1, 0


def udp(words, payload, pause, same=False):
    answered, started = 0, time.monotonic()
    with socket.socket(family(words.address), socket.SOCK_DGRAM) as s:
        if same and s.family == socket.AF_INET:
            s.setsockopt(socket.IPPROTO_IP, 10, DF_ALWAYS)
        s.setblocking(False)
        sent = 0
        for i in range(words.count):
            data = payload if same else i.to_bytes(8, "big") + payload[8:]
            try:
                s.sendto(data, (words.address, words.port))
                sent += 1
            except OSError:
                pass
            answered += drain(s)
            if pause:
                time.sleep(pause)
            if time.monotonic() - started > 20:
                break
        until = time.monotonic() + 1
        while answered < sent and time.monotonic() < until:
            answered += drain(s)
            time.sleep(0.01)
    return sent, answered


def drain(s):
    got = 0
    while True:
        try:
            s.recv(65535)
            got += 1
        except OSError:
            return got


KINDS = {
    "ping": lambda w: ping(w, w.size or 56, False),
    "ping-large": lambda w: ping(w, w.size or (1430 - (48 if ":" in w.address else 28)), True),
    "tcp": tcp,
    "tcp-bulk": bulk,
    "udp": lambda w: udp(w, b"u" * (w.size or 100), w.interval),
    "udp-burst": lambda w: udp(w, b"u" * (w.size or 200), 0),
    "udp-fragments": lambda w: udp(w, b"u" * (w.size or 8000), w.interval),
    "udp-same": lambda w: udp(w, b"s" * (w.size or 100), w.interval, same=True),
    "service": tcp,
    "overload": lambda w: udp(w, b"o" * (w.size or 64), 0),
}
COUNTS = {"udp-burst": 2000, "overload": 400_000, "udp-fragments": 20}


def main():
    words = argparse.ArgumentParser()
    words.add_argument("kind", choices=KINDS)
    words.add_argument("address")
    words.add_argument("--count", type=int)
    words.add_argument("--interval", type=float, default=0.02)
    words.add_argument("--port", type=int)
    words.add_argument("--size", type=int)
    words = words.parse_args()
    words.count = words.count or COUNTS.get(words.kind, 10)
    words.port = words.port or PORTS.get(words.kind, 0)
    sent, answered = KINDS[words.kind](words)
    print(json.dumps({"kind": words.kind, "to": words.address, "sent": sent, "answered": answered}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
