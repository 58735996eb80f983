"""Captures made to be measured, and one replay of them held against what truly happened.

In: how many packets, points, flows, what loss. Out: files in a folder, and the truth about them.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
RELEASE = ROOT / "target" / "release"
PLACES = ["worker-1/cali0", "worker-1/vxlan.calico", "worker-1/eth0", "worker-2/eth0", "worker-2/vxlan.calico", "worker-2/cali0"]
STAGES = ["forward", "encapsulate", "underlay", "decapsulate", "deliver"]


def build():
    subprocess.run(
        ["cargo", "build", "--quiet", "--locked", "--release", "--bin", "trace-drop", "--example", "make_capture"],
        check=True, cwd=ROOT,
    )


class Data:
    """Captures of one traffic in a folder."""

    def __init__(self, folder, packets, points=3, flows=5_000, loss=50, small=False):
        """`packets` at each point, `loss` of 10,000 packets."""
        folder.mkdir()
        self.folder, self.points, self.flows, self.loss, self.small = folder, points, flows, loss, small
        words = ["--packets", packets * points, "--points", points, "--flows", flows, "--loss", loss]
        command = [RELEASE / "examples" / "make_capture", folder, *words] + (["--small-packets"] if small else [])
        made = subprocess.run([str(word) for word in command], check=True, capture_output=True)
        self.truth = json.loads(made.stdout)
        self.files = self.truth["files"]
        seen, self.packets = self.truth["sent"], 0
        for lost in [*self.truth["lost"], 0]:
            self.packets += seen
            seen -= lost
        self.bytes = sum((folder / file).stat().st_size for file in self.files)

    def replay(self):
        """The command."""
        at = [word for place, file in zip(PLACES, self.files) for word in ("--at", f"{place}={file}")]
        ends = ["--from", "10.244.1.2", "--to", "10.244.2.2"]
        return [str(RELEASE / "trace-drop"), "replay", *at, *ends, "-o", "json", "-q"]

    def wrong(self):
        """What the last run said that is not so, if anything."""
        try:
            direction = json.loads((self.folder / "out").read_text())["directions"][0]
        except (ValueError, LookupError) as error:
            return f"no report: {error}"
        said = {stage["kind"]: stage["lost"] for stage in direction["stages"]}
        for kind, lost in zip(STAGES, self.truth["lost"]):
            # What vanished at the very end is not judged.
            if not 0 <= lost - said.get(kind, 0) <= direction["unjudged"]:
                return f"lost {said}, truly {self.truth['lost']}, {direction['unjudged']} unjudged"
        return None

    def __str__(self):
        kind = "64-byte packets" if self.small else "mixed sizes"
        return (
            f"{self.packets:,} packets at {self.points} points, {self.bytes / 2**30:.2f} GiB, {kind}, "
            f"{self.flows:,} flows, {self.loss / 100:g} % lost"
        )


def run(command, folder):
    """Seconds, seconds of CPU and peak MiB of a command; what it prints goes to `out` in the folder."""
    with open(folder / "out", "wb") as out:
        started = time.monotonic()
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL, cwd=folder)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
    # 3: nothing was lost, and behind the last point nobody knows.
    if os.waitstatus_to_exitcode(status) not in (0, 1, 3):
        print(f"FAILED: {command[0]}: {status}", file=sys.stderr)
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def machine():
    """What the numbers were measured on, in a line."""
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    load = os.getloadavg()[0]
    return f"{os.cpu_count()} cores ({model}), load {load:.1f} at the end"
