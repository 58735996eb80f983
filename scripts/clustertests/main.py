"""The suite's command line.

In: the built program, target/static/trace-drop and the agent's image; scripts/test makes them. Out: a line a check, a sum;
ends with 1 if any check failed. Makes a cluster of its own and takes it down again.
"""

import argparse
import os
import signal
import sys
import time
import traceback

from . import access, addresses, bench, endings, endpoints, errors, faults, plugin, rights, times, watching

# In this order: a node is stopped before the endpoints, because it takes 20 s to be called NotReady.
PARTS = {"faults": faults.run, "endpoints": endpoints.run, "access": access.run, "rights": rights.run, "errors": errors.run,
         "plugin": plugin.run, "watching": watching.run, "addresses": addresses.run, "endings": endings.run}


def main():
    words = argparse.ArgumentParser(prog="cluster-tests", description=__doc__.split("\n")[0])
    words.add_argument("--program", default=str(bench.ROOT / "target" / "debug" / "trace-drop"))
    words.add_argument("--only", action="append", choices=PARTS, help="these parts alone")
    words.add_argument("--times", action="store_true", help="measure instead: what a trace spends its seconds on")
    words.add_argument("--runs", type=int, default=5, help="with --times")
    words.add_argument("--use", metavar="NAME", help="a cluster that is up, which stays up")
    words.add_argument("--accept", action="store_true", help="write the texts in tests/cluster anew")
    words = words.parse_args()
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    # Ended by somebody, it still takes its cluster down.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    begun, failed, total = time.monotonic(), 0, 0
    with bench.Bench(words) as one:
        print(f"the cluster is up after {time.monotonic() - begun:.0f} s", flush=True)
        if words.times:
            return times.table(one, words.runs)
        for part in words.only or PARTS:
            for name, wrong in guarded(PARTS[part], one):
                total += 1
                failed += bool(wrong)
                print(f"{'FAIL' if wrong else 'ok  '} {time.monotonic() - begun:5.0f} s  {part:9} {name}  {wrong}".rstrip(), flush=True)
    print(f"{total - failed} passed, {failed} failed, {time.monotonic() - begun:.0f} s")
    return 1 if failed or not total else 0


def guarded(part, one):
    """A part that breaks is one more failure; the others go on."""
    try:
        yield from part(one)
    except (Exception, SystemExit) as error:  # noqa: BLE001: told, and counted
        yield "the part could not go on", f"{error!r} at {traceback.extract_tb(error.__traceback__)[-1]}"


if __name__ == "__main__":
    sys.exit(main())
