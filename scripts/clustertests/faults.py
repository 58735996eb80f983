"""A fault of each stage, traced by pod name through the API: the same hop and cause as the fault's data expects, and the
same JSON as with the cluster's file and a command that enters the nodes.
"""

import importlib.machinery
import importlib.util
import json

from .bench import SCRIPTS

CLIENT = "default/client"
# Fault, and how the program comes to the nodes.
FAULTS = [("healthy", "image"), ("healthy", "upload"), ("egress_policy", "image"), ("forward_reject", "image"), ("fdb_missing", "image"),
          ("underlay_blocked", "image"), ("vni_mismatch", "image"), ("ingress_policy", "upload"), ("no_listener", "image"),
          ("reply_input_drop", "image"), ("veth_mtu", "image"), ("pod_mtu", "image")]


def table():
    """scripts/faults, whose judgement is used here too."""
    loader = importlib.machinery.SourceFileLoader("table", str(SCRIPTS / "faults"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("table", loader))
    loader.exec_module(module)
    return module


def run(bench):
    judge = table().judge
    known = {fault["name"]: fault for fault in json.loads(bench.lab("fault", "list", "--json"))}
    for name, how in FAULTS:
        fault = known[name]
        kind, _, options = fault["probes"][0].partition(" ")
        words = ["--probe", kind, *options.split()]
        with bench.fault(name):
            ours = bench.trace(CLIENT, "default/server", *words, how=how)
            theirs = bench.by_file(CLIENT, "default/server", *words)
        wrong = [judge(fault, ours.report, ours.report or {}) if ours.report else str(ours)]
        if ours.report and theirs.report:
            wrong += differences(ours.report, theirs.report)
        else:
            wrong.append(f"without the API: {theirs}")
        wrong += ours.warnings
        yield f"{name}, {how}", "; ".join(part for part in wrong if part)


def differences(ours, theirs):
    """Between two reports of the same fault, but for times and numbers: of each number, whether it is none or all."""
    def share(part, whole):
        return "none" if part == 0 else "all" if part == whole else "some"

    def verdict(report):
        verdict = report["verdict"]
        return {**verdict, "sent": verdict["sent"] > 0, "lost": share(verdict["lost"], verdict["sent"])}

    def stages(report):
        return [(one["direction"], one["path"], share(one["delivered"], one["sent"]),
                 [(stage["kind"], stage["from"], stage["to"], share(stage["lost"], stage["entered"])) for stage in one["stages"]])
                for one in report["directions"]]

    def causes(report):
        return [(cause["kind"], cause["node"], cause["confidence"]) for cause in report["causes"]]

    def points(report):
        return [(point["id"], point["role"], point["packets"] > 0, point["capture_dropped"]) for point in report["points"]]

    parts = {"verdict": verdict, "stages": stages, "causes": causes, "points": points,
             "ends": lambda report: (report["from"], report["to"]), "warnings": lambda report: report["warnings"]}
    return [f"{part} {of(ours)}, without the API {of(theirs)}" for part, of in parts.items() if of(ours) != of(theirs)]
