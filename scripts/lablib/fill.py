"""Fills a node's connection table to its limit with entries that the kernel will not evict (assured ones).

In: nothing but its namespace. Out: a full table; `conntrack -F` empties it. The limit is one number for the whole
machine and cannot be changed in a namespace, but each namespace counts its own entries against it.
"""

import subprocess
from pathlib import Path

FOLDER = Path("/proc/sys/net/netfilter")


def number(name):
    return int((FOLDER / f"nf_conntrack_{name}").read_text())


def lines(wanted):
    for i in range(wanted):
        yield (f"-A -s 198.18.{i >> 16}.{i >> 8 & 255} -d 198.19.0.{i & 255} -p udp --sport 40000 --dport 40000 "
               "--timeout 600 --status ASSURED,SEEN_REPLY\n")


if __name__ == "__main__":
    # A few at a time fail once the table is full: that is what it is for.
    subprocess.run(["conntrack", "-R", "-"], input="".join(lines(number("max") - number("count") + 8)), text=True,
                   capture_output=True)
    if number("count") < number("max"):
        raise SystemExit(f"{number('count')} entries of {number('max')}")
