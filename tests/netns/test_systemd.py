"""What the daemon tells the service manager, and when it no longer says that it is alive."""

import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from vectors import OUR_MAC, TARGET, advertise, solicit
from wire import PREFIX, Wire, event

# Half of it is the time between two signs of life: longer than the frame loop waits for a frame.
WATCHDOG_USEC = 2_000_000
ARGUMENTS = "-i", "eth0", "-n", PREFIX
# A frame that it never gets away from, while everything else goes on.
HANGS = "import time, ndpresponder.responder as room; room.answer = lambda *_: time.sleep(3600); "
BEGINS = "from ndpresponder.cli import main; main()"


class Manager:
    """The service manager's end of the notification socket."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(10)
        self.socket.bind(str(path))
        self.environment = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": str(WATCHDOG_USEC)}

    def hear(self, *, signs_of_life: bool = False) -> list[str]:
        """Return the next message, by default the next one that says more than that the daemon is alive."""
        while True:
            message = self.socket.recv(4096).decode().split("\n")
            if signs_of_life or message != ["WATCHDOG=1"]:
                return message

    def hears_nothing(self, seconds: float) -> bool:
        return not select.select([self.socket], [], [], seconds)[0]


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(tmp_path / "notify")
    yield manager
    manager.socket.close()


def test_the_start_is_over_when_it_answers(wire: Wire, manager: Manager) -> None:
    program = wire.start(*ARGUMENTS, environment=manager.environment)
    assert manager.hear() == ["READY=1", f"STATUS=answering on eth0 for {PREFIX}; answered 0"]
    assert wire.ask(TARGET) == [advertise()]
    assert program.stop() == 0
    assert manager.hear() == ["STOPPING=1"]


def test_the_start_is_over_when_it_waits(unplugged: Wire, manager: Manager) -> None:
    wire = unplugged
    wire.start(*ARGUMENTS, environment=manager.environment)
    assert manager.hear() == ["READY=1", "STATUS=waiting for eth0: No such device; answered 0"]
    # It has no frame loop, and is alive.
    signs = [manager.hear(signs_of_life=True) for _ in range(2)]
    assert signs == [["WATCHDOG=1"], ["WATCHDOG=1"]]
    wire.plug(OUR_MAC)
    # Its interface is there before it is up.
    states = iter(manager.hear, ["READY=1", f"STATUS=answering on eth0 for {PREFIX}; answered 0"])
    assert set(map(tuple, states)) <= {("READY=1", "STATUS=waiting for eth0: Network is down; answered 0")}


def test_a_start_that_fails_is_never_over(unplugged: Wire, manager: Manager) -> None:
    program = unplugged.start(*ARGUMENTS, "--no-wait", environment=manager.environment)
    assert program.wait() == 1
    assert manager.hear() == ["STOPPING=1"]


def test_it_is_alive_without_any_frame(wire: Wire, manager: Manager) -> None:
    program = wire.start(*ARGUMENTS, environment=manager.environment)
    event(program, "ready")
    manager.hear()
    signs = [manager.hear(signs_of_life=True) for _ in range(3)]
    assert signs == [["WATCHDOG=1"]] * 3


def test_a_frame_loop_that_hangs_is_not_alive(wire: Wire, manager: Manager) -> None:
    program = wire.start("-c", HANGS + BEGINS, *ARGUMENTS, environment=manager.environment)
    event(program, "ready")
    manager.hear()
    wire.send(bytes(solicit(TARGET)))
    # One sign was due at once, and another for the turns before that frame.
    signs: list[list[str]] = []
    while len(signs) < 3 and not manager.hears_nothing(2 * WATCHDOG_USEC / 1e6):
        signs.append(manager.hear(signs_of_life=True))
    assert signs in ([["WATCHDOG=1"]], [["WATCHDOG=1"]] * 2)
    assert program.process.poll() is None
