"""What changes on the host while ndpresponder runs: it follows, and says so, one line per change."""

from collections.abc import Callable
from ipaddress import IPv6Address
from pathlib import Path

import pytest
from lab import Program, wait_until
from vectors import OUR_MAC, TARGET, advertise
from wire import PREFIX, SNAPSHOTS, Wire, event, events

OTHER_MAC = "52:54:00:00:00:77"
INSIDE = "2001:db8::77"
LAST = "2001:db8::ffff"
MANY = [f"2001:db8::{number:x}" for number in range(1, 21)]


def messages(program: Program, *words: str) -> list[str]:
    return [line["message"] for line in events(program, *words)]


def answers(wire: Wire, target: str) -> bool:
    """Whether the target is answered; the question behind it tells when that is known."""
    wire.forget()
    heard = wire.ask(target, LAST)
    return any(frame[62:78] == bytes.fromhex("20010db8000000000000000000000077") for frame in heard)


def test_another_mac_is_followed(wire: Wire) -> None:
    program = wire.answering()
    wire.host.ip(f"link set eth0 address {OTHER_MAC}")
    event(program, "mac", timeout=1)

    [frame] = wire.ask(TARGET)
    # The Ethernet source, and the target link-layer address at the end.
    assert (frame[6:12], frame[80:]) == (packed(OTHER_MAC), packed(OTHER_MAC))
    assert messages(program, "mac") == [f"eth0 has another MAC: {OTHER_MAC}"]


