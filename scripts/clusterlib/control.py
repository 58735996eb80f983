"""Starts and ends the control plane: etcd, kube-apiserver and kube-controller-manager in a network namespace of their own.

In: a Place. Out: running processes, their pids beside their logs in the Place's folder. The namespace has a leg in the
lab's underlay, by which API server and kubelets reach each other, and a leg to the machine, by which clients come.
"""

import hashlib
import os
import signal
import subprocess
import time
from pathlib import Path

from lablib import build as lab
from lablib import topology as t

from . import binaries
from .api import Api
from .certificates import Authority

STATE = Path("/run/trace-drop-cluster")
PORT = 6443
# In the underlay, beside the nodes.
ADDRESS, ADDRESS6, MAC = "192.168.50.2", "fd00:50::2", "02:00:c0:a8:32:02"
CONTROLLERS = ["garbage-collector-controller", "serviceaccount-controller", "root-ca-certificate-publisher-controller", "namespace-controller"]
# These judge nodes without a kubelet to be dead, and remove their pods.
JUDGES = ["node-lifecycle-controller", "pod-garbage-collector-controller"]


class Place:
    """Where a cluster of this name keeps what it has."""

    def __init__(self, name):
        self.name = name
        self.folder = STATE / name
        self.authority = Authority(self.folder / "pki")
        self.prefix = "" if name == "lab" else f"{name}-"
        self.netns = f"{self.prefix}control"
        digits = hashlib.sha256(name.encode()).digest()
        # A /30 of link-local addresses and a link's name from the cluster's name: several can be up at once.
        self.wire = f"tdc{digits.hex()[:8]}"
        base = int.from_bytes(digits[:2], "big") % (254 * 64)
        front, last = f"169.254.{1 + base // 64}", base % 64 * 4
        self.outside, self.address = f"{front}.{last + 1}", f"{front}.{last + 2}"
        self.kubeconfig = self.folder / "kubeconfig"

    @property
    def server(self):
        return f"https://{self.address}:{PORT}"

    def api(self, user="admin", timeout=30):
        return Api(self.address, PORT, self.authority, user, timeout)

    def pid(self, program):
        try:
            return int((self.folder / f"{program}.pid").read_text().split()[0])
        except (FileNotFoundError, ValueError, IndexError):
            return None

    def runs(self, program):
        """Whether the process with that number is still the one that was started: the kernel tells when each began."""
        pid = self.pid(program)
        return bool(pid) and [began(pid)] == (self.folder / f"{program}.pid").read_text().split()[1:]

    def remember(self, program, process):
        (self.folder / f"{program}.pid").write_text(f"{process.pid} {began(process.pid)}")

    def start(self, program, command):
        """In the control plane's namespace, with a log."""
        with open(self.folder / f"{program}.log", "ab") as log:
            process = subprocess.Popen(["nsenter", f"--net=/run/netns/{self.netns}", *command], stdin=subprocess.DEVNULL,
                                       stdout=log, stderr=log, start_new_session=True)
        self.remember(program, process)

    def stop(self, program, seconds=15):
        if not self.runs(program):
            return
        pid = self.pid(program)
        for sign, limit in ((signal.SIGTERM, seconds), (signal.SIGKILL, 5)):
            os.kill(pid, sign)
            end = time.monotonic() + limit
            while time.monotonic() < end:
                reap(pid)
                if not self.runs(program):
                    (self.folder / f"{program}.pid").unlink(missing_ok=True)
                    return
                time.sleep(0.05)
        raise SystemExit(f"cluster: {program} ({pid}) does not end")


def began(pid):
    """In ticks since the machine's start, as text; nothing of a process that is gone or only waits to be taken in."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if words[0] in "ZX" else words[19]


def reap(pid):
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass


def network(place, underlay):
    """`underlay` is the lab's, or None for an API server without nodes."""
    lab.batch(None, [f"netns add {place.netns}",
                     f"link add {place.wire} type veth peer name client netns {place.netns}",
                     f"addr add {place.outside}/30 dev {place.wire}", f"link set {place.wire} up"])
    lab.batch(place.netns, ["link set lo up", f"addr add {place.address}/30 dev client", "link set client up"])
    if underlay:
        lab.batch(None, [f"link add eth0 address {MAC} mtu {t.NIC_MTU} netns {place.netns} type veth "
                         f"peer name control netns {underlay}"])
        lab.batch(underlay, ["link set control master br0", "link set control up"])
        lab.batch(place.netns, [f"addr add {ADDRESS}/24 dev eth0", f"addr add {ADDRESS6}/64 dev eth0 nodad", "link set eth0 up"])


