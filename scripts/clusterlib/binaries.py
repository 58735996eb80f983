"""Builds kube-apiserver, kubelet, kube-controller-manager and kubectl from the Go module k8s.io/kubernetes.

In: a Go toolchain, the module proxy. Out: programs in ~/.cache/trace-drop/kubernetes/VERSION, outside of the repository.
Built once; a program that is there is not built again. Go's checksum database vouches for every module.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

# 1.35 is the last minor that works with Debian's containerd (1.6), and runs on cgroup v1 when told to.
VERSION = "1.35.4"
PROGRAMS = ["kube-apiserver", "kubelet", "kube-controller-manager", "kubectl"]
# What is fetched when the machine has no Go, or an older one than the module asks for.
TOOLCHAIN = "golang.org/toolchain@v0.0.1-go1.25.5.linux-amd64"
MODULE = "k8s.io/kubernetes"


def cache():
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trace-drop"


def folder():
    return cache() / "kubernetes" / VERSION


def program(name):
    path = folder() / name
    if not path.exists():
        raise SystemExit(f"cluster: {path} is missing; `scripts/cluster build` makes it")
    return str(path)


def build(names, quiet=False):
    """Each missing program in turn: what one compiled the next finds in Go's cache."""
    missing = [name for name in names if not (folder() / name).exists()]
    if not missing:
        if not quiet:
            print(f"cluster: kubernetes {VERSION} is built already: {folder()}", file=sys.stderr)
        return
    room = folder() / "build"
    room.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local", "GOWORK": "off"}
    go = find_go(environment)
    describe(go, room, environment)
    for name in missing:
        started = time.monotonic()
        command = [go, "build", "-trimpath", "-ldflags", flags(), "-o", str(folder() / f"{name}.new"), f"{MODULE}/cmd/{name}"]
        peak = watched(command, room, environment)
        (folder() / f"{name}.new").rename(folder() / name)
        print(f"cluster: {name} {VERSION} built in {time.monotonic() - started:.0f} s, at most {peak} MB in one process", file=sys.stderr)
    shutil.rmtree(room, ignore_errors=True)


def watched(command, room, environment):
    """Runs it; gives the largest process's memory. Go's own output says what is wrong."""
    process = subprocess.Popen(command, cwd=room, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"cluster: `{' '.join(command)}` failed ({process.returncode}); Go's own words are above")
    return usage.ru_maxrss // 1024


def flags():
    """The versions that the programs answer with; no symbols: they are only run."""
    major, minor, _ = VERSION.split(".")
    told = {"gitVersion": f"v{VERSION}", "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    return " ".join(["-s -w"] + [f"-X k8s.io/component-base/version.{key}={value}" for key, value in told.items()])


def describe(go, room, environment):
    """A module that asks for Kubernetes, and for its parts at the same version: its own go.mod says v0.0.0 of them."""
    (room / "go.mod").write_text("module build\n\ngo 1.21\n")
    answer = json.loads(output([go, "mod", "download", "-json", f"{MODULE}@v{VERSION}"], room, environment))
    asked = Path(answer["GoMod"]).read_text()
    parts = re.findall(r"^\s*(k8s\.io/\S+) v0\.0\.0$", asked, re.MULTILINE)
    minimum = re.search(r"^go (\S+)$", asked, re.MULTILINE)[1]
    lines = ["module build", "", f"go {minimum}", "", f"require {MODULE} v{VERSION}", "", "replace ("]
    lines += [f"\t{part} => {part} v0.{VERSION.split('.', 1)[1]}" for part in parts] + [")", ""]
    (room / "go.mod").write_text("\n".join(lines))


def output(command, room, environment):
    done = subprocess.run(command, cwd=room, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit(f"cluster: `{' '.join(command)}` failed ({done.returncode}): {done.stdout.strip()}")
    return done.stdout


def find_go(environment):
    """The machine's Go if it is new enough; else a newer toolchain, as a module, fetched by whatever Go there is."""
    wanted = numbers(TOOLCHAIN.rsplit("-go", 1)[1].removesuffix(".linux-amd64"))
    kept = cache() / "go"
    old = shutil.which("go")
    for go in [old, str(kept / "bin" / "go")]:
        if go and Path(go).exists():
            version = output([go, "env", "GOVERSION"], "/", environment).strip()
            if numbers(version.removeprefix("go"))[:2] >= wanted[:2]:
                return go
    if old is None:
        subprocess.run([str(Path(__file__).resolve().parent.parent / "setup"), "go"], check=True)
        old = shutil.which("go")
    if old is None:
        raise SystemExit(f"cluster: no Go, and Debian's golang-go did not bring one; install Go {'.'.join(map(str, wanted))} or newer")
    print(f"cluster: fetching {TOOLCHAIN}", file=sys.stderr)
    room = cache() / "fetch"
    room.mkdir(parents=True, exist_ok=True)
    (room / "go.mod").write_text("module fetch\n")
    fetched = Path(json.loads(output([old, "mod", "download", "-json", TOOLCHAIN], room, environment))["Dir"])
    shutil.rmtree(kept, ignore_errors=True)
    # A module's files are read-only and not executable.
    shutil.copytree(fetched, kept, copy_function=shutil.copyfile)
    for place in [kept / "bin", kept / "pkg" / "tool"]:
        for path in place.rglob("*"):
            path.chmod(0o755)
    shutil.rmtree(room, ignore_errors=True)
    return str(kept / "bin" / "go")


def numbers(version):
    return [int(part) for part in re.findall(r"\d+", version)]
