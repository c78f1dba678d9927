"""The image and its container: what is in it, what it may do, how it fares, what it needs.

That it answers as the program on the host does is seen by the tests in test_following_docker.py, which run with both.
"""

import json
import os
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from itertools import pairwise
from pathlib import Path
from signal import SIGCONT, SIGSTOP

import pytest
from dockerd import EXPOSED, Engine, how_dockerd_ends
from lab import Lab, ping, wait_until
from sidecar import DIRECTORY, IMAGE, NAME, SOCKET, Sidecar, asking, load
from solicitor import Solicitor
from wire import event, events

from ndpresponder import __version__

pytestmark = pytest.mark.minutes

LASTING = EXPOSED.address(0x10)
MANY = 100
RESIDENT = 48_000
"""kB, with MANY containers."""
NET_ADMIN, NET_RAW = 1 << 12, 1 << 13
# Often, so that the tests need not wait; how it asks, and what counts, is the image's.
OFTEN = {"interval": 10**9, "retries": 1}

Record = Callable[[str, object], None]
"""Has the summary of the test run show what was measured."""

# Prints each module of the daemon that is compiled when it is imported.
_UNCOMPILED = """
import os, sys, ndpresponder.cli, ndpresponder.daemon, ndpresponder.netlink, docker, pyroute2
compiled = {name: module.__cached__ for name, module in sys.modules.items() if getattr(module, "__cached__", None)}
assert "ndpresponder.responder" in compiled, compiled
print([name for name, path in compiled.items() if not os.path.exists(path)])
"""


def run_once(engine: Engine, *command: str) -> str:
    """Run a command in a container of the image, and return what it printed."""
    load(engine)
    with asking(engine) as client:
        configuration = client.create_host_config(network_mode="none")
        words = list(command)
        client.create_container(IMAGE, words[1:], entrypoint=words[:1], name="once", host_config=configuration)
        client.start("once")
        status = client.wait("once")["StatusCode"]
        printed = engine.printed("once")
        client.remove_container("once")
    assert status == 0, printed
    return printed


