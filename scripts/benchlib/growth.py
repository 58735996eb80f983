"""How the cost of a replay grows. Each other capture is replayed in turn with the first one, and compared with it alone.

In: packets at each point. Out: a table of the time for a packet at a point, relative to the first capture's.
"""

import shutil
import statistics
import sys

from . import data

FIRST = {"points": 3, "flows": 5_000, "loss": 50}
OTHERS = [
    ("twice as many packets", {"times": 2}),
    ("6 points", {"points": 6}),
    ("100 flows", {"flows": 100}),
    ("100,000 flows", {"flows": 100_000}),
    ("1,000,000 flows", {"flows": 1_000_000}),
    ("no loss", {"loss": 0}),
    ("1 % loss", {"loss": 100}),
    ("10 % loss", {"loss": 1_000}),
]


def main(words, packets, folder):
    first = data.Data(folder / "first", packets, small=words.small_packets, **FIRST)
    failed, ratios = False, {}
    print(f"{first}; medians of {words.runs}\n")
    print("| capture | packets | time a packet | CPU a packet | peak MiB |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for number, (name, change) in enumerate(OTHERS):
        change = dict(change)
        times = change.pop("times", 1)
        other = data.Data(folder / f"other-{number}", packets * times, small=words.small_packets, **{**FIRST, **change})
        runs = {}
        for _ in range(words.runs):
            for made in (first, other):
                seconds, cpu, memory = data.run(made.replay(), made.folder)
                runs.setdefault(made, []).append((seconds / made.packets, cpu / made.packets, memory))
                if wrong := made.wrong():
                    print(f"WRONG: {made}: {wrong}", file=sys.stderr)
                    failed = True

        def ratio(column):
            one, another = (statistics.median(run[column] for run in runs[made]) for made in (first, other))
            return another / one

        peak = [max(memory for _, _, memory in runs[made]) for made in (first, other)]
        if number == 0:
            print(f"| the first | {first.packets:,} | 1.00 | 1.00 | {peak[0]:.0f} |")
        ratios[name] = (ratio(0), ratio(1), peak[1])
        print(f"| {name} | {other.packets:,} | {ratio(0):.2f} | {ratio(1):.2f} | {peak[1]:.0f} |", flush=True)
        shutil.rmtree(other.folder)
    print(f"\nMeasured on {data.machine()}.\n")
    for what, measured, most in [
        ("twice as long: time a packet", ratios["twice as many packets"][0], 1.1),
        ("6 points for 3: time a packet at a point", ratios["6 points"][0], 1.1),
        ("from 100 to 1,000,000 flows", ratios["1,000,000 flows"][0] / ratios["100 flows"][0], 1.3),
        ("from no loss to 10 %", ratios["10 % loss"][0] / ratios["no loss"][0], 1.5),
        ("peak MiB when twice as long", ratios["twice as many packets"][2], 100),
        ("peak MiB with 6 points", ratios["6 points"][2], 200),
    ]:
        print(f"- {what}: {measured:.3g}, target at most {most:.3g}: {'met' if measured <= most else 'NOT MET'}")
    return 1 if failed else 0
