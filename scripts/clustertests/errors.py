"""Every error that an operator may meet, as text.

In: a bench; tests/cluster/*.txt. What differs from run to run (names of the lab, hashes, addresses of the server, times)
is replaced before it is compared; `--accept` writes the texts anew.
"""

import difflib
import re
import struct
import time

from . import bench as b
from .bench import HOW, PING, ROOT
from .endpoints import CLIENT, SERVER

TEXTS = ROOT / "tests" / "cluster"
IMAGE = HOW["image"]
WIRE = ROOT / "src" / "gather" / "agent" / "wire.rs"


def run(bench):
    pair = ["--from", CLIENT, "--to", SERVER]
    nobody = str(bench.user("nobody"))
    cases = [
        ("no_such_pod", ["--from", "default/clinet", "--to", SERVER], {}),
        ("no_such_deployment", ["--from", "deploy/nothing", "--to", SERVER], {}),
        ("no_such_node", ["--from", CLIENT, "--to", f"node/{bench.nodes[0]}0"], {}),
        ("no_such_service", ["--from", CLIENT, "--to", "svc/servr-svc"], {}),
        ("service_without_endpoints", ["--from", CLIENT, "--to", "svc/empty-svc"], {}),
        ("service_without_port", ["--from", CLIENT, "--to", "svc/server-svc:99"], {}),
        ("forbidden", pair, {"KUBECONFIG": nobody}),
        ("image_never_pulled", [*pair, "--agent-image", "localhost/none:1", "--agent-pull-policy", "Never"], {}),
        ("image_not_pulled", [*pair, "--agent-image", "localhost:1/none:1"], {}),
        ("image_name_wrong", [*pair, "--agent-image", "No:Name:1"], {}),
        ("no_cluster", pair, {"KUBECONFIG": "", "HOME": "/nonexistent"}),
        ("no_such_kubeconfig", [*pair, "--kubeconfig", "/nonexistent/kubeconfig"], {}),
        ("no_such_context", [*pair, "--context", "elsewhere"], {}),
        ("server_unreachable", pair, {"KUBECONFIG": str(elsewhere(bench))}),
        ("program_dynamic", pair, {}),
        ("program_missing", [*pair, "--agent-binary", "/nonexistent/trace-drop"], {}),
        ("no_such_namespace", [*pair, *IMAGE, "--agent-namespace", "nowhere"], {}),
        ("dry_run", [*pair, *IMAGE, "--agent-pull-secret", "registry", "--dry-run"], {}),
        ("dry_run_upload", [*pair, *HOW["upload"], "--no-pods", "--no-kernel", "--dry-run"], {}),
        ("dry_run_forbidden", [*pair, *IMAGE, "--dry-run", "--as", "nobody"], {}),
        ("rbac", ["rbac", "--subject", "group:operators"], {}),
        ("rbac_no_agents", ["rbac", "--subject", "serviceaccount:ops:tracer", "--no-agents"], {}),
    ]
    for name, words, env in cases:
        yield name, golden(bench, name, words, bench.run(*words, **env))
    yield "pod_security", pod_security(bench, [*pair, *IMAGE])
    yield "version_mismatch", version_mismatch(bench, pair)
    yield "not_an_agent", stranger(bench, pair)
    yield "stream_lost", stream_lost(bench, [*pair, *IMAGE])
    yield from cleanup(bench)
    yield "nothing is left after all these", bench.left()[0]


def golden(bench, name, words, done):
    """What differs from the text that was accepted."""
    text = normal(bench, f"$ trace-drop {' '.join(words)}\nexit {done.code}\n--- stdout\n{done.out}--- stderr\n{done.err}")
    file = TEXTS / f"{name}.txt"
    if bench.words.accept:
        file.write_text(text)
    was = file.read_text() if file.exists() else ""
    return " ⏎ ".join(line for line in difflib.unified_diff(was.splitlines(), text.splitlines(), "accepted", "now", n=0, lineterm=""))


def normal(bench, text):
    size = str(b.STATIC.stat().st_size)
    for what, name in ((bench.place.server, "https://SERVER"), (f"{bench.name}-worker", "worker"), (str(bench.folder), "FOLDER"),
                       (bench.program, "PROGRAM"), (str(ROOT), "ROOT"), (f"head -c {size} ", "head -c SIZE "), (f"bs={size} ", "bs=SIZE ")):
        text = text.replace(what, name)
    for what, name in ((r"trace-drop-[0-9a-f]{8}-\d+", "trace-drop-RUN"), (r"trace-drop/run: \S+", "trace-drop/run: RUN"),
                       (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UID"), (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[.\d]*Z", "TIME"),
                       (r"(\[::1\]|127\.0\.0\.1):\d+", "LOOPBACK"), (r"within [\d.]+ s", "within N s"),
                       (r"protocol \d+, this one is trace-drop \S+ and speaks \d+", "protocol N, this one is trace-drop VERSION and speaks M")):
        text = re.sub(what, name, text)
    # Both nodes fail alike, and either may be the first to say so.
    return re.sub(r"(?m)^(?:(?:warning: |  (?:cannot|lost)).*\n)+", lambda lines: "".join(sorted(lines[0].splitlines(keepends=True))), text)


