"""A configuration file: several interfaces in one process, and what a reload changes, keeps, and refuses."""

import json
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from signal import SIGHUP
from threading import Event, Thread
from typing import Any

import pytest
from fake_engine import Engine
from lab import Program, wait_until
from namespaces import connect
from vectors import TARGET, advertise, solicit
from wire import PREFIX, Wire, event, events, signalled

from ndpresponder.claim import DIRECTORY

OTHER = "2001:db8:1::d003"
ETH0 = f'[[interface]]\nifname = "eth0"\nsubnet = ["{PREFIX}"]\n'
ETH1 = '[[interface]]\nifname = "eth1"\nsubnet = ["2001:db8:9::/112"]\n'

_SO_RCVBUFFORCE = 33  # asm-generic/socket.h


class Configured:
    """The program with a configuration file that changes."""

    def __init__(self, wire: Wire, path: Path) -> None:
        self.wire = wire
        self.path = path

    def start(self, text: str, *arguments: str) -> Program:
        """Start with this file, and wait for an answer on eth0 to be possible."""
        self.path.write_text(text)
        self.program = self.wire.start("--config", str(self.path), *arguments)
        event(self.program, "ready")
        return self.program

    def reload(self, text: str) -> dict[str, object]:
        """Change the file, have it read, and return the line that says what came of it."""
        before = len(events(self.program, "reloaded", "not-reloaded"))
        self.path.write_text(text)
        self.program.process.send_signal(SIGHUP)
        wait_until(lambda: len(events(self.program, "reloaded", "not-reloaded")) > before, "a reload")
        return {
            key: value for key, value in events(self.program, "reloaded", "not-reloaded")[-1].items() if key != "time"
        }

    def control(self) -> Path:
        """Return the control socket, as soon as it is there."""
        sockets: list[Path] = []

        def there() -> bool:
            sockets[:] = DIRECTORY.glob(f"{self.program.process.pid}-*.sock")
            return bool(sockets)

        wait_until(there, "a control socket")
        return sockets[0]

    def sockets(self, ifname: str) -> set[str]:
        """The packet sockets on an interface, by their inodes (/proc/net/packet)."""
        index = self.wire.host.ip(f"-o link show {ifname}").partition(":")[0]
        table = Path(f"/proc/{self.program.process.pid}/net/packet").read_text().splitlines()[1:]
        return {line.split()[8] for line in table if line.split()[4] == index}


@pytest.fixture
def configured(wire: Wire, tmp_path: Path) -> Iterator[Configured]:
    """Two hosts with a second cable, eth1 at both ends."""
    connect(wire.asker, "eth1", wire.host, "eth1")
    configured = Configured(wire, tmp_path / "f.toml")
    yield configured
    # Not killed: then what it has in /run would be left behind.
    if configured.program.process.poll() is None:
        configured.program.stop()
    assert list(DIRECTORY.glob(f"*{tmp_path.name}*")) == []


