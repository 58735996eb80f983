"""Traces without an end, and of all pairs, by agents in pods.

In: a bench. A loss ends the one, an interrupt the other; the third has one agent a node for all its pairs.
"""

from .bench import HOW, PING
from .endpoints import CLIENT, SERVER, Workloads

ENDLESS = ["--from", CLIENT, "--to", SERVER, *HOW["image"], "--probe", "icmp", "--probe-interval", "50ms", "-o", "json"]


def run(bench):
    yield "--until-loss: the first loss ends it, and a replay says the same", first_loss(bench)
    yield "--watch: a line a second, and a report when it is interrupted", watched(bench)
    with Workloads(bench):
        yield "--all-pairs: one agent a node", pairs(bench, 0, {"delivered"})
        with bench.fault("input_drop"):
            yield "--all-pairs with a fault on one node", pairs(bench, 1, {"dropped"})
    left, seconds = bench.left()
    yield f"nothing is left after {seconds:.0f} s", left


def first_loss(bench):
    case = bench.folder / "first.tgz"
    running = bench.start(*ENDLESS, "--until-loss", "--save", str(case))
    running.until("capturing on")
    with bench.fault("input_drop"):
        done = running.end()
    again = bench.run("replay", str(case), "-o", "json", KUBECONFIG="/nonexistent")
    place = [one.report and (one.report["verdict"].get("stage") or {}).get("kind") for one in (done, again)]
    case.unlink()
    good = (done.code, again.code, place) == (1, 1, ["decapsulate"] * 2) and "the first loss" in done.err
    return "" if good else f"{place} {done} / {again}"


def watched(bench):
    running = bench.start(*ENDLESS, "--watch")
    # The second line: whole seconds were counted.
    running.until("capturing on")
    with running.news:
        lines = running.news.wait_for(lambda: sum(" delivered, 0 lost" in (line or "") for _, line in running.lines) > 1, 20)
    running.process.terminate()
    done = running.end()
    return "" if lines and (done.code, done.outcome) == (0, "delivered") else str(done)


def pairs(bench, code, outcomes):
    begun = len(bench.watch.events)
    done = bench.trace("ds/shop/web", "ds/shop/web", *PING, "--all-pairs")
    reports = (done.report or {}).get("reports", [])
    found = {report["verdict"]["outcome"] for report in reports}
    made = {name for _, kind, name, _ in bench.watch.events[begun:] if kind == "ADDED"}
    good = done.code == code and found == outcomes and len(reports) == 2 and len(made) == 2
    return "" if good else f"{found} of {len(reports)} pairs, agents {made}: exit {done.code}: {done.err}"
