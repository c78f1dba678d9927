"""The engine that the other tests here rely on: what it takes from the machine it gives back."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest
from dockerd import CGROUPS, EXPOSED, HANDS_OFF, Engine, EngineError, ThisMachine
from lab import Lab, ping, wait_until
from namespaces import NAMES, end, run

pytestmark = pytest.mark.usefixtures("running_engine")

# Started with a container, it says so and waits to be killed.
_DOOMED = """
import sys
from dockerd import EXPOSED, Engine
from lab import Lab
with Lab() as lab, Engine(lab.vps) as engine:
    engine.create_network(EXPOSED)
    engine.run("one", EXPOSED.name)
    print("running", flush=True)
    sys.stdin.read()
"""


def left(name: str) -> list[Path]:
    """Return what there is on the machine with a name: directories, cgroups in each hierarchy, namespaces."""
    hierarchies = [each for each in CGROUPS.iterdir() if each.is_dir()]
    places = Path(tempfile.gettempdir()), CGROUPS, *hierarchies, NAMES
    return [path for place in places for path in place.glob(f"{name}*")]


def processes(name: str) -> list[str]:
    """Return the command lines that have a name in them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(FileNotFoundError, ProcessLookupError):
            found.append(path.read_text())
    return [line for line in found if name in line]


def machine() -> list[str]:
    """Return what a dockerd would change in the machine's own network if it were not kept in."""
    switches = r"^net\.(ipv4\.ip_forward|ipv6\.conf\.(all|default)\.forwarding|bridge\.)"
    commands = (
        "ip -brief address",
        "ip route show table all",
        "ip -6 route show table all",
        "nft --stateless list ruleset",
        f"sysctl --all --pattern {switches}",
    )
    return [run(*command.split()).stdout for command in commands]


def mounts(name: str) -> list[str]:
    """Return the machine's mounts that have a name in them."""
    return [line for line in Path("/proc/mounts").read_text().splitlines() if name in line]


def test_the_machine_is_left_as_it_was() -> None:
    before = machine()
    with Lab() as lab, Engine(lab.vps) as engine:
        engine.create_network(EXPOSED)
        engine.run("one", EXPOSED.name)
        address = engine.address("one", EXPOSED.name)

        assert ping(lab.internet, address).received == 0
        lab.ndpresponder("-n", str(EXPOSED.subnet))
        lab.forget()
        assert ping(lab.internet, address).received == 1
        assert lab.vps.run("sysctl", "--values", "net.ipv4.ip_forward").stdout == "1\n"
        assert left(engine.name) != []
        assert mounts(engine.name) == []
        assert machine() == before

    assert left(engine.name) == []
    assert processes(engine.name) == []
    assert machine() == before


def test_an_engine_beside_the_lab_leaves_the_machine_alone() -> None:
    before = machine()
    with Engine(ThisMachine(), flags=HANDS_OFF) as engine:
        engine.run("one", "host")
        assert machine() == before
    assert left(engine.name) == []
    assert machine() == before


def fail_while_running(engine: Engine) -> None:
    engine.stop("nobody")


def fail_while_stopped(engine: Engine) -> None:
    engine.stop_engine()
    engine.stop_engine()


def fail_while_killed(engine: Engine) -> None:
    engine.kill_engine()
    engine.kill_engine()


@pytest.mark.parametrize(
    ("fail", "error"),
    [
        (fail_while_running, "POST /containers/nobody/stop: 404 .*No such container: nobody"),
        (fail_while_stopped, "dockerd is not running"),
        (fail_while_killed, "dockerd is not running"),
    ],
)
def test_a_failure_leaves_nothing(fail: Callable[[Engine], None], error: str) -> None:
    engines = []

    def failing(lab: Lab) -> None:
        with Engine(lab.vps) as engine:
            engines.append(engine)
            engine.create_network(EXPOSED)
            engine.run("one", EXPOSED.name)
            fail(engine)

    with Lab() as lab, pytest.raises((EngineError, RuntimeError), match=error):
        failing(lab)

    [engine] = engines
    assert left(engine.name) == []
    assert processes(engine.name) == []


def test_a_killed_run_leaves_nothing_that_runs_and_the_next_one_sweeps() -> None:
    doomed = subprocess.Popen(
        [sys.executable, "-c", _DOOMED],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert doomed.stdin is not None
    assert doomed.stdout is not None
    try:
        assert doomed.stdout.readline() == "running\n"
        name = f"ndpr-{doomed.pid}-engine"
        assert processes(name) != []
    finally:
        with closing(doomed.stdin):
            end(doomed)

    wait_until(lambda: processes(name) == [], "the kernel has ended all")
    with Lab() as lab, Engine(lab.vps):
        assert left(f"ndpr-{doomed.pid}-") == []
