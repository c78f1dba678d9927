"""Link on a veth: opening, the filter and its replacement, what is received and what is dropped."""

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from errno import EINVAL, ENETDOWN, ENODEV, ENOMEM
from ipaddress import IPv6Network
from pathlib import Path

import pytest
from namespaces import Namespace
from vectors import OUR_MAC, advertise, solicit
from wire import Wire

from ndpresponder.addresses import AddressSet, Rule
from ndpresponder.filter import JUMP_EQUAL, Instruction, compile_filter, traffic_of
from ndpresponder.link import Link, NotEthernetError


def frames(*targets: str) -> list[bytes]:
    return [bytes(solicit(target)) for target in targets]


def accepting(*prefixes: str) -> tuple[Instruction, ...]:
    return compile_filter(AddressSet(Rule(IPv6Network(prefix), "static") for prefix in prefixes)).instructions


@contextmanager
def opened(namespace: Namespace, name: str = "eth0") -> Iterator[Link]:
    with namespace.entered():
        link = Link(name)
    with closing(link):
        yield link


def waiting(link: Link) -> list[bytes]:
    """Return what has arrived: over a veth that is done when sending returns."""
    received = []
    while (frame := link.receive()) is not None:
        received.append(frame)
    return received


def test_the_identity_is_the_interfaces_as_it_is_now(wire: Wire) -> None:
    with opened(wire.host) as link:
        assert link.identity() == ("eth0", bytes.fromhex(OUR_MAC.replace(":", "")))
        wire.host.ip("link set eth0 address 52:54:00:00:00:77")
        assert link.identity() == ("eth0", bytes.fromhex("525400000077"))
        wire.host.ip("link set eth0 down")
        wire.host.ip("link set eth0 name wan0")
        assert link.identity() == ("wan0", bytes.fromhex("525400000077"))
        wire.host.ip("link delete wan0")
        assert link.identity()[0] == ""


def test_the_carrier_is_that_of_now(wire: Wire) -> None:
    with opened(wire.host) as link:
        assert link.has_carrier()
        wire.asker.ip("link set eth0 down")
        assert not link.has_carrier()
        wire.asker.ip("link set eth0 up")
        assert link.has_carrier()
        assert link.is_up()
        wire.host.ip("link set eth0 down")
        assert not link.is_up()
        wire.host.ip("link delete eth0")
        with pytest.raises(OSError, match="No such device"):
            link.has_carrier()


def test_nothing_is_received_before_a_filter_is_attached(wire: Wire) -> None:
    [early, late] = frames("2001:db8::1", "2001:db8::2")
    with opened(wire.host) as link:
        wire.send(early)
        link.attach(accepting("2001:db8::/112"))
        wire.send(late)
        assert waiting(link) == [late]


def test_the_filter_is_replaced_in_place(wire: Wire) -> None:
    one, other, both = "2001:db8:1::1", "2001:db8:2::1", "2001:db8:3::1"
    with opened(wire.host) as link:
        for accepted in (one, other):
            link.attach(accepting(accepted, both))
            for frame in frames(one, other, both):
                wire.send(frame)
        # Those that had arrived before the replacement stay.
        assert waiting(link) == frames(one, both, other, both)


def program_of(length: int) -> list[Instruction]:
    """Return a program of this length, mostly of comparisons as those that compile_filter() makes."""
    program = accepting("2001:db8::/112")
    return [Instruction(JUMP_EQUAL, 0, 0, 0x86DD)] * (length - len(program)) + [*program]


def test_the_longest_program_is_accepted(wire: Wire) -> None:
    [frame] = frames("2001:db8::1")
    with opened(wire.host) as link:
        link.attach(program_of(4096))
        wire.send(frame)
        assert waiting(link) == [frame]


def test_a_longer_program_is_refused(wire: Wire) -> None:
    with opened(wire.host) as link, pytest.raises(OSError, match="Invalid argument") as caught:
        link.attach(program_of(4097))
    assert caught.value.errno == EINVAL


# The longest program needs 33,040.
@pytest.mark.parametrize("octets", [131_072, 50_000])
def test_the_longest_program_is_replaced_by_the_longest(wire: Wire, octets: int) -> None:
    """Exchanged directly, both would be charged to the socket at once."""
    [frame] = frames("2001:db8::1")
    wire.limit_option_memory(octets)
    with opened(wire.host) as link:
        for _ in range(5):
            link.attach(program_of(4096))
        wire.send(frame)
        assert waiting(link) == [frame]