@pytest.fixture
def ear(configured: Configured) -> Iterator[socket.socket]:
    """What the asker hears on eth1."""
    with configured.wire.asker.entered(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as ear:
        ear.bind(("eth1", 0x86DD))
        ear.settimeout(5)
        yield ear


def answered_on(ear: socket.socket, target: str) -> bytes:
    """Solicit a target, and return its answer; what is no advertisement passes."""
    ear.send(bytes(solicit(target)))
    while True:
        frame = ear.recv(65536)
        if (frame[20], frame[54]) == (58, 136):
            return frame


def test_two_interfaces(configured: Configured, ear: socket.socket) -> None:
    program = configured.start(ETH0 + ETH1)
    event(program, "ready", 2)
    assert sorted(line["interface"] for line in events(program, "ready")) == ["eth0", "eth1"]

    assert configured.wire.ask(TARGET) == [advertise()]
    assert answered_on(ear, "2001:db8:9::5")[22:38] == socket.inet_pton(socket.AF_INET6, "2001:db8:9::5")
    # Each has its own.
    assert configured.wire.ask("2001:db8:9::5", TARGET) == [advertise()]
    assert program.stop() == 0
    assert events(program)[-1]["message"] == "stopped: answered 3"


def test_one_waits_while_the_other_answers(configured: Configured) -> None:
    program = configured.start(ETH0 + ETH1.replace("eth1", "eth7"))
    assert event(program, "waiting")["interface"] == "eth7"
    assert configured.wire.ask(TARGET) == [advertise()]
    assert program.stop() == 0


def test_addresses_change_and_the_socket_stays(configured: Configured) -> None:
    configured.start(ETH0 + ETH1)
    event(configured.program, "ready", 2)
    before = configured.sockets("eth0"), configured.sockets("eth1")

    assert configured.reload(ETH0.replace(PREFIX, "2001:db8:1::/112", 1) + ETH1) == {
        "level": "info",
        "event": "reloaded",
        "message": "reloaded: changed: eth0",
        "new": [],
        "changed": ["eth0"],
        "gone": [],
        "settings": [],
    }

    assert configured.wire.ask(TARGET, OTHER) == [advertise(OTHER)]
    assert (configured.sockets("eth0"), configured.sockets("eth1")) == before
    assert len(before[0]) == len(before[1]) == 1
    # The interface that did not change says nothing.
    assert [line["interface"] for line in events(configured.program, "ready")][2:] == ["eth0"]


def test_nothing_changed(configured: Configured) -> None:
    configured.start(ETH0)
    # Nor does a comment, which moves all lines.
    assert configured.reload(f"# more\n{ETH0}")["message"] == "reloaded: nothing changed"
    assert len(events(configured.program, "ready")) == 1


def test_what_is_for_the_whole_process_changes(configured: Configured) -> None:
    configured.start(ETH0)
    assert configured.reload('log-level = "DEBUG"\n' + ETH0)["message"] == "reloaded: changed: log-level"
    line = configured.reload('control-group = "0"\n' + ETH1)
    assert line["message"] == "reloaded: new: eth1; changed: log-level, control-group; gone: eth0"
    assert (line["changed"], line["settings"]) == ([], ["log-level", "control-group"])


@pytest.mark.parametrize("point", ["click", "ndpresponder.daemon"])
def test_asked_for_before_it_can_be_heard(configured: Configured, point: str) -> None:
    """When it has just begun, and when `reload` finds the process already."""
    configured.path.write_text(ETH0)
    configured.program = configured.wire.start("-c", signalled(SIGHUP, point), "--config", str(configured.path))
    assert event(configured.program, "reloaded")["message"] == "reloaded: nothing changed"
    event(configured.program, "ready")
    assert configured.wire.ask(TARGET) == [advertise()]


def test_interfaces_come_and_go(configured: Configured, ear: socket.socket) -> None:
    program = configured.start(ETH0)

    assert configured.reload(ETH0 + ETH1)["message"] == "reloaded: new: eth1"
    event(program, "ready", 2)
    assert answered_on(ear, "2001:db8:9::5")[22:38] == socket.inet_pton(socket.AF_INET6, "2001:db8:9::5")

    assert configured.reload(ETH1)["message"] == "reloaded: gone: eth0"
    # The thread that answered holds the socket until it has waited in vain for another frame.
    wait_until(lambda: configured.sockets("eth0") == set(), "no socket on eth0")
    assert configured.reload(ETH0)["message"] == "reloaded: new: eth0; gone: eth1"
    event(program, "ready", 3)
    assert configured.wire.ask(TARGET) == [advertise()]
    wait_until(lambda: configured.sockets("eth1") == set(), "no socket on eth1")
    assert program.stop() == 0
    # What was answered on those that are gone is not forgotten.
    assert events(program)[-1]["message"] == "stopped: answered 2"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (ETH0.replace("subnet", "subnets"), "{path}:3: subnets is not a key here; "),
        ("", "{path}: nothing to answer for: "),
        ("[[", "{path}:1: "),
        ('control-group = "99999999999"\n' + ETH0, '{path}:1: control-group cannot be "99999999999"; '),
        (
            ETH0.replace(PREFIX, "2001:db8:1::/112") + ETH1.replace("eth1", "lo"),
            "lo is not an Ethernet interface: nobody solicits neighbors there; ",
        ),
        (
            ETH0.replace(PREFIX, "2001:db8:1::/112") + ETH1.replace("eth1", "eth7") + "wait = false\n",
            "eth7: No such device; there are: ",
        ),
    ],
)
def test_all_or_nothing(configured: Configured, text: str, reason: str) -> None:
    configured.start(ETH0)
    before = configured.sockets("eth0")

    line = configured.reload(text)

    begin = f"not reloaded, going on as before: {reason.format(path=configured.path)}"
    assert (line["level"], line["event"]) == ("error", "not-reloaded")
    assert str(line["message"]).startswith(begin)
    assert configured.wire.ask(OTHER, TARGET) == [advertise()]
    assert configured.sockets("eth0") == before
    assert configured.sockets("eth1") == set()
    # And when the file is right again, all is.
    assert configured.reload(ETH0)["message"] == "reloaded: nothing changed"


