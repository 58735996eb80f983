"""The first process of a node: makes the node's own mounts, then runs containerd and the kubelet in it.

In: a folder with the node's configuration, in namespaces of its own (network, mount, pid, host name, cgroup). Out: a
node; when this process ends, the kernel ends all others of the node. Changes no setting of the machine.
"""

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

# The node's own, at the paths of a real node. Each is a folder of the same name in the node's folder.
OWN = ["/var/lib/kubelet", "/var/lib/containerd", "/run/containerd", "/var/log/pods", "/var/log/containers", "/etc/cni", "/opt/cni"]
# The kernel parameters that a kubelet sets. They are the whole machine's: it finds files of the node in their place.
WANTED = {"vm/overcommit_memory": 1, "vm/panic_on_oom": 0, "kernel/panic": 10, "kernel/panic_on_oops": 1,
          "kernel/keys/root_maxkeys": 1000000, "kernel/keys/root_maxbytes": 25000000}
CLONE_NEWCGROUP = 0x02000000


def mount(*words):
    subprocess.run(["mount", *words], check=True)


def alone():
    """No mount of ours reaches the machine but names of network namespaces, which the lab must see."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = line.split()[4]
        if "shared:" in line and point not in ("/run/netns", "/var/run/netns"):
            subprocess.run(["mount", "--make-private", point], check=False, stderr=subprocess.DEVNULL)


def groups():
    """The node's cgroup becomes its root. In: entered already, by name."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWCGROUP) != 0:
        raise OSError(ctypes.get_errno(), "unshare of the cgroup namespace")
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    found = [(words[1], words[2], words[3]) for words in mounts if words[2].startswith("cgroup") and words[1].startswith("/sys/fs/cgroup")]
    mount("-t", "sysfs", "sysfs", "/sys")
    if any(kind == "cgroup" for _, kind, _ in found):
        mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", "/sys/fs/cgroup")
    for point, kind, options in found:
        Path(point).mkdir(exist_ok=True)
        if kind == "cgroup2":
            mount("-t", kind, "cgroup2", point)
            continue
        names = [name for name in options.split(",") if name not in ("rw", "ro", "relatime", "nosuid", "nodev", "noexec", "xattr")
                 and not name.startswith("release_agent")]
        mount("-t", kind, "-o", ",".join(names), "cgroup", point)
    if len(found) == 1 and found[0][1] == "cgroup2":
        only_leaves(Path(found[0][0]))


def only_leaves(root):
    """cgroup v2 hands controllers down only from a group without processes of its own."""
    (root / "init").mkdir(exist_ok=True)
    for pid in (root / "cgroup.procs").read_text().split():
        (root / "init" / "cgroup.procs").write_text(pid)
    for controller in (root / "cgroup.controllers").read_text().split():
        (root / "cgroup.subtree_control").write_text(f"+{controller}")


def mounts(folder):
    alone()
    mount("-t", "proc", "proc", "/proc")
    groups()
    for path in OWN:
        own = folder / path.strip("/").replace("/", "-")
        own.mkdir(exist_ok=True)
        Path(path).mkdir(parents=True, exist_ok=True)
        mount("--bind", str(own), path)
    # Kubelets hand mounts to containers: theirs must be able to travel.
    mount("--make-shared", "/var/lib/kubelet")
    for path, value in WANTED.items():
        own = folder / Path(path).name
        own.write_text(f"{value}\n")
        mount("--bind", str(own), f"/proc/sys/{path}")


def start(folder, name, command):
    with open(folder / f"{name}.log", "ab") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)


def main(folder):
    settings = json.loads((folder / "node.json").read_text())
    mounts(folder)
    socket.sethostname(settings["name"])
    ended = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    containerd = start(folder, "containerd", ["containerd", "--config", str(folder / "containerd.toml")])
    end = time.monotonic() + 60
    while subprocess.run(["ctr", "version"], capture_output=True).returncode != 0:
        if time.monotonic() > end or containerd.poll() is not None:
            raise SystemExit("containerd does not answer; see containerd.log")
        time.sleep(0.1)
    for image in settings["images"]:
        subprocess.run(["ctr", "-n", "k8s.io", "images", "import", image], check=True, stdout=subprocess.DEVNULL)
    (folder / "imported").touch()
    kubelet = None
    # The kubelet is run while the file is there: how the outside ends it and starts it again.
    while not ended:
        wanted = (folder / "kubelet.wanted").exists()
        if wanted and kubelet is None:
            kubelet = start(folder, "kubelet", settings["kubelet"])
        if not wanted and kubelet is not None:
            kubelet.kill()
        reap(kubelet)
        if kubelet is not None and kubelet.returncode is not None:
            print(f"the kubelet ended ({kubelet.returncode})", file=sys.stderr, flush=True)
            kubelet = None
            time.sleep(1 if wanted else 0)
        time.sleep(0.1)


def reap(kubelet):
    """Children of containers that ended come to the first process."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        if kubelet is not None and pid == kubelet.pid:
            kubelet.returncode = os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
