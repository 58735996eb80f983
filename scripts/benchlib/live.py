"""Capturing beside tcpdump, in the lab: the same interfaces of both nodes, snap length and buffer, and the same sender.

In: a lab of its own, as root. Out: for each rate, what was sent, what the captures lost, and their CPU time: that of what
runs on the nodes (agents, or tcpdump) and that of the tracing machine. Leaves no lab behind.
"""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from . import data

LAB = str(data.ROOT / "scripts" / "lab")
SNAPLEN, BUFFER = 128, 32
SECONDS = 40
SIZE = 1_400
NOTHING, ALL = 0, -1
RATES = [NOTHING, 30_000, 70_000, ALL]
SENDER = f"""
import socket, sys, time
rate, address = int(sys.argv[1]), sys.argv[2]
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect((address, 5999))
data, sent, start = b"x" * {SIZE}, 0, time.monotonic()
while (now := time.monotonic() - start) < {SECONDS}:
    for _ in range(min(64, int(now * rate) - sent) if rate > 0 else 64):
        try:
            s.send(sent.to_bytes(8, "big") + data[8:])
        except OSError:
            pass
        sent += 1
    if rate > 0 and sent >= now * rate:
        time.sleep(0.0005)
print(sent)
"""


def main(_words):
    name = f"b{os.getpid() % 10000}"
    lab = [LAB, "--name", name]
    print(f"Snap length {SNAPLEN}, {BUFFER} MiB of buffer a point, UDP of {SIZE} bytes for {SECONDS} s.\n")
    print("| to send a second | program | sent a second | frames captured | lost by the captures | CPU s on the nodes | elsewhere |")
    print("| ---: | --- | ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory(prefix="trace-drop-bench-") as folder:
        folder = Path(folder)
        try:
            subprocess.run([*lab, "up", "-q"], check=True)
            cluster = folder / "cluster.yaml"
            cluster.write_bytes(subprocess.run([*lab, "cluster"], check=True, capture_output=True).stdout)
            for rate in RATES:
                points = ours(name, cluster, rate, folder)
                tcpdump(name, points, rate, folder)
        finally:
            subprocess.run([*lab, "down"], check=False)
    print(f"\nMeasured on {data.machine()}.")
    return 0


def timed(folder, command):
    """Runs a command with this process's streams; leaves the CPU seconds of the command, and of this process, in the folder."""
    code = subprocess.run(command, check=False).returncode
    theirs, own = (resource.getrusage(who) for who in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF))
    seconds = [usage.ru_utime + usage.ru_stime for usage in (theirs, own)]
    (Path(folder) / f"cpu-{os.getpid()}").write_text(json.dumps(seconds))
    return code


def send(name, rate):
    """How many datagrams were sent from the client to the server."""
    if rate == NOTHING:
        time.sleep(SECONDS)
        return 0
    status = json.loads(subprocess.run([LAB, "--name", name, "status"], check=True, capture_output=True).stdout)
    command = ["ip", "netns", "exec", status["pods"]["default/client"], sys.executable, "-c", SENDER, str(rate), "10.244.2.2"]
    return int(subprocess.run(command, check=True, capture_output=True).stdout)


def ours(name, cluster, rate, folder):
    """One line of trace-drop; gives its points."""
    spent = folder / f"cpu-{rate}"
    spent.mkdir()
    # A process around each agent tells what it spent.
    reach = f"{sys.executable} {data.ROOT / 'scripts' / 'bench'} --timed {spent} ip netns exec {{node}}"
    command = [str(data.RELEASE / "trace-drop"), "--cluster", str(cluster), "--reach", reach,
               "--from", "default/client", "--to", "default/server", "--duration", f"{SECONDS + 3}s", "--no-pods",
               "--snaplen", str(SNAPLEN), "--buffer", str(BUFFER), "-o", "json", "-q", "--save", str(folder / f"case-{rate}")]
    with open(folder / "report", "wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL)
        time.sleep(2)
        sent = send(name, rate)
        _, _, usage = os.wait4(process.pid, 0)
    points = json.loads((folder / "report").read_text())["points"]
    dropped, frames = sum(point["capture_dropped"] for point in points), sum(point["packets"] for point in points)
    agents = [json.loads(file.read_text()) for file in spent.iterdir()]
    on_nodes = sum(theirs for theirs, _ in agents)
    line(rate, f"trace-drop, {len(points)} points", sent, frames, dropped, on_nodes,
         usage.ru_utime + usage.ru_stime - sum(map(sum, agents)))
    return points


def tcpdump(name, points, rate, folder):
    processes = []
    for number, point in enumerate(points):
        command = ["ip", "netns", "exec", point["node"], "tcpdump", "-i", point["interface"], "-s", str(SNAPLEN), "-B", str(BUFFER * 1024),
                   "-w", str(folder / f"{number}.pcap")]
        processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True))
    time.sleep(2)
    sent = send(name, rate)
    time.sleep(1)
    dropped = frames = user = system = 0
    for process in processes:
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        _, _, usage = os.wait4(process.pid, 0)
        user, system = user + usage.ru_utime, system + usage.ru_stime
        frames += int(re.search(r"(\d+) packets? captured", said).group(1))
        dropped += int(re.search(r"(\d+) packets? dropped by kernel", said).group(1))
    line(rate, f"{len(points)} × tcpdump -w", sent, frames, dropped, user + system, 0)


def line(rate, program, sent, frames, dropped, on_nodes, elsewhere):
    asked = {NOTHING: "nothing", ALL: "as many as can be"}.get(rate, f"{rate:,}")
    print(f"| {asked} | {program} | {sent / SECONDS:,.0f} | {frames:,} | {dropped:,} | {on_nodes:.2f} | {elsewhere:.2f} |", flush=True)
