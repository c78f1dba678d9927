"""What the uplink and its gateway hold is left to them from the first frame on: nothing waits for a snapshot."""

import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

from lab import wait_until
from namespaces import Namespace
from vectors import OUR_MAC, TARGET, advertise, solicit
from wire import SNAPSHOTS, Wire, event, events

OWN, ANOTHER = "2001:db8::5", "2001:db8::6"
GATEWAY = "2001:db8::1"
INTERVAL = 0.001
AT_MOST = 30.0
"""Seconds that solicitations are sent."""


@contextmanager
def solicited(asker: Namespace, *targets: str) -> Iterator[Counter[bytes]]:
    """Solicit each of the targets a thousand times a second, and count the advertisements by what they are."""
    frames = [bytes(solicit(target)) for target in targets]
    heard: Counter[bytes] = Counter()
    over = Event()

    def send() -> None:
        end = time.monotonic() + AT_MOST
        while not over.wait(INTERVAL) and time.monotonic() < end:
            for frame in frames:
                # The other end is down yet, or not there.
                with suppress(OSError):
                    sender.send(frame)

    def hear() -> None:
        while not over.is_set():
            with suppress(OSError):
                frame = ear.recv(65536)
                if (frame[20], frame[54]) == (58, 136):
                    heard[frame] += 1

    with ExitStack() as undo:
        with asker.entered():
            sender, ear = (undo.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)) for _ in range(2))
        sender.bind(("eth0", 0))
        # ETH_P_IPV6: what this end sends is not heard.
        ear.bind(("eth0", 0x86DD))
        ear.settimeout(0.1)
        for work in (send, hear):
            thread = Thread(target=work)
            thread.start()
            undo.callback(thread.join)
        undo.callback(over.set)
        yield heard


def ours(heard: Counter[bytes], *targets: str) -> dict[str, int]:
    """Return how many answers we sent for each target: what a kernel answers has other flags."""
    return {target: heard[advertise(target)] for target in targets if heard[advertise(target)]}


def test_not_one_answer_is_sent_at_the_start(wire: Wire) -> None:
    wire.host.ip(f"address add {OWN}/64 dev eth0")
    wire.host.ip(f"-6 route add default via {GATEWAY}")
    with solicited(wire.asker, TARGET, GATEWAY, OWN) as heard:
        wait_until(lambda: heard[advertise(OWN, flags="SO")] > 0, "the kernel's answer")
        program = wire.answering()
        assert event(program, "owned", timeout=SNAPSHOTS)["addresses"] == [GATEWAY, OWN]
        wait_until(lambda: heard[advertise()] > 0, "an answer")

    assert ours(heard, GATEWAY, OWN) == {}
    assert program.stop() == 0
    assert [line["event"] for line in events(program)] == ["ready", "owned", "stopped"]


def test_nor_after_the_interface_was_made_again(wire: Wire, tmp_path: Path) -> None:
    """No snapshot helps here: there is none."""
    (tmp_path / "pyroute2.py").write_text("raise ImportError('broken')")
    wire.host.ip(f"address add {OWN}/64 dev eth0")
    wire.host.ip(f"-6 route add default via {GATEWAY}")
    program = wire.answering(environment={"PYTHONPATH": str(tmp_path)})
    event(program, "netlink", timeout=SNAPSHOTS)

    wire.unplug()
    event(program, "waiting")
    wire.asker.ip(f"link add eth0 type veth peer name eth0 address {OUR_MAC} netns {wire.host.name}")
    wire.asker.ip("link set eth0 up")
    with solicited(wire.asker, TARGET, GATEWAY, OWN, ANOTHER) as heard:
        # One address is new, and there before anything can be answered. What was there before is so later.
        wire.host.ip(f"address add {ANOTHER}/128 dev eth0")
        wire.host.ip("link set eth0 up")
        wait_until(lambda: heard[advertise()] > 0, "an answer")
        wire.host.batch([f"address add {OWN}/64 dev eth0", f"route add default via {GATEWAY}"])
        event(program, "netlink", 2, timeout=SNAPSHOTS)
        kernels = [advertise(own, flags="SO") for own in (OWN, ANOTHER)]
        wait_until(lambda: all(heard[answer] for answer in kernels), "the kernel's answers")

    assert ours(heard, GATEWAY, OWN, ANOTHER) == {}
    assert program.stop() == 0


def test_what_was_not_told_before_the_interface_was_lost_is_told_later(wire: Wire, tmp_path: Path) -> None:
    (tmp_path / "pyroute2.py").write_text("raise ImportError('broken')")
    wire.host.sysctl("net/ipv6/conf/eth0/keep_addr_on_down", 1)
    wire.host.ip(f"address add {OWN}/64 dev eth0")
    program = wire.answering(environment={"PYTHONPATH": str(tmp_path)})
    event(program, "netlink", timeout=SNAPSHOTS)
    (tmp_path / "pyroute2.py").unlink()
    wire.host.ip("link set eth0 down")
    event(program, "waiting")
    wire.host.ip("link set eth0 up")

    assert event(program, "owned", timeout=SNAPSHOTS)["addresses"] == [OWN]
