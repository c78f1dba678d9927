"""The control socket of the real daemon, and `status`."""

import json
import os
import pty
import re
import socket
import stat
import subprocess
import sys
import time
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from select import select
from signal import SIGHUP, SIGINT, SIGKILL
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from fake_engine import Engine
from lab import Program, wait_until
from namespaces import end, run
from vectors import TARGET, advertise, solicit
from wire import PREFIX, Wire, event, events

NARROW = "2001:db8::d003/128"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A runtime directory of the test's own, that is not there yet."""
    return tmp_path / "run"


def ndpresponder(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ndpresponder", *arguments],
        env=os.environ | {"RUNTIME_DIRECTORY": str(directory)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def status(directory: Path, *arguments: str) -> list[dict[str, Any]]:
    """What the daemons are at."""
    done = ndpresponder(directory, "status", "-j", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def answering(wire: Wire, directory: Path, *arguments: str) -> Program:
    """Start it, and wait until it can be asked."""
    before = sockets(directory)
    program = wire.answering(*arguments, environment={"RUNTIME_DIRECTORY": str(directory)})
    if directory.parent.is_dir():
        wait_until(lambda: sockets(directory) not in ([], before), "a socket")
    return program


def sockets(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.sock"))


def test_what_was_answered_by_what(wire: Wire, directory: Path) -> None:
    program = answering(wire, directory, "-n", f"{PREFIX},{NARROW}", "-x", "2001:db8::9")
    assert wire.ask(TARGET, TARGET, "2001:db8::5") == [advertise(), advertise(), answer_for("2001:db8::5")]
    bad = bytearray(bytes(solicit(TARGET)))
    bad[56] ^= 1
    wire.send(bytes(bad))
    assert wire.ask(TARGET) == [advertise()]

    [daemon] = status(directory)
    [interface] = daemon["interfaces"]
    assert (daemon["version"], daemon["process"], daemon["file"], daemon["engine"]) == (
        1,
        program.process.pid,
        None,
        "",
    )
    assert 0 < interface["since"] <= daemon["uptime"] < 60
    ready = event(program, "ready")
    expected = {
        "interface": "eth0",
        "ifname": "eth0",
        "state": "answering",
        "mac": ready["mac"],
        "carrier": True,
        "engine": {"kind": "packet socket", "instructions": ready["instructions"], "exact": True},
        "groups": ready["groups"],
        "conflicts": 0,
        "multicast": "auto",
        "excluded": ["2001:db8::9/128"],
        "networks": [],
        "answered": 4,
        "answered_multicast": 4,
        "refused": {"checksum": 1},
        "unsent": {},
        "dropped": 0,
    }
    assert {key: interface[key] for key in expected} == expected
    assert [(each["prefix"], each["answered"]) for each in interface["prefixes"]] == [(PREFIX, 1), (NARROW, 3)]
    assert all(0 <= each["last"] <= interface["since"] for each in interface["prefixes"])

    text = ndpresponder(directory, "status").stdout
    assert re.search(r"^interface: eth0\n  state:     answering for \d+ s\n", text, re.MULTILINE)
    assert re.search(rf"^  {NARROW} answered 3, last \d+ s ago$", text, re.MULTILINE)
    assert "  refused:   1 (1 checksum)\n" in text
    assert program.stop() == 0
    assert list(directory.iterdir()) == []


def answer_for(target: str) -> bytes:
    return advertise(target=target)


def test_only_for_this_user(wire: Wire, directory: Path) -> None:
    answering(wire, directory)
    [path] = sockets(directory)
    mode = path.stat()
    assert (stat.S_IMODE(mode.st_mode), stat.S_ISSOCK(mode.st_mode)) == (0o600, True)


def test_a_group(wire: Wire) -> None:
    # The tests' own directories are for root alone.
    with TemporaryDirectory() as parent:
        Path(parent).chmod(0o755)
        directory = Path(parent) / "run"
        answering(wire, directory, "-n", PREFIX, "--control-group", "12345")
        [path] = sockets(directory)
        wait_until(lambda: stat.S_IMODE(path.stat().st_mode) == 0o660, "the group's right")
        assert path.stat().st_gid == 12345
        assert asked_as(12345, directory) == "[1]\n"
        assert asked_as(54321, directory) == (
            f"{path}: permission denied; root may, and the group of --control-group\n"
        )
        # A daemon that does not let them does not hide one that does.
        with closing(socket.socket(socket.AF_UNIX)) as other:
            other.bind(str(directory / "0-other.sock"))
            (directory / "0-other.sock").chmod(0o600)
            assert asked_as(12345, directory) == "[1]\n"


def asked_as(group: int, directory: Path) -> str:
    """What somebody of this group is told, who can read no more than that directory."""
    script = f"""
import os, sys
from pathlib import Path
from ndpresponder.client import ClientError, ask
os.setgroups([])
os.setgid({group})
os.setuid(54321)
try:
    print([reply["version"] for reply in ask("status", print, Path(sys.argv[1]))])
except ClientError as error:
    print(error)
"""
    return run(sys.executable, "-c", script, directory).stdout


def test_after_a_kill(wire: Wire, directory: Path) -> None:
    first = answering(wire, directory)
    [stale] = sockets(directory)
    first.process.send_signal(SIGKILL)
    first.wait()
    assert ndpresponder(directory, "status").stderr == (
        f"ndpresponder: no daemon was found: no control socket in {directory} answers\n"
    )
    second = answering(wire, directory)
    assert [daemon["process"] for daemon in status(directory)] == [second.process.pid]
    assert stale not in sockets(directory)


def test_two_daemons(wire: Wire, directory: Path, tmp_path: Path) -> None:
    """They are told apart by the file and by the interface."""
    file = tmp_path / "f.toml"
    file.write_text(
        f'[[interface]]\nifname = "eth0"\nsubnet = "{PREFIX}"\n[[interface]]\nifname = "eth9"\nsubnet = "{NARROW}"\n'
    )
    first = wire.start("--config", str(file), environment={"RUNTIME_DIRECTORY": str(directory)})
    event(first, "ready")
    second = wire.start("-i", "eth8", "-n", PREFIX, environment={"RUNTIME_DIRECTORY": str(directory)})
    event(second, "waiting")
    wait_until(lambda: len(sockets(directory)) == 2, "two sockets")
    pids = {first.process.pid, second.process.pid}
    assert {daemon["process"] for daemon in status(directory)} == pids
    [by_file] = status(directory, "-c", str(file))
    assert (by_file["process"], by_file["file"]) == (first.process.pid, str(file))
    [by_name] = status(directory, "-i", "eth8")
    assert by_name["process"] == second.process.pid
    [eth8] = by_name["interfaces"]
    assert (eth8["state"], eth8["reason"]) == ("waiting", "No such device")
    [both] = status(directory, "-i", "eth9", "-c", str(file))
    assert [each["interface"] for each in both["interfaces"]] == ["eth9"]
    assert [each["process"] for each in status(directory, "-c", f"{tmp_path}/x/../f.toml")] == [first.process.pid]
    done = ndpresponder(directory, "status", "-c", "/f.toml")
    assert (done.returncode, done.stderr) == (1, f"ndpresponder: none reads /f.toml; what they read: {file}\n")
    done = ndpresponder(directory, "status", "-i", "eth7")
    assert (done.returncode, done.stdout, done.stderr) == (
        1,
        "",
        "ndpresponder: no daemon was found that answers on eth7\n",
    )


def test_counts_go_on_over_a_reload_and_a_lost_interface(wire: Wire, directory: Path, tmp_path: Path) -> None:
    file = tmp_path / "f.toml"
    file.write_text(f'[[interface]]\nifname = "eth0"\nsubnet = ["{PREFIX}", "{NARROW}"]\n')
    program = wire.start("--config", str(file), environment={"RUNTIME_DIRECTORY": str(directory)})
    event(program, "ready")
    assert wire.ask(TARGET, "2001:db8::5") == [advertise(), answer_for("2001:db8::5")]

    file.write_text(f'control-group = "12345"\n[[interface]]\nifname = "eth0"\nsubnet = "{PREFIX}"\nrouter = true\n')
    program.process.send_signal(SIGHUP)
    event(program, "reloaded")
    wire.host.ip("link set eth0 down")
    event(program, "lost")
    wire.host.ip("link set eth0 up")
    event(program, "ready", 3)
    wire.forget()
    wire.host.await_carrier("eth0")
    assert wire.ask("2001:db8::5") == [answer_for("2001:db8::5")]

    [daemon] = status(directory)
    [interface] = daemon["interfaces"]
    assert [(each["prefix"], each["answered"]) for each in interface["prefixes"]] == [(PREFIX, 2)]
    assert interface["answered"] == 3
    [path] = sockets(directory)
    assert (stat.S_IMODE(path.stat().st_mode), path.stat().st_gid) == (0o660, 12345)


def test_docker_networks(wire: Wire, directory: Path, tmp_path: Path) -> None:
    """Counts belong to the network: containers come and go."""
    first, second = "2001:db8::2", "2001:db8::3"
    engine = Engine(tmp_path / "docker.sock")
    engine.create("web")
    engine.run("web", "first", first)
    with engine:
        environment = {"RUNTIME_DIRECTORY": str(directory), "DOCKER_HOST": engine.host}
        program = wire.answering("-N", "web", "-N", "mail", "--no-announce", environment=environment)
        event(program, "network", 2)
        for _ in range(2):
            assert wire.ask(first) == [advertise(first, flags="RSO")]
        engine.halt("web", "first")
        engine.run("web", "second", second)
        program.wait_for(f"+{second}")
        assert wire.ask(second) == [advertise(second, flags="RSO")]

        [daemon] = status(directory)
        [interface] = daemon["interfaces"]
        assert [{**each, "last": each["last"] is None} for each in interface["networks"]] == [
            {"network": "web", "addresses": 1, "answered": 3, "last": False},
            {"network": "mail", "addresses": None, "answered": 0, "last": True},
        ]
    wait_until(lambda: bool(events(program, "engine")), "that the engine is missed")
    [daemon] = status(directory)
    assert daemon["engine"] == events(program, "engine")[0]["reason"]


def test_many_who_ask_do_not_keep_it_from_answering(wire: Wire, directory: Path) -> None:
    prefixes = ",".join(f"2001:db8:1:{number:x}::/64" for number in range(2000))
    program = answering(wire, directory, "-n", PREFIX, "-n", prefixes)
    [path] = sockets(directory)
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(64)]
        for client in clients:
            client.connect(str(path))
            with suppress(BrokenPipeError, ConnectionResetError):
                # None of them reads what it asks for.
                client.sendall(b'{"version": 1, "request": "status"}\n' * 100)
        for _ in range(200):
            assert wire.ask(TARGET) == [advertise()]
    # Until what they have asked for is dealt with, they count as clients.
    wait_until(lambda: ndpresponder(directory, "status").returncode == 0, "room for one more", 20)
    [daemon] = status(directory)
    assert daemon["interfaces"][0]["prefixes"][0]["answered"] == 200
    assert program.stop() == 0
    assert events(program)[-1]["message"] == "stopped: answered 200"


@pytest.mark.parametrize("coloured", [True, False])
def test_watched_on_a_terminal(wire: Wire, directory: Path, *, coloured: bool) -> None:
    answering(wire, directory)
    environment = os.environ | {"RUNTIME_DIRECTORY": str(directory), "NO_COLOR": "" if coloured else "1"}
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "ndpresponder", "status", "--watch"]
    with closing(os.fdopen(master, "rb", buffering=0)) as terminal:
        with subprocess.Popen(command, env=environment, stdin=slave, stdout=slave, stderr=slave) as watching:
            os.close(slave)
            seen = b""
            while seen.count(b"\033[H\033[J") < 3:
                assert select([terminal], [], [], 20)[0]
                seen += terminal.read(65536)
            watching.send_signal(SIGINT)
            assert watching.wait(10) == 130
        _, first, second, _ = seen.decode().split("\033[H\033[J")
    pages = [re.sub(r"\d+ s", "N s", page) for page in (first, second)]
    assert pages[0] == pages[1]
    assert ("\033[1;32minterface\033[0m: \033[1;32meth0\033[0m\r\n" in first) is coloured
    assert ("\ninterface: eth0\r\n" in first) is not coloured


def test_watched_while_it_is_started_again(wire: Wire, directory: Path) -> None:
    first = answering(wire, directory)
    command = [sys.executable, "-m", "ndpresponder", "status", "-j", "--watch"]
    watching = subprocess.Popen(
        command,
        env=os.environ | {"RUNTIME_DIRECTORY": str(directory)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert watching.stdout
        assert watching.stderr
        assert json.loads(watching.stdout.readline())["process"] == first.process.pid
        assert first.stop() == 0
        none = f"ndpresponder: no daemon was found: no control socket in {directory} answers\n"
        assert watching.stderr.readline() == none
        second = answering(wire, directory)
        while (seen := json.loads(watching.stdout.readline())["process"]) == first.process.pid:
            pass
        assert seen == second.process.pid
        watching.send_signal(SIGINT)
        assert watching.wait(10) == 130
    finally:
        end(watching)


def test_without_a_place_it_answers(wire: Wire, tmp_path: Path) -> None:
    program = answering(wire, tmp_path / "not" / "there")
    assert event(program, "control")["message"] == (
        f"no control socket in {tmp_path}/not/there (No such file or directory): "
        "`ndpresponder status` does not find this process"
    )
    assert wire.ask(TARGET) == [advertise()]
    assert program.stop() == 0
    assert len(events(program, "control")) == 1


def test_without_descriptors_there_is_a_line_and_later_a_reply(wire: Wire, directory: Path) -> None:
    program = answering(wire, directory)
    process = str(program.process.pid)
    # Those that are open stay.
    run("prlimit", "--pid", process, "--nofile=1:1024")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(sockets(directory)[0]))
        line = event(program, "system")
        # Time for the next two attempts.
        time.sleep(2.5)
        assert wire.ask(TARGET) == [advertise()]
        # All lines are JSON.
        assert events(program, "system") == [line]
        assert (line["level"], line["reason"]) == ("warn", "Too many open files")
        assert line["message"].endswith(" (Too many open files)")

        run("prlimit", "--pid", process, "--nofile=1024:1024")
        client.sendall(b'{"version": 1, "request": "status"}\n')
        client.settimeout(5)
        assert client.recv(1)
    assert program.stop() == 0
