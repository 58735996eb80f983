"""`kubectl trace-drop`: kubectl finds the program, and the program calls itself so.

In: a bench. Out: checks; the manifest for krew is held by tests/cli.rs.
"""

import subprocess

from clusterlib import binaries

from .bench import HOW, PING
from .endpoints import CLIENT, SERVER


def run(bench):
    folder = bench.folder / "plugins"
    folder.mkdir(exist_ok=True)
    link = folder / "kubectl-trace_drop"
    link.unlink(missing_ok=True)
    link.symlink_to(bench.program)

    def kubectl(*words):
        env = {**bench.env, "PATH": f"{folder}:{bench.env['PATH']}"}
        return subprocess.run([binaries.program("kubectl"), *words], capture_output=True, text=True, timeout=60, env=env)

    done = kubectl("plugin", "list")
    yield "kubectl lists it", "" if str(link) in done.stdout else done.stdout + done.stderr
    done = kubectl("trace-drop", "--help")
    yield "its usage is kubectl's", "" if "Usage: kubectl trace-drop " in done.stdout else done.stdout + done.stderr
    done = kubectl("trace-drop", "--nothing")
    yield "its errors, too", "" if done.returncode == 2 and "Usage: kubectl trace-drop" in done.stderr else f"exit {done.returncode} {done.stderr}"
    done = kubectl("trace-drop", "--from", CLIENT, "--to", SERVER, *HOW["image"], *PING)
    yield "a trace by it", "" if done.returncode == 0 else f"exit {done.returncode} {done.stdout}{done.stderr}"
    for words, wanted in ((["completions", "bash"], "complete -F"), (["man"], ".TH trace-drop")):
        done = kubectl("trace-drop", *words)
        yield f"{words[0]} by it", "" if done.returncode == 0 and wanted in done.stdout else f"exit {done.returncode} {done.stderr}"
