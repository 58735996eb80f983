"""Ends that nobody wished for: the client is killed, the API server restarts, a node is not ready.

In: a bench. Each time nothing may stay: no pod, no process, no rule, no file.
"""

import fcntl
import os
import subprocess
import time

from .bench import HOW, PING, Done
from .endpoints import CLIENT, SERVER
from .errors import golden

F_SETPIPE_SZ = 1031
TRACE = ["--from", CLIENT, "--to", SERVER, *HOW["image"], "-o", "json"]


def run(bench):
    # It takes 20 s until the node is called NotReady.
    bench.cluster("stop", bench.nodes[2])
    stopped = True
    try:
        for name, moment in (("right after its start", at_start), ("while a pod is made", at_creation), ("while capturing", capturing),
                             ("while stopping", stopping), ("while reporting", reporting)):
            wrong = moment(bench)
            # Before there is an agent nobody minds the client's own empty folder: the next start removes it.
            left, seconds = bench.left(files=moment is not at_start)
            yield f"killed {name}: nothing is left after {seconds:.0f} s", "; ".join(part for part in (wrong, left) if part)
        yield "interrupted while capturing: a report", interrupted(bench)
        yield "the API server restarts during a capture", api_restarts(bench)
        bench.node_is(bench.nodes[2], ready=False)
        yield from not_ready(bench)
        bench.cluster("start", bench.nodes[2])
        stopped = False
        bench.node_is(bench.nodes[2], ready=True)
        left, seconds = bench.left()
        yield f"nothing is left after {seconds:.0f} s", left
    finally:
        if stopped:
            bench.cluster("start", bench.nodes[2])


def at_start(bench):
    running = bench.start(*TRACE)
    time.sleep(0.05)
    running.kill()
    return ""


def at_creation(bench):
    begun = time.monotonic()
    running = bench.start(*TRACE)
    bench.watch.until(begun, lambda event: event[1] == "ADDED")
    running.kill()
    seen = [event for event in bench.watch.since(begun) if event[1] == "ADDED"]
    return "" if seen and not any(event[3] for event in bench.watch.since(begun) if event[0] < seen[0][0] + 0.01) else "no pod was seen being made"


def capturing(bench):
    running = bench.start(*TRACE, "--duration", "60s")
    running.until("capturing on")
    time.sleep(0.5)
    agents = len(bench.processes())
    running.kill()
    # Two agents, the client, and the one that minds the pods.
    return "" if agents >= 4 else f"{agents} processes while capturing: this test sees none of them"


def stopping(bench):
    running = bench.start(*TRACE, "--duration", "1s")
    running.until("stopping")
    running.kill()
    return ""


def reporting(bench):
    """A report that nobody reads, into a pipe of one page: it cannot end."""
    ours, theirs = os.pipe()
    fcntl.fcntl(theirs, F_SETPIPE_SZ, 4096)
    process = subprocess.Popen([bench.program, *TRACE, "-q", *PING], stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.DEVNULL, env=bench.env)
    os.close(theirs)
    begun = os.read(ours, 1)
    time.sleep(0.2)
    alive = process.poll() is None
    process.kill()
    process.wait()
    os.close(ours)
    return "" if begun == b"{" and alive else f"it was not reporting any more: {begun}, {process.returncode}"


def interrupted(bench):
    running = bench.start(*TRACE, "--duration", "60s")
    running.until("capturing on")
    bench.lab("traffic", "ping", "--count", "5", "--interval", "0.05")
    running.process.terminate()
    done = running.end()
    left, _ = bench.left()
    return left if done.code == 0 and done.outcome == "delivered" else str(done)


def api_restarts(bench):
    """Streams pass through it: all nodes are lost, what was seen until then is reported, and the pods go when it is back."""
    running = bench.start(*TRACE, "--duration", "60s")
    running.until("capturing on")
    bench.lab("traffic", "ping", "--count", "20", "--interval", "0.02")
    time.sleep(1)
    restarted = time.monotonic()
    bench.cluster("restart-api")
    done = running.end()
    seconds = time.monotonic() - restarted
    bench.api.close()
    wrong = [f"no word of {node}" for node in bench.nodes[:2] if f"warning: lost node {node}" not in done.err]
    wrong += [f"the report does not say it of {node}" for node in bench.nodes[:2] if node not in " ".join((done.report or {}).get("warnings", []))]
    if done.code not in (0, 3) or "no point captures any more" not in done.err or seconds > 40:
        wrong.append(f"{done}, after {seconds:.0f} s")
    left, _ = bench.left()
    return "; ".join([*wrong, left]).strip("; ")


def not_ready(bench):
    words = ["--from", CLIENT, "--to", "shop/web-3-0", *HOW["image"]]
    done = bench.run(*words, *PING, "-o", "json")
    nodes = {point["node"] for point in (done.report or {}).get("points", []) if point["packets"]}
    wrong = golden(bench, "node_not_ready", words, Done(done.code, "", done.err))
    # Its rules and tunnel go on without a kubelet: the answers are seen at the other node.
    if nodes != {bench.nodes[0]} or (done.code, done.outcome) != (0, "delivered"):
        wrong += f" {done}, packets on {nodes}"
    yield "a node that is not ready: the other one's points", wrong
    words = ["--from", "shop/web-3-0", "--to", "shop/web-3-1", *HOW["image"]]
    yield "both on a node that is not ready", golden(bench, "both_not_ready", words, bench.run(*words))