def test_a_file_that_is_gone(configured: Configured) -> None:
    configured.start(ETH0)
    configured.path.unlink()
    configured.program.process.send_signal(SIGHUP)
    line = event(configured.program, "not-reloaded")
    assert line["reason"] == f"{configured.path}: No such file or directory"
    assert configured.wire.ask(TARGET) == [advertise()]


def test_policy_changes_on_the_same_socket(configured: Configured) -> None:
    program = configured.start(ETH0)
    before = configured.sockets("eth0")

    configured.reload(f'{ETH0}router = false\noverride = "always"\n')
    assert configured.wire.ask(TARGET) == [advertise(flags="SO")]
    configured.reload(ETH0)
    assert configured.wire.ask(TARGET) == [advertise()]

    assert configured.sockets("eth0") == before
    assert program.stop() == 0


def test_multicast_changes_on_the_same_socket(configured: Configured) -> None:
    """One address, so that its group can be joined."""
    text = ETH0.replace(PREFIX, TARGET)

    def state() -> tuple[bool, bool]:
        """Whether all multicast is received, and whether the address's group is joined."""
        shown = configured.wire.host.ip("-d link show eth0")
        return "allmulti 1" in shown, "ff02::1:ff00:d003" in configured.wire.host.ip("-6 maddress show dev eth0")

    configured.start(text)
    before = configured.sockets("eth0")
    assert state() == (True, True)
    configured.reload(f'{text}multicast = "allmulti"\n')
    assert state() == (True, False)
    configured.reload(f'{text}multicast = "join"\n')
    assert state() == (False, True)
    configured.reload(f'{text}multicast = "mrd"\ngateway = "off"\nannounce = false\n')
    assert state() == (True, True)
    configured.reload(text)
    assert state() == (True, True)
    assert configured.sockets("eth0") == before
    assert configured.wire.ask(TARGET) == [advertise()]
    assert configured.program.stop() == 0


def test_the_level_changes(configured: Configured) -> None:
    configured.start(ETH0)
    configured.wire.ask(TARGET)
    configured.reload('log-level = "DEBUG"\n' + ETH0)
    configured.wire.ask(TARGET)
    event(configured.program, "answered")
    configured.reload(ETH0)
    configured.wire.ask(TARGET)
    configured.program.stop()
    assert len(events(configured.program, "answered")) == 1


def test_the_flag_for_the_level_comes_first(configured: Configured) -> None:
    configured.start('log-level = "FATAL"\n' + ETH0, "--log-level", "DEBUG")
    configured.wire.ask(TARGET)
    event(configured.program, "answered")
    configured.reload('log-level = "ERROR"\n' + ETH0)
    configured.wire.ask(TARGET)
    event(configured.program, "answered", 2)


# While there is much to answer


