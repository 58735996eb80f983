"""A cluster, and the program that looks at it.

In: the command line. Out: runs of the program and what they gave; what is left behind on nodes and in the API. Judges
nothing.
"""

import contextlib
import difflib
import http.client
import json
import os
import re
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from clusterlib import binaries, control, images
from lablib import topology as t

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPTS = ROOT / "scripts"
IMAGE = "localhost/trace-drop-agent:latest"
STATIC = ROOT / "target" / "static" / "trace-drop"
LABEL = "app.kubernetes.io%2Fname%3Dtrace-drop"
# How the program comes to the nodes.
HOW = {"image": ["--agent-image", IMAGE], "upload": ["--agent-binary", str(STATIC)]}
PING = ["--probe", "icmp", "--probe-count", "5", "--probe-interval", "50ms"]


class Bench:
    def __init__(self, words):
        self.words, self.program = words, words.program
        self.name = words.use or f"s{os.getpid() % 10000}"
        self.place = control.Place(self.name)
        self.topology = t.Topology(self.name, 3, 2)
        self.nodes = [node.name for node in self.topology.nodes]
        self.kept = contextlib.ExitStack()

    def __enter__(self):
        try:
            self.up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def up(self):
        for file, maker in ((STATIC, "scripts/static --debug"), (ROOT / "target" / "trace-drop-agent.tar", "scripts/image")):
            if not file.exists():
                raise SystemExit(f"cluster-tests: {file} is missing; {maker} makes it, `scripts/test --cluster` makes all")
        self.folder = Path(self.kept.enter_context(tempfile.TemporaryDirectory(prefix="trace-drop-suite-")))
        if not self.words.use:
            self.cluster("up", "--nodes", "3", "--pods", "2")
        self.cluster("image", str(ROOT / "target" / "trace-drop-agent.tar"))
        self.api = self.place.api()
        (self.folder / "tmp").mkdir()
        self.env = {**os.environ, "KUBECONFIG": str(self.place.kubeconfig), "TMPDIR": str(self.folder / "tmp"), "NO_COLOR": "1",
                    "PATH": f"{binaries.folder()}:{os.environ['PATH']}"}
        self.file = self.folder / "cluster.yaml"
        self.file.write_text(self.lab("cluster"))
        self.watch = Watch(self.place)
        self.clean = self.state()

    def __exit__(self, *_):
        if not self.words.use:
            self.cluster("down")
        self.kept.close()

    def cluster(self, *words, name=None):
        return script("cluster", name or self.name, *words)

    def lab(self, *words):
        return script("lab", self.name, *words)

    def run(self, *words, **more):
        """The program, as a user with a kubeconfig runs it; `more` is environment."""
        done = subprocess.run([self.program, *words], capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
                              env={**self.env, **more})
        return Done(done.returncode, done.stdout, done.stderr)

    def trace(self, source, to, *words, how="image", **more):
        return self.run("--from", source, "--to", to, "-o", "json", *HOW[how], *words, **more)

    def by_file(self, source, to, *words):
        """The same without the API server: from the cluster's file, by a command that enters the nodes."""
        return self.run("--cluster", str(self.file), "--reach", "ip netns exec {node}", "--from", source, "--to", to, "-o", "json", *words,
                        KUBECONFIG="/nonexistent")

    def start(self, *words, **more):
        return Running([self.program, *words], {**self.env, **more})

    def kubectl(self, *words, text=None):
        done = subprocess.run([binaries.program("kubectl"), *words], input=text, capture_output=True, text=True, timeout=60, env=self.env)
        if done.returncode != 0:
            raise RuntimeError(f"kubectl {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    def user(self, name):
        """A kubeconfig of a user whom nothing was granted."""
        path = self.folder / f"{name}.kubeconfig"
        self.place.authority.client(f"user-{name}", name)
        self.place.authority.kubeconfig(path, self.place.server, f"user-{name}")
        return path

    def fault(self, name):
        return Fault(self, name)

    def settle(self):
        """Forgets connections and path MTUs that a fault has left."""
        for netns in self.topology.namespaces:
            subprocess.run(["ip", "netns", "exec", netns, "sh", "-c", "conntrack -F; ip route flush cache; ip -6 route flush cache"],
                           capture_output=True, check=False)

    def agents(self):
        return [f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
                for pod in self.api.ask("GET", f"/api/v1/pods?labelSelector={LABEL}")["items"]]

    def processes(self):
        """Of the program: on the nodes, in their pods, and what this suite's clients have started."""
        inside = {os.stat(f"/run/netns/{name}").st_ino for name in self.topology.namespaces if Path(f"/run/netns/{name}").exists()}
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if Path(os.readlink(folder / "exe").removesuffix(" (deleted)")).name != "trace-drop":
                    continue
                ours = str(self.folder).encode() in (folder / "environ").read_bytes()
                if ours or os.stat(folder / "ns" / "net").st_ino in inside:
                    found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip())
            except OSError:
                continue
        return found

    def state(self):
        """Rules, queues and programs of all nodes and pods, without counters."""
        commands = ["iptables-save", "ip6tables-save", "nft -s list ruleset", "tc qdisc show", "ip -o link show", "ls /sys/fs/bpf"]
        script = "; ".join(f"echo '= {command}'; {command}" for command in commands)
        texts = {}
        for netns in self.topology.namespaces:
            done = subprocess.run(["ip", "netns", "exec", netns, "sh", "-c", script], capture_output=True, text=True, check=False)
            # Without counters, the time in comments, and numbers of interfaces: some faults make a device anew.
            lines = [re.sub(r"\[\d+:\d+\]|^\d+: ", "", line) for line in done.stdout.splitlines() if not line.startswith("#")]
            texts[netns] = sorted(lines)
        return texts

    def left(self, seconds=60, files=True):
        """What is left after so long; nothing is an empty text. Gives the seconds that it took, too."""
        begun = time.monotonic()
        while True:
            try:
                wrong = [f"pod {pod}" for pod in self.agents()] + [f"process {line}" for line in self.processes()]
            except (OSError, http.client.HTTPException) as error:
                wrong = [f"the API server: {error}"]
            wrong = wrong or files * [f"file {path.name}" for path in (self.folder / "tmp").iterdir()]
            if not wrong:
                wrong = [f"{netns}: {self.difference(netns, text)}" for netns, text in self.state().items() if text != self.clean[netns]]
            if not wrong or time.monotonic() - begun > seconds:
                return "; ".join(wrong), time.monotonic() - begun
            time.sleep(0.3)

    def difference(self, netns, text):
        lines = difflib.unified_diff(self.clean[netns], text, n=0, lineterm="")
        return " ⏎ ".join(line for line in lines if not line.startswith(("---", "+++", "@@")))[:300]

    def node_is(self, node, ready, seconds=60):
        def condition():
            found = self.api.ask("GET", f"/api/v1/nodes/{node}")["status"]["conditions"]
            return any(one["type"] == "Ready" and (one["status"] == "True") == ready for one in found)

        self.api.wait(f"{node} to be {'Ready' if ready else 'NotReady'}", seconds, condition, "see the kubelet's log")


