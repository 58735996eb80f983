"""The words of `scripts/bench`, and its first table: replay beside the tools that people use, on the same files, in turn.

Ends with 1 when a verdict is wrong. Whether a target is met is told, and changes nothing: machines are noisy.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from . import data, growth, live

SHARK = 200_000
FIELDS = "-e ip.src -e ip.dst -e ip.id -e ip.ttl -e tcp.seq -e tcp.ack -e udp.length -e icmp.seq".split()


def main():
    words = argparse.ArgumentParser(prog="bench", description="Measures trace-drop beside the tools that people use.")
    words.add_argument("--packets", type=int, help="at each point [default: about 1 GiB of frames at the NIC]")
    words.add_argument("--points", type=int, choices=(3, 6), default=3)
    words.add_argument("--flows", type=int, default=5_000)
    words.add_argument("--loss", type=int, default=50, help="of 10,000 packets")
    words.add_argument("--small-packets", action="store_true", help="64-byte packets instead of mixed sizes")
    words.add_argument("--runs", type=int, default=5)
    words.add_argument("--growth", action="store_true", help="how the cost grows with packets, points, flows and loss")
    words.add_argument("--live", action="store_true", help="capturing beside tcpdump, in the lab; as root")
    words.add_argument("--no-build", action="store_true", help="measure the release that is built")
    words.add_argument("--timed", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    words = words.parse_args()
    if words.timed:
        return live.timed(words.timed[0], words.timed[1:])
    if not words.no_build:
        data.build()
    if words.live:
        return live.main(words)
    packets = words.packets or (10_000_000 if words.small_packets else 2_600_000)
    with tempfile.TemporaryDirectory(prefix="trace-drop-bench-") as folder:
        if words.growth:
            return growth.main(words, packets, Path(folder))
        made = data.Data(Path(folder) / "data", packets, words.points, words.flows, words.loss, words.small_packets)
        print(made, file=sys.stderr)
        return compare(made, words.runs)


def compare(made, runs):
    files = " ".join(made.files)
    tools = {
        "cat > /dev/null": (["sh", "-c", f"cat {files} > /dev/null"], made.packets),
        "tcpdump -r -w /dev/null": (["sh", "-c", f"for f in {files}; do tcpdump -r $f -w /dev/null; done"], made.packets),
        "mergecap -w /dev/null": (["mergecap", "-w", "/dev/null", *made.files], made.packets),
        "capinfos -c": (["capinfos", "-c", *made.files], made.packets),
        f"tshark -T fields (first {SHARK:,})": (["tshark", "-r", "nic.pcap", "-c", str(SHARK), "-T", "fields", *FIELDS], SHARK),
        "trace-drop replay": (made.replay(), made.packets),
    }
    results, failed = {}, False
    # Into the page cache first.
    data.run(tools["cat > /dev/null"][0], made.folder)
    for turn in range(runs):
        for tool, (command, count) in tools.items():
            if "tshark" in tool and turn > 0:
                continue
            seconds, cpu, memory = data.run(command, made.folder)
            results.setdefault(tool, []).append((seconds / count, cpu / count, memory))
            if tool == "trace-drop replay" and (wrong := made.wrong()):
                print(f"WRONG: {wrong}", file=sys.stderr)
                failed = True
    table(results, made, runs)
    return 1 if failed else 0


def table(results, made, runs):
    def cost(tool):
        return statistics.median(seconds for seconds, _, _ in results[tool])

    base = cost("mergecap -w /dev/null")
    print(f"{made}; medians of {runs}; {data.machine()}\n")
    print("| program | seconds | million packets/s | time to mergecap's | CPU to mergecap's | peak MiB |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for tool, runs in results.items():
        seconds = statistics.median(seconds for seconds, _, _ in runs)
        cpu = statistics.median(cpu for _, cpu, _ in runs)
        other = statistics.median(cpu for _, cpu, _ in results["mergecap -w /dev/null"])
        count = SHARK if "tshark" in tool else made.packets
        peak = max(memory for _, _, memory in runs)
        print(f"| {tool} | {seconds * count:.2f} | {1e-6 / seconds:.2f} | {seconds / base:.2f} | {cpu / other:.2f} | {peak:.0f} |")
    replay, peak = cost("trace-drop replay"), max(memory for _, _, memory in results["trace-drop replay"])
    shark = next(tool for tool in results if "tshark" in tool)
    print()
    target("time to mergecap's", replay / base, 0.6 if made.small else 0.5)
    target("time a packet to tshark's", replay / cost(shark), 1 / 150)
    target("peak MiB", peak, 200 if made.points == 6 else 100)


def target(what, measured, most):
    print(f"- {what}: {measured:.3g}, target at most {most:.3g}: {'met' if measured <= most else 'NOT MET'}")
