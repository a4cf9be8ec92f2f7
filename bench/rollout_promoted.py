"""Live rollouts watched to their end: a good one that reaches all of the traffic, and a recording of a bad one."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from rollout_live import COMMAND, Place, calling, statuses, table_of
from rollout_models import Fault, Sealing, seal

RATE = 500.0
WORK = 10.0
MOST_S = 300.0
STEPS = "[{share: 0.1, least_time_s: 3}, {share: 0.5, least_time_s: 3}]"
QUICK_STEPS = f"{{strategy: canary, steps: {STEPS}, limit_hours: 0.1}}"
WANTED = (
    "[{metric: error_rate, margin: 0.02}, {metric: latency_p95_ms, at_most: 250}, {metric: accuracy, margin: 0.05}]"
)
FAULTY = Fault(errors=0.01), Fault(errors=0.04)
LONGEST_S = 90.0


def promoted(home: Path, *, runs: int, rate: float = RATE) -> list[str]:
    """Roll a good candidate out under load; return what became of it in Markdown."""
    place, rows = Place(home), []
    for number in range(runs):
        name = f"good-{number}"
        sealing = Sealing(requirements=WANTED, rollout=QUICK_STEPS)
        stable, candidate = seal(home, name, [Fault(errors=0.005), Fault(errors=0.005, amount=1)], sealing)
        folder = str(place.run_folder(name))
        with place.service(stable) as port, calling(
            place, name, port, rate=rate, run_folder=folder, work=WORK, seed=number + 1
        ) as load:  # fmt: skip
            time.sleep(3.0)
            began = time.monotonic()
            place.command("deploy", candidate)
            course = place.wait_ended(name, MOST_S)
            took = time.monotonic() - began
            shares = place.table(name).shares
            heard = load.finish()
        how = "still open" if course is None or course.ended is None else course.ended.how.value
        answers = ", ".join(f"{one} {100 * share:g} %" for one, share in shares.items())
        rows.append([str(number + 1), how, f"{took:.0f}", answers, statuses(heard, heard.due > 0)])
    head = ["run", "ended", "seconds", "answers then", "replies, by status"]
    title = f"A good candidate at {rate:g} requests/s: steps {STEPS}, then 5 s watched with all of it; {WANTED}"
    return [title, table_of(head, rows)]


def recording(home: Path, *, rate: float = RATE) -> list[str]:
    """Return what a terminal shows of a canary that goes back by itself: real commands, each with its second."""
    place = Place(home)
    began = time.monotonic()
    lines: list[str] = []

    def typed(*words: str) -> str:
        lines.append(f"[{time.monotonic() - began:6.1f} s] $ modelyard {' '.join(words)}")
        done = subprocess.run(
            [*COMMAND, *words], env=place.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            check=False,
        )  # fmt: skip
        lines.extend([*done.stdout.rstrip().splitlines(), ""])
        return done.stdout

    sealing = Sealing(requirements="[{metric: error_rate, at_most: 0.05, margin: 0.005}]")
    stable, candidate = seal(home, "income", list(FAULTY), sealing)
    typed("serve", stable, "--port", "0", "--detach")
    try:
        with calling(place, "income", place.port("income"), rate=rate, work=WORK):
            time.sleep(3.0)
            typed("deploy", candidate)
            time.sleep(2.0)
            typed("status", "income")
            place.wait_ended("income", LONGEST_S)
            typed("status", "income")
            typed("services")
    finally:
        typed("stop", "income")
    note = f"{rate:g} requests/s all the while; {candidate} fails on 4 % of the rows, {stable} on 1 %."
    return [note, "```\n" + "\n".join(lines).rstrip() + "\n```"]