def elsewhere(bench):
    path = bench.folder / "elsewhere.kubeconfig"
    path.write_text(bench.place.kubeconfig.read_text().replace(bench.place.server, "https://127.0.0.1:1"))
    return path


def pod_security(bench, words):
    bench.api.ask("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {
        "name": "strict", "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}})
    try:
        words = [*words, "--agent-namespace", "strict"]
        return golden(bench, "pod_security", words, bench.run(*words))
    finally:
        bench.api.ask("DELETE", "/api/v1/namespaces/strict")


def version_mismatch(bench, pair):
    """An agent of another release: the greeting with the next number."""
    version = int(re.search(r"const VERSION: u16 = (\d+);", WIRE.read_text())[1])
    greeting = b"\x02td-wire" + struct.pack("<HH", version + 1, 5) + b"9.9.9"
    return impostor(bench, "version_mismatch", pair, "printf '" + "".join(f"\\{byte:03o}" for byte in greeting) + "'")


def stranger(bench, pair):
    return impostor(bench, "not_an_agent", pair, "echo 'Welcome to this image.'; echo 'no such program' >&2; exit 3")


def impostor(bench, name, pair, words):
    """An image in which trace-drop is a script."""
    program = bench.folder / "impostor"
    # What is printed before somebody is attached is lost: an agent waits for a greeting too.
    program.write_text(f"#!/bin/sh\nhead -c 1 >/dev/null\n{words}\nsleep 30\n")
    program.chmod(0o755)
    tag = f"localhost/{name.replace('_', '-')}:1"
    b.image(bench, tag, program)
    words = [*pair, "--agent-image", tag]
    return golden(bench, name, words, bench.run(*words))


def stream_lost(bench, words):
    """Somebody deletes a node's agent while it captures: the other node's points are still reported."""
    running = bench.start(*words, "--duration", "60s", "-o", "json")
    running.until("capturing on")
    pods = bench.api.ask("GET", f"/api/v1/pods?labelSelector={b.LABEL}")["items"]
    begun = time.monotonic()
    # Those of the run before may be ending still.
    on_two = next(pod["metadata"] for pod in pods if pod["spec"]["nodeName"] == bench.nodes[1] and "deletionTimestamp" not in pod["metadata"]
                  and pod["status"]["phase"] == "Running")
    bench.api.ask("DELETE", f"/api/v1/namespaces/kube-system/pods/{on_two['name']}", {"gracePeriodSeconds": 0})
    running.until("warning: lost node")
    lost = time.monotonic() - begun
    running.process.terminate()
    done = running.end()
    wrong = golden(bench, "stream_lost", [*words, "--duration", "60s"], b.Done(done.code, "", done.err))
    if not done.report or {point["node"] for point in done.report["points"]} < {bench.nodes[0]} or lost > 15:
        wrong += f" {done}, lost after {lost:.1f} s"
    return wrong


def cleanup(bench):
    yield "nothing is left before a cleanup", bench.left()[0]
    yield "cleanup_none", golden(bench, "cleanup_none", ["cleanup"], bench.run("cleanup"))
    labels = {"app.kubernetes.io/name": "trace-drop", "app.kubernetes.io/component": "agent"}
    for name, command in (("left-1", "true"), ("left-2", "sleep 300")):
        bench.api.ask("POST", "/api/v1/namespaces/kube-system/pods", {
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels},
            "spec": {"nodeName": bench.nodes[0], "hostNetwork": True, "restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
                     "automountServiceAccountToken": False, "tolerations": [{"operator": "Exists"}],
                     "containers": [{"name": "agent", "image": "localhost/calico-node:lab", "imagePullPolicy": "Never", "command": ["sh", "-c", command]}]}})

    def phases():
        return [bench.api.ask("GET", f"/api/v1/namespaces/kube-system/pods/left-{one}")["status"]["phase"] for one in (1, 2)] == ["Succeeded", "Running"]

    bench.api.wait("pods that are left", 30, phases, "see their events")
    for name, words in (("cleanup_dry_run", ["cleanup", "--dry-run"]), ("cleanup_left", ["cleanup"]), ("cleanup_all", ["cleanup", "--all"])):
        yield name, golden(bench, name, words, bench.run(*words))
        time.sleep(1)
