"""The main job on real data: a written requirement becomes a sealed release, served and asked.

Run by `make demo`. Everything it makes goes into `.modelyard` at the root of this clone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).parent
HOME = HERE.parent.parent / ".modelyard"
COMMAND = [sys.executable, "-m", "modelyard"]


def main() -> None:
    """Walk the journey; stop at the first step that fails."""
    begun = time.monotonic()
    say("Plan: what will be done and checked")
    modelyard("plan", str(HERE / "system.yaml"))
    say("Run: data, candidates, evaluation, gates, release")
    modelyard("run", str(HERE / "system.yaml"))
    say("Serve, and ask")
    state = json.loads(modelyard("serve", "income", "--port", "0", "--detach", "--json", show=False))
    try:
        ask(f"http://{state['run']['host']}:{state['run']['port']}")
    finally:
        modelyard("stop", "income")
    say("The same bundle from the shell")
    modelyard("predict", "income", str(HERE / "row.json"))
    say("What is on record")
    modelyard("audit", "verify")
    report = HOME / "income.html"
    modelyard("report", "income", "--out", str(report))
    print(f"\nDone in {time.monotonic() - begun:.0f} s. Open the report: {report}")


def say(title: str) -> None:
    """Print a heading."""
    print(f"\n== {title}", flush=True)


def modelyard(*words: str, show: bool = True) -> str:
    """Run a command as a person would, and print what it says."""
    print(f"$ modelyard {' '.join(words)}", flush=True)
    done = subprocess.run(
        [*COMMAND, *words],
        env={**os.environ, "MODELYARD_HOME": str(HOME)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if show or done.returncode:
        print(done.stdout, end="", flush=True)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout


def ask(address: str) -> None:
    """Ask the service: the plain rows form, the Open Inference Protocol, and a row that breaks the contract."""
    row = json.loads((HERE / "row.json").read_text())
    post(f"{address}/api/v1/income", {"rows": [row]})
    inputs = [
        {"name": name, "shape": [1], "datatype": "BYTES" if isinstance(value, str) else "INT64", "data": [value]}
        for name, value in row.items()
    ]
    post(f"{address}/v2/models/income/infer", {"inputs": inputs})
    post(f"{address}/api/v1/income", {"rows": [{**row, "age": "forty"}]})


def post(url: str, body: dict[str, object]) -> None:
    """Send JSON and print what comes back."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    print(f"$ curl {url} -d '{json.dumps(body)[:60]}...'")
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            status, text = reply.status, reply.read().decode()
    except urllib.error.HTTPError as fault:
        status, text = fault.code, fault.read().decode()
    print(f"{status} {text.strip()}", flush=True)


if __name__ == "__main__":
    main()