class Flood(Thread):
    """Solicits the same addresses over and over, as fast as they are answered, and counts."""

    _AHEAD = 400
    """How many are on their way at most: fewer than the queue holds, so that none is lost before the program has it."""
    _PATIENCE = 2.0

    def __init__(self, wire: Wire) -> None:
        super().__init__()
        with wire.asker.entered():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        # Room for all that are on their way.
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 22)
        self._socket.bind(("eth0", 0x86DD))
        self._socket.settimeout(self._PATIENCE)
        self._frames = [bytes(solicit(f"2001:db8::{number:x}")) for number in range(1, 100)]
        self._ending = Event()
        self.sent = self.answered = 0

    def run(self) -> None:
        """Go on until end() is called, and then until all is answered or nothing more comes."""
        with self._socket, suppress(TimeoutError):
            while not self._ending.is_set() or self.answered < self.sent:
                while not self._ending.is_set() and self.sent - self.answered < self._AHEAD:
                    self._socket.send(self._frames[self.sent % len(self._frames)])
                    self.sent += 1
                frame = self._socket.recv(65536)
                self.answered += (frame[20], frame[54]) == (58, 136)

    def end(self) -> None:
        """Send no more, and wait for the last answers."""
        self._ending.set()
        self.join()


def test_no_answer_is_lost(configured: Configured) -> None:
    """Twenty reloads under load, of everything that a reload can change on an interface and beside it."""
    wider = ETH0.replace(f'"{PREFIX}"', f'"{PREFIX}", "2001:db8:1::/112", "2001:db8:2::5"')
    texts = [
        wider,
        wider + 'exclude = "2001:db8::e000/120"\n',
        ETH0 + ETH1,
        ETH0 + 'multicast = "mrd"\ngateway = "off"\n' + ETH1,
        ETH0 + 'multicast = "allmulti"\nrouter = false\noverride = "always"\nannounce = false\n',
        ETH0 + "not = right\n",
        ETH0,
    ]
    program = configured.start(ETH0)
    before = configured.sockets("eth0")
    flood = Flood(configured.wire)
    flood.start()
    try:
        for number in range(20):
            configured.reload(texts[number % len(texts)])
    finally:
        flood.end()

    assert flood.sent > 5000
    assert flood.answered == flood.sent
    assert configured.sockets("eth0") == before
    assert len(events(program, "reloaded")) == 20 - 3
    assert program.stop() == 0
    stopped = events(program)[-1]
    assert (stopped["answered"], stopped["unsent"], stopped["dropped"]) == (flood.sent, {}, 0)


def test_cost(configured: Configured) -> None:
    """As much as flags cost, and what reading the file does."""
    program = configured.start(ETH0 + ETH1)
    event(program, "ready", 2)
    for _ in range(3):
        configured.reload(ETH0 + ETH1)
    status = Path(f"/proc/{program.process.pid}/status").read_text()
    [resident] = re.findall(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
    assert int(resident) <= 26 * 1024


# The command


def test_the_command_finds_the_process(configured: Configured) -> None:
    program = configured.start(ETH0)
    configured.control()
    host, path = configured.wire.host, configured.path
    command = configured.wire.command("reload", "--config", str(path))
    path.write_text(ETH0.replace(PREFIX, "2001:db8:1::/112"))

    done = host.run(*command)
    assert done.stdout == f"process {program.process.pid} has read {path} again: changed: eth0\n"
    assert len(events(program, "reloaded")) == 1
    assert configured.wire.ask(TARGET, OTHER) == [advertise(OTHER)]

    path.write_text("wait = 1")
    done = host.run(*command, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"ndpresponder: {path}:1: wait is not a key here; ")

    path.write_text(ETH0)
    assert program.stop() == 0
    done = host.run(*command, check=False)
    assert (done.returncode, done.stderr) == (
        1,
        f"ndpresponder: no process is known to run with {path}; SIGHUP has one that is not known read its file again\n",
    )


def test_the_command_tells_what_the_daemon_refuses(configured: Configured) -> None:
    """What is not to be seen in the file, as by `systemctl reload`."""
    program = configured.start(ETH0)
    configured.control()
    host, path = configured.wire.host, configured.path
    command = configured.wire.command("reload", "--config", str(path))

    def status() -> dict[str, Any]:
        done = host.run(*configured.wire.command("status", "-j", "-c", str(path)))
        reload: dict[str, Any] = json.loads(done.stdout)["reload"]
        return reload

    assert status() is None
    path.write_text(ETH0 + ETH1.replace("eth1", "eth7") + "wait = false\n")
    done = host.run(*command, check=False)
    reason = "eth7: No such device; there are: lo, eth0, eth1"
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"ndpresponder: process {program.process.pid} goes on as before: {reason}\n"
    told = status()
    assert (told["reloaded"], told["text"]) == (False, reason)
    assert 0 <= told["ago"] < 10
    page = host.run(*configured.wire.command("status", "-c", str(path))).stdout
    assert re.search(rf"^  not reloaded \d+ s ago, goes on as before: {re.escape(reason)}$", page, re.MULTILINE)

    path.write_text(ETH0)
    assert host.run(*command).stdout == f"process {program.process.pid} has read {path} again: nothing changed\n"
    assert (status()["reloaded"], status()["text"]) == (True, "nothing changed")
    assert "reloaded" not in host.run(*configured.wire.command("status", "-c", str(path))).stdout


def test_the_command_where_there_is_no_control_socket(configured: Configured) -> None:
    program = configured.start(ETH0)
    configured.control().unlink()
    done = configured.wire.host.run(*configured.wire.command("reload", "-c", str(configured.path)))
    assert done.stdout == (
        f"process {program.process.pid} reads {configured.path} again; its log says what comes of it\n"
    )
    event(program, "reloaded")


def test_one_process_for_a_file(configured: Configured) -> None:
    """With two of them, each solicitation is answered twice."""
    program = configured.start(ETH0)
    configured.control()
    host, path = configured.wire.host, configured.path

    done = host.run(*configured.wire.command("--config", str(path)), check=False, timeout=10)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"ndpresponder: process {program.process.pid} runs with {path} already; "
        f"`ndpresponder reload -c {path}` has it read that again\n"
    )
    # Nor has the first one lost anything by it.
    assert f"process {program.process.pid} " in host.run(*configured.wire.command("reload", "-c", str(path))).stdout
    event(program, "reloaded")


