"""What processes use, against what they say of themselves."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from modelyard.loadtest.usage import Watch, busy_s, holders_of, memory_mb, read_process, tree

# Listens, starts a child, and both burn processor time when told; each then says how much it had used.
BURNER = """
import os, resource, socket, sys, time
sock = socket.create_server(("127.0.0.1", 0))
child = os.fork()
if child == 0:
    sock.close()
ready = sys.stdout
if child:
    ready.write(f"{sock.getsockname()[1]} {child}\\n"); ready.flush()
    sys.stdin.readline()
    os.kill(child, 10)
else:
    import signal
    signal.sigwait([10])
until = time.process_time() + (0.3 if child else 0.5)
while time.process_time() < until:
    pass
if child:
    ready.write("burnt\\n"); ready.flush()
    sys.stdin.readline()
    os.kill(child, 9)
else:
    signal.pause()
"""


@pytest.fixture
def burner() -> object:
    code = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [10])\n" + BURNER
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        yield process
        process.kill()


def test_a_trees_processor_time_is_that_of_all_its_processes(burner: subprocess.Popen[str]) -> None:
    assert burner.stdout is not None and burner.stdin is not None
    port, child = map(int, burner.stdout.readline().split())
    assert holders_of(port) == [burner.pid]  # the child gave the socket back
    assert sorted(one.pid for one in tree([burner.pid])) == sorted([burner.pid, child])
    watch = Watch(holders_of(port))
    watch.find()
    watch.begin()
    burner.stdin.write("burn\n")
    assert burner.stdout.readline() == "burnt\n"
    end = time.monotonic() + 20
    while (one := read_process(child)) is not None and one.cpu_s < 0.45 and time.monotonic() < end:
        os.sched_yield()
    watch.look()
    used = watch.end(seconds=2.0, requests=100)
    assert used is not None and used.processes == 2 and used.gone == 0
    assert 0.7 <= used.cpu_s < 1.2
    assert used.cores == pytest.approx(used.cpu_s / 2)
    assert used.cpu_us_per_request == pytest.approx(used.cpu_s * 1e4)
    burner.stdin.write("end\n")
    burner.wait(20)
    gone = watch.end(seconds=2.0, requests=100)
    assert gone is not None and gone.gone == 2 and gone.cpu_s == used.cpu_s


def test_memory_is_that_of_the_kernels_own_tables() -> None:
    pss, rss = memory_mb([os.getpid()])
    assert pss is not None and rss is not None and 0 < pss <= rss
    page = os.sysconf("SC_PAGE_SIZE")
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    assert rss == pytest.approx(pages * page / 1e6, rel=0.1)


def test_a_process_that_is_gone_has_no_memory_and_no_clock() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert read_process(process.pid) is None
    assert memory_mb([process.pid]) == (None, None)
    assert Watch([process.pid]).end(1.0, 1) is None


def test_nobody_holds_a_port_that_is_free() -> None:
    assert holders_of(1) == []


def test_the_machines_busy_time_grows_with_ours() -> None:
    before, until = busy_s(), time.process_time() + 0.2
    while time.process_time() < until:
        pass
    after = busy_s()
    assert before is not None and after is not None and after - before > 0.15
