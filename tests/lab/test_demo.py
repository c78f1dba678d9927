"""The demo, as a user runs it: whole, interrupted, and on a terminal."""

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from lab import CONTAINER, ROUTER_LINK_LOCAL, VPS_LINK_LOCAL
from namespaces import NAMES, end

DEMO = sys.executable, "tests/demo.py"
ROOT = Path(__file__).parents[2]

SOLICITATION = (
    f"IP6 {ROUTER_LINK_LOCAL} > ff02::1:ff00:d003: ICMP6, neighbor solicitation, who has {CONTAINER}, length 32"
)
DROPPED = f"IP6 {VPS_LINK_LOCAL} > {ROUTER_LINK_LOCAL}: ICMP6, neighbor advertisement, tgt is {CONTAINER}, length 32"
PASSED = f"IP6 {CONTAINER} > {ROUTER_LINK_LOCAL}: ICMP6, neighbor advertisement, tgt is {CONTAINER}, length 32"


@contextmanager
def started(stdout: int, **environment: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        DEMO, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=stdout, text=True, env=os.environ | environment
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(10)
        end(process)


def child_of(process: subprocess.Popen[str]) -> int:
    """Return the pid of the one child."""
    [child] = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(child)


def processes_of(group: int) -> list[str]:
    """Return the command lines of the processes of a group."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name, in brackets, is followed by state, parent and group (proc(5)).
            if int(status.read_text().rpartition(")")[2].split()[2]) == group:
                found.append((status.parent / "cmdline").read_text())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def test_the_whole_demo_shows_three_facts_and_leaves_nothing(tmp_path: Path) -> None:
    with started(subprocess.PIPE, TMPDIR=str(tmp_path)) as demo:
        assert demo.stdout is not None
        first_line = demo.stdout.readline()
        show = child_of(demo)
        printed = first_line + demo.stdout.read()

        assert demo.wait(60) == 0
    nothing, ndppd, ndpresponder = printed.split("\n\n")[-4:-1]
    assert "0 of 3 answered" in nothing
    assert frames(nothing) == [SOLICITATION]
    assert "0 of 3 answered" in ndppd
    assert frames(ndppd) == [SOLICITATION, DROPPED]
    assert f"it was sent from {VPS_LINK_LOCAL}" in ndppd
    assert "3 of 3 answered" in ndpresponder
    assert frames(ndpresponder) == [SOLICITATION, PASSED]
    assert printed.endswith("\nAll three went as they should.\n")
    assert "\033" not in printed
    assert_nothing_left(show, tmp_path)


def assert_nothing_left(group: int, directory: Path) -> None:
    assert list(NAMES.glob(f"ndpr-{group}-*")) == []
    assert processes_of(group) == []
    assert list(directory.iterdir()) == []


def frames(printed: str) -> list[str]:
    return [line.strip() for line in printed.splitlines() if line.strip().startswith("IP6 ")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("line", ["A virtual KVM host", "1. With nothing", "2. With ndppd", "3. With ndpresponder"])
def test_an_interrupted_demo_leaves_nothing(line: str, number: signal.Signals, tmp_path: Path) -> None:
    with started(subprocess.PIPE, TMPDIR=str(tmp_path)) as demo:
        assert demo.stdout is not None
        while line not in demo.stdout.readline():
            assert demo.poll() is None
        show = child_of(demo)

        demo.send_signal(number)

        assert demo.wait(10) == 128 + number
        assert_nothing_left(show, tmp_path)


@pytest.mark.parametrize(
    ("no_color", "title"), [("", "\033[1mA virtual KVM host"), ("1", "A virtual KVM host")], ids=["color", "no-color"]
)
def test_a_terminal_gets_color_unless_no_color_is_set(no_color: str, title: str) -> None:
    controller, terminal = pty.openpty()
    with os.fdopen(controller) as screen, os.fdopen(terminal, "w"), started(terminal, NO_COLOR=no_color):
        assert screen.readline().startswith(title)