# Docker networks


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An engine with two networks, and a container in each."""
    engine = Engine(tmp_path / "docker.sock")
    for name, address in (("web", TARGET), ("mail", OTHER)):
        engine.create(name)
        engine.run(name, f"in-{name}", address)
    with engine:
        yield engine


def test_networks_without_the_sdk(configured: Configured) -> None:
    without = "import sys; sys.modules['docker'] = None; from ndpresponder import cli; cli.main()"
    configured.path.write_text(ETH0)
    configured.program = configured.wire.start("-c", without, "--config", str(configured.path))
    event(configured.program, "ready")

    assert configured.reload(ETH0 + 'docker-network = ["web"]\n')["reason"] == (
        f"{configured.path}:4: docker-network (-N) needs the Docker SDK for Python: "
        "pip install 'ndpresponder[docker]', or apt install python3-docker"
    )
    assert configured.wire.ask(TARGET) == [advertise()]


def test_networks_come_and_go(configured: Configured, engine: Engine, ear: socket.socket) -> None:
    web = '[[interface]]\nifname = "eth0"\ndocker-network = "web"\nannounce = false\n'
    configured.path.write_text(web)
    program = configured.wire.start("--config", str(configured.path), environment={"DOCKER_HOST": engine.host})
    configured.program = program
    event(program, "network")
    here = [advertise(TARGET, flags="RSO")]
    assert configured.wire.ask(TARGET) == here

    # One more network, for another interface; what is known of the first is kept.
    mail = web.replace("eth0", "eth1").replace("web", "mail")
    assert configured.reload(web + mail)["message"] == "reloaded: new: eth1"
    assert configured.wire.ask(TARGET) == here
    event(program, "network", 2)
    assert answered_on(ear, OTHER)[22:38] == socket.inet_pton(socket.AF_INET6, OTHER)
    assert configured.wire.ask(OTHER, TARGET) == here

    # None at all: the engine is not asked any more.
    configured.reload(ETH0.replace(PREFIX, "2001:db8::5"))
    assert configured.wire.ask(TARGET, "2001:db8::5") == [advertise("2001:db8::5")]
    configured.reload(web)
    event(program, "network", 3)
    assert configured.wire.ask(TARGET) == here
    assert program.stop() == 0