def packed(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def test_an_address_that_the_uplink_takes_and_gives_back(wire: Wire) -> None:
    program = wire.answering()
    assert answers(wire, INSIDE)

    wire.host.ip(f"address add {INSIDE}/128 dev eth0")
    event(program, "owned", timeout=SNAPSHOTS)
    # The kernel answers now, and overrides.
    wire.forget()
    assert [frame[58] for frame in wire.ask(INSIDE)] == [0x60]

    wire.host.ip(f"address del {INSIDE}/128 dev eth0")
    event(program, "owned", 2, timeout=SNAPSHOTS)
    wire.forget()
    assert wire.ask(INSIDE) == [advertise(INSIDE)]
    assert messages(program, "owned") == [
        f"not answering for {INSIDE}: held by eth0 or its gateway",
        "eth0 and its gateway hold nothing of the prefixes any more",
    ]


def test_the_gateway_is_followed(wire: Wire) -> None:
    wire.host.ip("-6 route add 2001:db8::/64 dev eth0")
    program = wire.answering()
    wire.host.ip(f"-6 route add default via {INSIDE} dev eth0")
    event(program, "owned", timeout=SNAPSHOTS)
    assert not answers(wire, INSIDE)

    wire.host.ip("-6 route replace default via 2001:db8::78 dev eth0")
    event(program, "owned", 2, timeout=SNAPSHOTS)
    assert answers(wire, INSIDE)


def test_a_renamed_interface_is_another_one(wire: Wire) -> None:
    program = wire.answering()
    for old, new in (("eth0", "wan0"), ("wan0", "eth0")):
        wire.host.ip(f"link set {old} down")
        wire.host.ip(f"link set {old} name {new}")
        wire.host.ip(f"link set {new} up")
        if new == "wan0":
            event(program, "waiting")
    event(program, "ready", 2)

    assert wire.ask(TARGET) == [advertise()]


def test_the_name_of_another_kind_of_interface_is_waited_for(wire: Wire) -> None:
    program = wire.answering()
    for name, taken in (("eth0", "wan0"), ("lo", "eth0")):
        wire.host.ip(f"link set {name} down")
        wire.host.ip(f"link set {name} name {taken}")
    wire.host.ip("link set eth0 up")
    reason = "not an Ethernet interface: nobody solicits neighbors there"
    wait_until(lambda: any(line["reason"] == reason for line in events(program, "waiting")), "the reason")

    for name, given_back in (("eth0", "lo"), ("wan0", "eth0")):
        wire.host.ip(f"link set {name} down")
        wire.host.ip(f"link set {name} name {given_back}")
    wire.host.ip("link set eth0 up")
    event(program, "ready", 2)
    wire.forget()
    assert wire.ask(TARGET) == [advertise()]


def test_the_carrier_is_reported_and_nothing_else_happens(wire: Wire) -> None:
    program = wire.answering()
    wire.asker.ip("link set eth0 down")
    event(program, "carrier")
    wire.asker.ip("link set eth0 up")
    event(program, "carrier", 2)

    wire.forget()
    assert wire.ask(TARGET) == [advertise()]
    assert [line["event"] for line in events(program)] == ["ready", "carrier", "carrier"]
    assert messages(program, "carrier") == ["eth0 lost its carrier", "eth0 has its carrier back"]


def test_a_port_of_a_bridge_is_warned_of(wire: Wire) -> None:
    wire.host.ip("link add br0 type bridge")
    wire.host.ip("link set br0 up")
    wire.host.ip("link set eth0 master br0")
    program = wire.answering()
    line = event(program, "bridge")
    assert (line["level"], line["interface"], line["bridge"]) == ("warn", "eth0", "br0")
    for number, master in enumerate(("nomaster", "master br0", "nomaster"), 2):
        wire.host.ip(f"link set eth0 {master}")
        event(program, "bridge", number)

    port = "eth0 is a port of the bridge br0, which takes its frames: answer on br0 instead"
    none = "eth0 is no port of a bridge any more"
    assert messages(program, "bridge") == [port, none, port, none]
    wire.forget()
    assert wire.ask(TARGET) == [advertise()]


def test_auto_is_the_interface_of_the_default_route(wire: Wire) -> None:
    wire.host.ip("link add eth1 type veth peer name peer1")
    for name in ("eth1", "peer1"):
        wire.host.ip(f"link set {name} up")
    program = wire.start("-i", "auto", "-n", PREFIX)
    event(program, "waiting", 1, timeout=SNAPSHOTS)
    assert messages(program, "waiting") == [
        "waiting for auto: the main routing table has no IPv6 default route; there are: lo, eth0, peer1, eth1"
    ]

    wire.host.ip("-6 route add default via fe80::1 dev eth0 metric 100")
    assert event(program, "ready", timeout=SNAPSHOTS)["interface"] == "eth0"
    assert wire.ask(TARGET) == [advertise()]

    wire.host.ip("-6 route add default via fe80::1 dev eth1 metric 50")
    assert event(program, "ready", 2, timeout=SNAPSHOTS)["interface"] == "eth1"
    assert messages(program, "lost") == ["lost eth0: the default route goes through eth1 now"]


def test_auto_waits_while_the_default_route_is_a_tunnels(wire: Wire) -> None:
    wire.host.ip("-6 route add default via fe80::1 dev eth0 metric 100")
    program = wire.start("-i", "auto", "-n", PREFIX)
    event(program, "ready", timeout=SNAPSHOTS)

    wire.host.ip("-6 route add default dev lo metric 50")
    event(program, "waiting", timeout=SNAPSHOTS)
    assert messages(program, "waiting") == [
        "waiting for lo: not an Ethernet interface: nobody solicits neighbors there; there are: lo, eth0"
    ]

    wire.host.ip("-6 route del default dev lo")
    event(program, "ready", 2, timeout=SNAPSHOTS)
    assert wire.ask(TARGET) == [advertise()]


def test_auto_stays_where_it_is_while_there_is_no_default_route(wire: Wire) -> None:
    wire.host.ip("-6 route add default via fe80::1 dev eth0")
    program = wire.start("-i", "auto", "-n", PREFIX)
    event(program, "ready", timeout=SNAPSHOTS)

    wire.host.ip("-6 route del default")
    wire.host.ip(f"address add {INSIDE}/128 dev eth0")
    event(program, "owned", timeout=SNAPSHOTS)
    # The kernel answers, and nobody else.
    wire.forget()
    assert [frame[58] for frame in wire.ask(INSIDE)] == [0x60]
    assert [line["event"] for line in events(program)] == ["ready", "owned"]


def test_waiting_for_a_default_route_is_no_busy_loop(wire: Wire, tmp_path: Path) -> None:
    looks = tmp_path / "looks"
    (tmp_path / "pyroute2.py").write_text(f"open({str(looks)!r}, 'a').write('.'); raise ImportError('broken')")
    program = wire.start("-i", "auto", "-n", PREFIX, environment={"PYTHONPATH": str(tmp_path)})
    event(program, "waiting", timeout=SNAPSHOTS)

    flap = "while :; do ip -6 route add unreachable default; ip -6 route del unreachable default; done"
    wire.host.run("timeout", "2", "sh", "-c", flap, check=False)
    # One, and those in two seconds, before each of which there is a fifth of a second.
    assert len(looks.read_text()) <= 11


def test_thousands_of_routes_in_a_burst_change_nothing(wire: Wire) -> None:
    program = wire.answering()
    wire.host.batch(f"route add 2001:db8:{number:x}::/48 dev eth0" for number in range(1, 5001))
    wire.host.ip(f"address add {INSIDE}/128 dev eth0")
    event(program, "owned", timeout=SNAPSHOTS)

    assert not [frame for frame in wire.ask(INSIDE) if frame == advertise(INSIDE)]
    wire.forget()
    assert wire.ask(TARGET) == [advertise()]
    assert program.stop() == 0


def test_without_netlink_it_answers_and_says_what_is_lost(wire: Wire) -> None:
    without = (
        "from ndpresponder import cli, netlink\n"
        "def refused(self): raise OSError(97, 'Address family not supported by protocol')\n"
        "netlink.Changes.__init__ = netlink.Kernel.__init__ = refused\n"
        "cli.main()"
    )
    program = wire.start("-c", without, "-i", "eth0", "-n", PREFIX)
    event(program, "ready")

    assert wire.ask(TARGET) == [advertise()]
    assert messages(program, "netlink") == [
        "changes of addresses and gateways are not followed: no netlink (Address family not supported by protocol)"
    ]
    wire.host.ip("link set eth0 down")
    event(program, "waiting")
    wire.host.ip("link set eth0 up")
    event(program, "ready", 2)
    assert wire.ask(TARGET) == [advertise()]


def down_and_up(wire: Wire) -> None:
    wire.host.ip("link set eth0 down")
    wire.host.ip("link set eth0 up")


def gone_and_back(wire: Wire) -> None:
    wire.unplug()
    wire.plug()


def moved_away_and_back(wire: Wire) -> None:
    wire.host.ip(f"link set eth0 netns {wire.asker.name} name away")
    wire.asker.ip(f"link set away netns {wire.host.name} name eth0")
    wire.host.ip("link set eth0 up")


def another_mac_and_back(wire: Wire) -> None:
    wire.host.ip(f"link set eth0 address {OTHER_MAC}")
    wire.host.ip(f"link set eth0 address {OUR_MAC}")


def renamed_and_back(wire: Wire) -> None:
    for old, new in (("eth0", "wan0"), ("wan0", "eth0")):
        wire.host.ip(f"link set {old} down")
        wire.host.ip(f"link set {old} name {new}")
        wire.host.ip(f"link set {new} up")


def carrier_lost_and_back(wire: Wire) -> None:
    wire.asker.ip("link set eth0 down")
    wire.asker.ip("link set eth0 up")
    wire.forget()


def address_taken_and_given_back(wire: Wire) -> None:
    wire.host.ip(f"address add {INSIDE}/128 dev eth0")
    wire.host.ip(f"address del {INSIDE}/128 dev eth0")


EVENTS: list[Callable[[Wire], None]] = [
    down_and_up,
    gone_and_back,
    moved_away_and_back,
    another_mac_and_back,
    renamed_and_back,
    carrier_lost_and_back,
    address_taken_and_given_back,
]


@pytest.mark.minutes
@pytest.mark.parametrize("happening", EVENTS)
def test_fifty_times_and_nothing_has_grown(wire: Wire, happening: Callable[[Wire], None]) -> None:
    program = wire.answering()
    happening(wire)
    wait_until(lambda: wire.is_answered(TARGET), "the first answer", 3)
    # That for changes, and that for neighbor entries, which is opened last.
    wait_until(lambda: netlink_sockets(program) >= 2, "both of the sockets that stay")
    settled = resources(program)
    for number in range(50):
        happening(wire)
        # Within a second of the interface's return; the first look after that is a tenth of a second.
        wait_until(lambda: wire.is_answered(TARGET), f"an answer after event {number}", 1.2)
        # From then on none is lost. (The MAC in it has up to a second to follow.)
        wire.forget()
        assert [target_of(frame) for frame in wire.ask(*MANY)] == MANY
    wait_until(lambda: resources(program)[0] <= settled[0], f"no more descriptors than {settled[0]}")

    assert resources(program)[1] - settled[1] < 1024
    assert program.stop() == 0


def target_of(frame: bytes) -> str:
    """Return whom an advertisement is about."""
    return str(IPv6Address(frame[62:78]))


def netlink_sockets(program: Program) -> int:
    """Return how many netlink sockets there are on the program's host, the kernel's own not counted."""
    _, *lines = Path(f"/proc/{program.process.pid}/net/netlink").read_text().splitlines()
    return sum(line.split()[2] != "0" for line in lines)


def resources(program: Program) -> tuple[int, int]:
    """Return how many descriptors the program has open, and how many kilobytes are resident."""
    process = Path(f"/proc/{program.process.pid}")
    status = (process / "status").read_text().splitlines()
    [resident] = [int(line.split()[1]) for line in status if line.startswith("VmRSS:")]
    return len(list((process / "fd").iterdir())), resident