def test_a_program_for_which_there_is_no_memory_leaves_one_that_accepts_every_target(wire: Wire) -> None:
    [elsewhere] = frames("2001:db8:9::9")
    wire.limit_option_memory(20_480)
    with opened(wire.host) as link:
        with pytest.raises(OSError, match="Cannot allocate memory") as caught:
            link.attach(program_of(4096))
        assert caught.value.errno == ENOMEM
        wire.send(elsewhere)
        assert waiting(link) == [elsewhere]


def test_a_whole_frame_is_sent(wire: Wire) -> None:
    with opened(wire.host) as link:
        link.send(advertise())
    assert wire.hear() == advertise()


def test_drops_are_counted_once(wire: Wire) -> None:
    [frame] = frames("2001:db8::1")
    sent = 20_000
    with opened(wire.host) as link:
        link.attach(accepting("2001:db8::/112"))
        assert link.drops() == 0
        for _ in range(sent):
            wire.send(frame)

        received = len(waiting(link))
        assert 0 < received < sent
        assert link.drops() == sent - received
        assert link.drops() == 0


def test_what_leaves_the_host_is_not_received(wire: Wire) -> None:
    [out, back] = frames("2001:db8::1", "2001:db8::2")
    with opened(wire.host) as link, wire.host.entered(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as other:
        link.attach(accepting("2001:db8::/112"))
        other.bind(("eth0", 0))
        other.send(out)
        wire.send(back)
        assert waiting(link) == [back]


def test_the_loopback_interface(wire: Wire) -> None:
    with pytest.raises(NotEthernetError, match=r"^lo$"), opened(wire.host, "lo"):
        pass


@pytest.mark.parametrize("name", ["eth1", "", "a-name-that-is-too-long-for-the-kernel"])
def test_no_such_interface(wire: Wire, name: str) -> None:
    with pytest.raises(OSError, match="No such device") as caught, opened(wire.host, name):
        pass
    assert (caught.value.errno, caught.value.filename) == (ENODEV, name)


def test_an_interface_that_is_down(wire: Wire) -> None:
    wire.host.ip("link set eth0 down")
    with pytest.raises(OSError, match="Network is down") as caught, opened(wire.host):
        pass
    assert (caught.value.errno, caught.value.filename) == (ENETDOWN, "eth0")


@pytest.mark.parametrize("loss", ["link set eth0 down", "link delete eth0"])
def test_a_link_that_is_lost(wire: Wire, loss: str) -> None:
    with opened(wire.host) as link:
        link.attach(accepting("2001:db8::/112"))
        wire.host.ip(loss)
        with pytest.raises(OSError, match="Network is down") as caught:
            link.receive()
        assert caught.value.errno == ENETDOWN


def descriptors() -> list[str]:
    return sorted(entry.name for entry in Path("/proc/self/fd").iterdir())


def test_a_link_that_could_not_be_opened_leaves_no_descriptor(wire: Wire) -> None:
    before = descriptors()
    for name in ("lo", "eth1"):
        with pytest.raises((NotEthernetError, OSError)), opened(wire.host, name):
            pass
    assert descriptors() == before


def test_what_this_host_sends_is_heard_if_that_is_wanted(wire: Wire) -> None:
    prefix = AddressSet([Rule(IPv6Network("2001:db8::/112"), "static")])
    with wire.host.entered():
        link = Link("eth0", outgoing=True)
    # A socket does not hear what it sends itself.
    with closing(link), opened(wire.host) as other:
        link.attach(traffic_of(prefix).instructions)
        ours = advertise("2001:db8::1")
        other.send(ours)
        # A solicitation of our own, an advertisement about something else.
        other.send(bytes(solicit("2001:db8::3")))
        other.send(advertise("2001:db8:1::1"))

        assert waiting(link) == [ours]


def test_a_frame_of_a_vlan_is_not_heard_among_what_is_sent(wire: Wire) -> None:
    prefix = AddressSet([Rule(IPv6Network("2001:db8::/112"), "static")])
    with wire.host.entered():
        link = Link("eth0", outgoing=True)
    with closing(link):
        link.attach(traffic_of(prefix).instructions)
        frame = bytes(solicit("2001:db8::2"))
        wire.send(frame[:12] + bytes.fromhex("81000005") + frame[12:])
        wire.send(frame)

        assert waiting(link) == [frame]
