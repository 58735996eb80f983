"""Makes OCI images out of files of this machine: nothing is pulled.

In: programs, with the libraries that they load, and other files. Out: an archive that `ctr images import`, `podman load`
and `docker load` take. The same files give the same bytes.
"""

import gzip
import hashlib
import io
import json
import os
import re
import subprocess
import tarfile
from pathlib import Path

# What an agent runs to read a node: src/gather. Debian keeps iptables' matches in a folder of modules.
TOOLS = ["ip", "bridge", "tc", "ethtool", "nft", "ipset", "conntrack", "xtables-nft-multi", "xtables-legacy-multi"]
IPTABLES = [f"{tool}{kind}{end}" for tool in ("iptables", "ip6tables") for kind in ("", "-nft", "-legacy") for end in ("", "-save", "-restore")]
SHELL = ["sh", "cat", "chmod", "mkdir", "rm", "sleep", "ls", "dd", "head", "mv", "uname", "id", "test", "true", "env", "nsenter"]
PLACES = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]


def find(program):
    return next((f"{place}/{program}" for place in PLACES if os.path.exists(f"{place}/{program}")), None)


def libraries(path):
    """What the loader would load, and the loader."""
    done = subprocess.run(["ldd", path], capture_output=True, text=True)
    return re.findall(r"(/\S+)", done.stdout) if done.returncode == 0 else []


class Tree:
    """Paths of an image: each a file of the machine, bytes, or a link."""

    def __init__(self):
        self.entries = {}

    def take(self, path, at=None):
        """A file with all that it loads; links lead to what they lead to here."""
        real = os.path.realpath(path)
        self.entries[at or flat(path)] = ("file", real)
        for library in libraries(real):
            self.entries.setdefault(flat(library), ("file", os.path.realpath(library)))
        return self

    def programs(self, names):
        missing = [name for name in names if find(name) is None]
        for name in names:
            if name not in missing:
                self.take(find(name))
        return missing

    def folder(self, path, leave=("__pycache__", "test", "tests", "idlelib", "tkinter", "ensurepip", "lib2to3", "dist-packages", "pydoc_data", "distutils")):
        for root, folders, files in os.walk(path):
            folders[:] = sorted(one for one in folders if one not in leave and not one.startswith("config-"))
            for name in sorted(files):
                one = os.path.join(root, name)
                self.take(one) if name.endswith(".so") else self.entries.setdefault(flat(one), ("file", os.path.realpath(one)))

    def text(self, path, content):
        self.entries[path] = ("text", content.encode())

    def layer(self):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            for name, target in (("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")):
                link = tarfile.TarInfo(name)
                link.type, link.linkname = tarfile.SYMTYPE, target
                tar.addfile(link)
            for name in ("usr", "usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "tmp", "run", "proc", "sys", "dev", "etc", "var"):
                one = tarfile.TarInfo(name)
                one.type, one.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
                tar.addfile(one)
            for path, (kind, what) in sorted(self.entries.items()):
                data = what if kind == "text" else Path(what).read_bytes()
                one = tarfile.TarInfo(path.lstrip("/"))
                one.size = len(data)
                one.mode = 0o644 if kind == "text" or not os.access(what, os.X_OK) else 0o755
                tar.addfile(one, io.BytesIO(data))
        return out.getvalue()


def flat(path):
    """Debian has /bin for /usr/bin; so has the image."""
    return re.sub(r"^/(bin|sbin|lib|lib64)/", r"/usr/\1/", os.path.normpath(path))


def archive(tree, path, name, command, labels=None):
    """One layer. `name` with its tag: localhost/pause:1."""
    layer = tree.layer()
    packed = gzip.compress(layer, compresslevel=1, mtime=0)
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {
        "Entrypoint": command, "Env": [f"PATH={':'.join(PLACES)}"], "Labels": labels or {}},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest(layer)}"]}, "history": [{"created_by": "trace-drop"}]}).encode()
    oci = "application/vnd.oci.image"
    manifest = json.dumps({"schemaVersion": 2, "mediaType": f"{oci}.manifest.v1+json", "config": told(f"{oci}.config.v1+json", config),
                           "layers": [told(f"{oci}.layer.v1.tar+gzip", packed)]}).encode()
    index = json.dumps({"schemaVersion": 2, "manifests": [told(f"{oci}.manifest.v1+json", manifest) | {
        "platform": {"architecture": "amd64", "os": "linux"},
        "annotations": {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name}}]}).encode()
    docker = json.dumps([{"Config": blob(config), "RepoTags": [name], "Layers": [blob(packed)]}]).encode()
    half = Path(f"{path}.new")
    with tarfile.open(half, "w") as tar:
        for where, data in [("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'), (blob(config), config), (blob(packed), packed),
                            (blob(manifest), manifest), ("index.json", index), ("manifest.json", docker)]:
            one = tarfile.TarInfo(where)
            one.size = len(data)
            tar.addfile(one, io.BytesIO(data))
    half.rename(path)
    return path


def digest(data):
    return hashlib.sha256(data).hexdigest()


def blob(data):
    return f"blobs/sha256/{digest(data)}"


def told(kind, data):
    return {"mediaType": kind, "digest": f"sha256:{digest(data)}", "size": len(data)}


def iptables(tree):
    missing = tree.programs(TOOLS + IPTABLES)
    for folder in Path("/usr/lib").glob("*/xtables"):
        tree.folder(str(folder))
    return missing


def agent(binary, path, name):
    """The program and the tools that it runs on a node. Gives the tools that this machine does not have."""
    tree = Tree().take(binary, "/usr/bin/trace-drop")
    missing = iptables(tree)
    archive(tree, path, name, ["/usr/bin/trace-drop"])
    return missing


def node_agent(path, name):
    """What stands on each node for calico-node: a shell and the tools, no trace-drop."""
    tree = Tree()
    iptables(tree)
    tree.programs(SHELL)
    return archive(tree, path, name, ["/usr/bin/sleep", "infinity"])


def pause(path, name):
    program = f"{path}.program"
    subprocess.run(["gcc", "-static", "-Os", "-s", "-o", program, str(Path(__file__).parent / "pause.c")], check=True)
    archive(Tree().take(program, "/pause"), path, name, ["/pause"])
    os.unlink(program)
    return path


def server(path, name):
    """The lab's servers, and Python to run them."""
    tree = Tree()
    # Debian's own, not one that a developer has put before it.
    python = "/usr/bin/python3"
    tree.take(python)
    where = json.loads(subprocess.run([python, "-c", "import json,sysconfig;print(json.dumps(sysconfig.get_paths()))"],
                                      capture_output=True, text=True, check=True).stdout)
    tree.folder(where["stdlib"])
    tree.take(str(Path(__file__).parent.parent / "lablib" / "servers.py"), "/servers.py")
    tree.programs(SHELL + ["ip"])
    return archive(tree, path, name, ["/usr/bin/python3", "-B", "/servers.py"])