def keys(place):
    authority = place.authority
    authority.make()
    names = ["DNS:kubernetes", "DNS:kubernetes.default", "DNS:kubernetes.default.svc", "DNS:localhost", "IP:127.0.0.1", "IP:10.96.0.1",
             f"IP:{place.address}", f"IP:{ADDRESS}"]
    authority.server("apiserver", "kube-apiserver", names)
    authority.client("admin", "admin", "system:masters")
    authority.client("apiserver-kubelet", "kube-apiserver-kubelet-client")
    authority.client("controllers", "system:kube-controller-manager")
    authority.kubeconfig(place.kubeconfig, place.server, "admin")
    authority.kubeconfig(place.folder / "controllers.kubeconfig", f"https://127.0.0.1:{PORT}", "controllers")


def start(place):
    start_etcd(place)
    start_api(place)
    start_controllers(place, leg(place))


def start_etcd(place):
    # Nothing here outlives the machine: no fsync, which the lab's disk would make slow.
    place.start("etcd", ["etcd", "--data-dir", str(place.folder / "etcd"), "--listen-client-urls", "http://127.0.0.1:2379",
                         "--advertise-client-urls", "http://127.0.0.1:2379", "--listen-peer-urls", "http://127.0.0.1:2380",
                         "--unsafe-no-fsync", "--quota-backend-bytes", str(8 << 30)])


def start_api(place):
    pki = place.authority.path
    command = [binaries.program("kube-apiserver"), "--etcd-servers=http://127.0.0.1:2379", f"--secure-port={PORT}",
               f"--advertise-address={ADDRESS if leg(place) else place.address}", "--endpoint-reconciler-type=none",
               f"--tls-cert-file={pki('apiserver.crt')}", f"--tls-private-key-file={pki('apiserver.key')}", f"--client-ca-file={pki('ca.crt')}",
               "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
               f"--kubelet-certificate-authority={pki('ca.crt')}", f"--kubelet-client-certificate={pki('apiserver-kubelet.crt')}",
               f"--kubelet-client-key={pki('apiserver-kubelet.key')}", "--kubelet-preferred-address-types=InternalIP",
               "--service-account-issuer=https://kubernetes.default.svc", f"--service-account-key-file={pki('accounts.pub')}",
               f"--service-account-signing-key-file={pki('accounts.key')}", f"--service-cluster-ip-range=10.96.0.0/16,{t.SERVICE6.split('::')[0]}::/108",
               "--allow-privileged=true", "--profiling=false", "--event-ttl=10m"]
    place.start("kube-apiserver", command)
    api = place.api(timeout=5)

    def ready():
        if not place.runs("kube-apiserver"):
            raise SystemExit(f"cluster: kube-apiserver ended: {last_line(place.folder / 'kube-apiserver.log')}")
        return api.ask("GET", "/readyz") == "ok"

    api.wait("the API server", 90, ready, f"see {place.folder}/kube-apiserver.log")
    api.close()


def start_controllers(place, judges):
    """The few that take part: owners, ends of nodes, accounts. None of them places pods."""
    pki, config = place.authority.path, str(place.folder / "controllers.kubeconfig")
    place.start("kube-controller-manager", [
        binaries.program("kube-controller-manager"), f"--kubeconfig={config}", f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}", f"--controllers={','.join(CONTROLLERS + JUDGES * judges)}", "--leader-elect=false", "--use-service-account-credentials=true",
        f"--service-account-private-key-file={pki('accounts.key')}", f"--root-ca-file={pki('ca.crt')}", "--bind-address=127.0.0.1",
        "--node-monitor-grace-period=20s", "--node-monitor-period=2s"])


def leg(place):
    return lab.run("ip", "-n", place.netns, "link", "show", "eth0", check=False).returncode == 0


def last_line(path):
    try:
        return path.read_text().strip().splitlines()[-1]
    except (FileNotFoundError, IndexError):
        return "it said nothing"


def end(place):
    for program in ("kube-controller-manager", "kube-apiserver", "etcd"):
        place.stop(program)
    if place.netns in lab.existing():
        lab.run("ip", "netns", "del", place.netns, check=False)
    lab.run("ip", "link", "del", place.wire, check=False)