class Done:
    """How a run ended."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err
        try:
            self.report = json.loads(out)
        except ValueError:
            self.report = None

    @property
    def outcome(self):
        return self.report.get("verdict", {}).get("outcome", "no verdict") if self.report else "no report"

    @property
    def warnings(self):
        return [line for line in self.err.splitlines() if line.startswith("warning:")]

    def __str__(self):
        return f"exit {self.code}, {self.outcome}: {' | '.join(self.err.strip().splitlines())[:600]}"


class Running:
    """The program while it runs: each line of its stderr with its time."""

    def __init__(self, command, env):
        self.begun = time.monotonic()
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
        self.lines, self.news = [], threading.Condition()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stderr:
            with self.news:
                self.lines.append((time.monotonic() - self.begun, line.rstrip("\n")))
                self.news.notify_all()
        with self.news:
            self.lines.append((time.monotonic() - self.begun, None))
            self.news.notify_all()

    def until(self, beginning, seconds=60):
        """When a line that begins so came."""
        def found():
            return next((when for when, line in self.lines if line is None or line.startswith(beginning)), None)

        with self.news:
            if not self.news.wait_for(lambda: found() is not None, seconds):
                raise RuntimeError(f"no line '{beginning}' in {seconds} s: {self.lines}")
            if not any(line is not None and line.startswith(beginning) for _, line in self.lines):
                raise RuntimeError(f"it ended without a line '{beginning}': {self.lines}")
            return found()

    def end(self, seconds=90):
        out = self.process.stdout.read()
        code = self.process.wait(timeout=seconds)
        self.until_end()
        return Done(code, out, "".join(f"{line}\n" for _, line in self.lines if line is not None))

    def until_end(self):
        with self.news:
            self.news.wait_for(lambda: self.lines and self.lines[-1][1] is None, 10)

    def kill(self):
        self.process.kill()
        self.process.stdout.close()
        self.process.wait()


class Fault:
    def __init__(self, bench, name):
        self.bench, self.name = bench, name

    def __enter__(self):
        self.bench.lab("fault", "apply", self.name)

    def __exit__(self, *_):
        self.bench.lab("fault", "clear")
        self.bench.settle()


class Watch:
    """Agents' pods as they come and go: when, what happened, name, whether it runs."""

    def __init__(self, place):
        self.place, self.events, self.news = place, [], threading.Condition()
        threading.Thread(target=self.forever, daemon=True).start()
        self.begun = threading.Event()
        self.begun.wait(10)

    def forever(self):
        while self.place.folder.exists():
            try:
                self.once()
            except (OSError, http.client.HTTPException, ValueError):
                time.sleep(0.2)

    def once(self):
        api = self.place.api(timeout=600)
        connection = http.client.HTTPSConnection(api.host, api.port, timeout=600, context=api.context)
        connection.request("GET", f"/api/v1/pods?watch=1&labelSelector={LABEL}")
        answer = connection.getresponse()
        self.begun.set()
        while line := answer.readline():
            event = json.loads(line)
            if event["type"] == "ERROR":
                return
            pod = event["object"]
            runs = any("running" in one["state"] for one in pod.get("status", {}).get("containerStatuses", []))
            with self.news:
                self.events.append((time.monotonic(), event["type"], pod.get("metadata", {}).get("name"), runs))
                self.news.notify_all()

    def since(self, begun):
        with self.news:
            return [event for event in self.events if event[0] >= begun]

    def until(self, begun, what, seconds=30):
        """Waits for an event after `begun` that `what` takes."""
        with self.news:
            self.news.wait_for(lambda: any(what(event) for event in self.events if event[0] >= begun), seconds)


def script(program, name, *words):
    done = subprocess.run([str(SCRIPTS / program), "--name", name, *words], capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        raise RuntimeError(f"{program} {' '.join(words)}: {done.stderr.strip()[-500:]}")
    return done.stdout


def image(bench, name, program):
    """Gives all nodes an image in which `trace-drop` is another program."""
    tree = images.Tree().take(str(program), "/usr/bin/trace-drop")
    tree.programs(images.SHELL)
    path = bench.folder / "image.tar"
    images.archive(tree, path, name, ["/usr/bin/trace-drop"])
    bench.cluster("image", str(path))