def status_of(process: int) -> dict[str, str]:
    """Return what the kernel tells about a process (proc_pid_status(5))."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


# What is in it


def test_it_is_this_version(engine: Engine) -> None:
    printed = run_once(engine, "ndpresponder", "--version")
    assert printed.split()[-1] == __version__


def test_nothing_is_in_it_that_is_not_needed(engine: Engine, record_property: Record) -> None:
    directories = "/usr/share/doc /usr/share/man /usr/share/locale /var/lib/apt/lists /var/cache/apt /var/log /tmp"
    kinds = "-type f -size +0 ! -name copyright"
    files = run_once(engine, "find", *directories.split(), *kinds.split()).split()
    packages = run_once(engine, "dpkg-query", "--show", "--showformat", "${Package}\n").split()
    with asking(engine) as client:
        *ours, _ = [layer["Size"] for layer in client.history(IMAGE)]

    assert files == []
    # Neither compilers nor what the wheel was built with.
    tools = r"(gcc|g\+\+|cpp|binutils)(-\d+)?|.*-dev|python3-(pip|hatchling|wheel|installer)"
    assert [each for each in packages if re.fullmatch(tools, each)] == []
    assert "python3-docker" in packages
    record_property("size on top of Debian's", f"{sum(ours) / 1e6:.0f} MB")


def test_nothing_is_compiled_at_the_start(engine: Engine) -> None:
    assert run_once(engine, "python3", "-c", _UNCOMPILED) == "[]\n"


# What it may do


def test_it_may_do_what_it_needs_and_no_more(engine: Engine) -> None:
    sidecar = Sidecar(engine, "-i", "eth0", "-N", EXPOSED.name)
    event(sidecar, "ready", timeout=20)
    status = status_of(sidecar.process)
    mounts = [line.split() for line in Path(f"/proc/{sidecar.process}/mounts").read_text().splitlines()]
    host = sidecar.told()["HostConfig"]

    assert {each: int(status[each], 16) for each in ("CapPrm", "CapEff", "CapBnd")} == {
        "CapPrm": NET_ADMIN | NET_RAW,
        "CapEff": NET_ADMIN | NET_RAW,
        "CapBnd": NET_ADMIN | NET_RAW,
    }
    assert (status["NoNewPrivs"], status["Uid"].split()) == ("1", ["0"] * 4)
    options = {where: how.split(",") for _, where, _, how, *_ in mounts}
    assert "ro" in options["/"]
    assert "ro" in options[SOCKET]
    assert host["Memory"] == 256 << 20
    assert (host["CpuShares"], host["CpuQuota"], host["NanoCpus"]) == (2048, 0, 0)
    assert [line for line in events(sidecar) if line["level"] != "info"] == []


def test_with_less_it_still_answers(lab: Lab, engine: Engine) -> None:
    """NET_ADMIN is for the gateway keeper only."""
    engine.run("lasting", EXPOSED.name, LASTING)
    sidecar = Sidecar(engine, "-i", "eth0", "-N", EXPOSED.name, cap_add=["NET_RAW"])
    event(sidecar, "network", timeout=20)
    assert ping(lab.internet, LASTING).received == 1


# How it fares


def test_metrics(lab: Lab, engine: Engine) -> None:
    sidecar = Sidecar(engine, "-i", "eth0", "-N", EXPOSED.name, "--metrics", "[::1]:9108")
    event(sidecar, "metrics", timeout=20)
    with lab.vps.entered():
        connection = HTTPConnection("::1", 9108, timeout=5)
        connection.request("GET", "/metrics")
    scraped = connection.getresponse().read().decode()
    assert 'ndpresponder_interface_up{interface="eth0"} 1.0' in scraped.splitlines()


def test_inside_it_tells_what_it_is_at(engine: Engine) -> None:
    engine.run("lasting", EXPOSED.name, LASTING)
    sidecar = Sidecar(engine, "-i", "eth0", "-N", EXPOSED.name)
    event(sidecar, "network", timeout=20)

    with asking(engine) as client:
        asked = client.exec_create(NAME, ["ndpresponder", "status", "-j"])
        [line] = client.exec_start(asked).splitlines()
    [interface] = json.loads(line)["interfaces"]
    assert interface["interface"] == "eth0"
    [network] = interface["networks"]
    assert (network["network"], network["addresses"]) == (EXPOSED.name, 1)


def test_its_health_is_that_of_the_thread_that_answers(engine: Engine) -> None:
    sidecar = Sidecar(engine, "-i", "eth0", "-N", EXPOSED.name, health=OFTEN)
    wait_until(lambda: sidecar.healthy() == "healthy", "a healthy container", 20)
    os.kill(sidecar.process, SIGSTOP)
    stopped = time.monotonic()
    wait_until(lambda: sidecar.healthy() == "unhealthy", "an unhealthy container", 30)
    assert time.monotonic() - stopped > 5
    os.kill(sidecar.process, SIGCONT)
    wait_until(lambda: sidecar.healthy() == "healthy", "a healthy container again", 20)


def test_it_is_healthy_while_it_waits_for_its_interface(engine: Engine) -> None:
    sidecar = Sidecar(engine, "-i", "eth7", "-N", EXPOSED.name, health=OFTEN)
    event(sidecar, "waiting", timeout=20)
    wait_until(lambda: sidecar.healthy() != "starting", "a first check", 20)
    assert sidecar.healthy() == "healthy"


def test_the_check_is_cheap(engine: Engine) -> None:
    """Two runs a minute of a shell and find, where an interpreter would take more than the daemon does."""
    load(engine)
    with asking(engine) as client:
        check = client.inspect_image(IMAGE)["Config"]["Healthcheck"]
    assert check["Interval"] == 30 * 10**9
    assert check["Test"] == [
        "CMD-SHELL",
        'test -n "$(find "$NDPRESPONDER_HEARTBEAT" -newermt \'10 seconds ago\')"',
    ]


def test_a_socket_that_is_stale_is_mounted_anew(lab: Lab, engine: Engine, record_property: Record) -> None:
    """With the file mounted: dockerd makes it anew when it starts, and the sidecar ends then, and comes back."""
    engine.run("lasting", EXPOSED.name, LASTING)
    sidecar = Sidecar(engine, "-i", "eth0", "-N", EXPOSED.name)
    with Solicitor(lab, LASTING, interval=0.02) as lasting:
        lasting.first_answer(LASTING, 20)
        lasting.follow(LASTING)
        engine.stop_engine()
        wait_until(lambda: len(lasting.times(LASTING).asked) > 150, "three seconds without dockerd")
        asked, answered = lasting.times(LASTING)
        engine.start_engine()

        failed = event(sidecar, "failed", timeout=20)
        event(sidecar, "ready", 2, timeout=20)
        event(sidecar, "network", 2, timeout=20)
        last = lasting.times(LASTING).answered[-1]
        wait_until(lambda: lasting.times(LASTING).answered[-1] > last, "answers again")
        times = lasting.times(LASTING).answered

    # The last one can be on its way.
    assert len(asked) - len(answered) <= 1
    assert failed["message"].startswith("the engine has made its socket anew")
    assert sidecar.told()["RestartCount"] == 1
    record_gap(record_property, times)


def test_a_socket_that_is_stale_after_dockerd_was_killed(lab: Lab, engine: Engine, record_property: Record) -> None:
    """It can end while dockerd, which starts, does not take what it says yet, nor count it as one that ended."""
    engine.run("lasting", EXPOSED.name, LASTING)
    engine.create("changing", EXPOSED.name, EXPOSED.address(0x11))
    sidecar = Sidecar(engine, "-i", "eth0", "-N", EXPOSED.name)
    with Solicitor(lab, LASTING, interval=0.02) as lasting, Solicitor(lab) as changing:
        lasting.first_answer(LASTING, 20)
        lasting.follow(LASTING)
        first = sidecar.told()["State"]["Pid"]
        engine.kill_engine()
        wait_until(lambda: len(lasting.times(LASTING).asked) > 150, "three seconds without dockerd")
        asked, answered = lasting.times(LASTING)
        engine.start_engine()

        wait_until(lambda: sidecar.told()["State"]["Pid"] not in {0, first}, "another one", 20)
        engine.start("changing")
        changing.follow(EXPOSED.address(0x11))
        changing.first_answer(EXPOSED.address(0x11))
        last = lasting.times(LASTING).answered[-1]
        wait_until(lambda: lasting.times(LASTING).answered[-1] > last, "answers again")
        times = lasting.times(LASTING).answered

    # The last one can be on its way.
    assert len(asked) - len(answered) <= 1
    record_gap(record_property, times)


def record_gap(record_property: Record, times: list[float]) -> None:
    """Have the summary show the longest time without an answer, and assert that it was short."""
    gap = max(later - earlier for earlier, later in pairwise(times))
    record_property("from the last answer before the restart to the first one after", f"{gap:.1f} s")
    assert gap < 5


@how_dockerd_ends
def test_with_the_socket_s_directory_mounted_nothing_is_lost(
    lab: Lab, engine: Engine, end: Callable[[Engine], None]
) -> None:
    engine.run("lasting", EXPOSED.name, LASTING)
    engine.create("changing", EXPOSED.name, EXPOSED.address(0x11))
    sidecar = Sidecar(
        engine,
        *("-i", "eth0", "-N", EXPOSED.name),
        volumes=[f"{engine.socket.parent}:{DIRECTORY}:ro"],
        environment={"DOCKER_HOST": f"unix://{DIRECTORY}/{engine.socket.name}"},
    )
    with Solicitor(lab, LASTING, interval=0.05) as lasting, Solicitor(lab) as changing:
        lasting.first_answer(LASTING, 20)
        lasting.follow(LASTING)
        end(engine)
        wait_until(lambda: len(lasting.times(LASTING).asked) > 60, "three seconds without dockerd")
        engine.start_engine()
        engine.start("changing")
        changing.follow(EXPOSED.address(0x11))
        changing.first_answer(EXPOSED.address(0x11))
        lost = lasting.lost()

    assert lost == {}
    assert sidecar.told()["RestartCount"] == 0


# What it needs


@pytest.mark.usefixtures("running_engine")
def test_a_hundred_containers(record_property: Record) -> None:
    # An engine of its own, as its end is quick.
    with Lab() as lab, Engine(lab.vps) as engine:
        load(engine)
        engine.create_network(EXPOSED)
        with ThreadPoolExecutor(4) as threads:
            for running in [threads.submit(engine.run, f"c-{number}", EXPOSED.name) for number in range(MANY)]:
                running.result()
        addresses = [engine.address(f"c-{number}", EXPOSED.name) for number in range(MANY)]
        begun = time.monotonic()
        sidecar = Sidecar(engine, "-i", "eth0", "-N", EXPOSED.name)
        event(sidecar, "ready", timeout=20)
        took = time.monotonic() - begun
        with Solicitor(lab, *addresses, interval=0.1) as solicitor:
            for address in addresses:
                solicitor.first_answer(address)
            # So many rounds: the snapshot of the host has been taken, and announcing has begun.
            wait_until(lambda: len(solicitor.times(addresses[-1]).answered) > 20, "twenty answers for each")
        status = status_of(sidecar.process)

    record_property("from the call to ready", f"{1000 * took:.0f} ms")
    resident, most = (int(status[name].split()[0]) for name in ("VmRSS", "VmHWM"))
    record_property("resident memory", f"{resident / 1000:.1f} MB, at most {most / 1000:.1f} MB")
    assert most < RESIDENT
