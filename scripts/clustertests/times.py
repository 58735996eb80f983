"""What a trace by pod name spends its seconds on, as a table for docs/performance.md.

In: a bench, and how often. Out: medians on stdout. Times are taken from outside: the lines on stderr (`-v`), and the agents'
pods as a watch of the API sees them.
"""

import statistics
import time

from .bench import HOW, PING, STATIC
from .endpoints import CLIENT, SERVER

PHASES = ["objects read", "pods made", "pods run", "attached, sent, greeted", "points opened", "capturing, in all", "end of capture to report", "report to exit",
          "pods gone after the end of capture"]


def table(bench, runs):
    columns = {how: [] for how in HOW}
    for _ in range(runs):
        for how in HOW:
            columns[how].append(once(bench, how))
    print(f"medians of {runs}; the program that is sent has {STATIC.stat().st_size / 1e6:.0f} MB\n")
    print("| seconds | agent image | upload |\n| --- | ---: | ---: |")
    for number, phase in enumerate(PHASES):
        print(f"| {phase} | " + " | ".join(f"{statistics.median(run[number] for run in columns[how]):.2f}" for how in HOW) + " |")
    return 0


def once(bench, how):
    begun = time.monotonic()
    running = bench.start("--from", CLIENT, "--to", SERVER, *HOW[how], *PING, "-v")
    read = running.until("read of the cluster")
    capturing = running.until("capturing on")
    stopping = running.until("stopping")
    running.process.stdout.read(1)
    reported = time.monotonic() - begun
    running.end()
    ended = time.monotonic() - begun
    bench.left()
    answers = max(when for when, line in running.lines if line and line.startswith("node "))
    events = bench.watch.since(begun)
    made = max(when for when, kind, _, _ in events if kind == "ADDED") - begun
    run = {}
    for when, kind, name, runs in events:
        if runs:
            run.setdefault(name, when - begun)
    runs = max(run.values())
    gone = max(when for when, kind, _, _ in events if kind == "DELETED") - begun
    return [read, made - read, runs - made, answers - runs, capturing - answers, capturing, reported - stopping, ended - reported, gone - stopping]
