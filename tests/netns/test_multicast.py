"""Group memberships on a veth, and what the daemon says and sends so as to hear solicitations."""

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from errno import EINVAL, ENODEV, ENOMEM
from pathlib import Path
from time import perf_counter

import pytest
from scapy.layers.inet6 import ICMPv6MRD_Advertisement, ICMPv6MRD_Termination, IPv6, IPv6ExtHdrHopByHop, RouterAlert
from scapy.layers.l2 import Ether
from vectors import OUR_MAC, TARGET, advertise, solicit
from wire import PREFIX, SNAPSHOTS, Wire, event, events

from ndpresponder.multicast import Memberships

LINK_LOCAL = "fe80::5"


@contextmanager
def memberships(wire: Wire) -> Iterator[Memberships]:
    with wire.host.entered():
        held = Memberships(socket.if_nametoindex("eth0"))
        with closing(held):
            yield held


def joined(wire: Wire) -> dict[int, int]:
    """Return the solicited-node groups of ndpresponder's end, by their last 24 bits: how many have joined each."""
    found = {}
    for line in wire.host.ip("maddr show dev eth0").splitlines():
        words = line.split()
        if words[0] == "inet6" and words[1].startswith("ff02::1:ff"):
            octets = socket.inet_pton(socket.AF_INET6, words[1])
            found[int.from_bytes(octets[13:], "big")] = int(words[3]) if "users" in words else 1
    return found


@pytest.fixture
def bare(wire: Wire) -> Wire:
    """The cable, with no addresses at ndpresponder's end."""
    wire.host.ip("link set eth0 addrgenmode none")
    wire.host.ip("address flush dev eth0")
    assert joined(wire) == {}
    return wire


def descriptors() -> list[str]:
    return sorted(entry.name for entry in Path("/proc/self/fd").iterdir())


# Memberships


def test_the_groups_are_those_that_were_last_given(bare: Wire) -> None:
    with memberships(bare) as held:
        for groups in ({1, 2, 0xFFFFFF}, {2, 3}, set(), {0x808080}):
            held.follow(frozenset(groups))
            assert joined(bare) == dict.fromkeys(groups, 1)
            assert len(held) == len(groups)
    assert joined(bare) == {}


def test_a_group_that_the_kernel_has_joined_itself_stays(bare: Wire) -> None:
    bare.host.ip("address add 2001:db8::7/64 dev eth0")
    with memberships(bare) as held:
        held.follow(frozenset({7, 8}))
        assert joined(bare) == {7: 2, 8: 1}
        held.follow(frozenset())
        assert joined(bare) == {7: 1}


def test_they_are_spread_over_sockets(bare: Wire) -> None:
    bare.limit_option_memory(1000)
    at_first = descriptors()
    with memberships(bare) as held:
        before = len(descriptors())
        held.follow(frozenset(range(100)))
        assert joined(bare) == dict.fromkeys(range(100), 1)
        # 56 octets each: 17 in 1,000.
        most = len(descriptors())
        assert most - before == 6
        for start in range(0, 1000, 50):
            held.follow(frozenset(range(start, start + 100)))
            assert joined(bare) == dict.fromkeys(range(start, start + 100), 1)
        # The room of those that were left is used again.
        assert len(descriptors()) == most
    assert joined(bare) == {}
    assert descriptors() == at_first


def test_without_memory_for_any(bare: Wire) -> None:
    bare.limit_option_memory(0)
    with memberships(bare) as held:
        before = descriptors()
        with pytest.raises(OSError, match="Cannot allocate memory") as caught:
            held.follow(frozenset({1}))
        assert caught.value.errno == ENOMEM
        assert descriptors() == before
        bare.limit_option_memory(1000)
        held.follow(frozenset({1}))
        assert joined(bare) == {1: 1}


@pytest.mark.alone
def test_five_thousand(bare: Wire) -> None:
    with memberships(bare) as held:
        before = perf_counter()
        held.follow(frozenset(range(5000)))
        assert perf_counter() - before < 0.5
        assert len(joined(bare)) == 5000


def test_while_ipv6_is_disabled(bare: Wire) -> None:
    bare.host.sysctl("net/ipv6/conf/eth0/disable_ipv6", 1)
    with memberships(bare) as held:
        held.follow(frozenset({1}))
        bare.host.sysctl("net/ipv6/conf/eth0/disable_ipv6", 0)
        held.follow(frozenset({1, 2}))
        assert joined(bare) == {1: 1, 2: 1}


def test_an_interface_without_ipv6(bare: Wire) -> None:
    bare.host.ip("link set eth0 mtu 1279")
    with memberships(bare) as held, pytest.raises(OSError, match="Invalid argument") as caught:
        held.follow(frozenset({1}))
    assert caught.value.errno == EINVAL


@pytest.mark.parametrize("noticed", [True, False])
def test_groups_that_have_gone_with_ipv6_are_joined_again(bare: Wire, *, noticed: bool) -> None:
    with memberships(bare) as held:
        held.follow(frozenset({5, 6}))
        before = descriptors()
        bare.host.ip("link set eth0 mtu 1279")
        if noticed:
            with pytest.raises(OSError, match="Invalid argument"):
                held.follow(frozenset({5, 6, 7}))
            assert len(held) == 0
        bare.host.ip("link set eth0 mtu 1500")
        held.follow(frozenset({6, 7}))
        # The kernel has given it a link-local address, whose group is 1.
        assert {group: users for group, users in joined(bare).items() if group > 1} == {6: 1, 7: 1}
        assert descriptors() == before
    assert joined(bare).keys() <= {1}


def test_an_interface_that_is_gone(bare: Wire) -> None:
    with memberships(bare) as held:
        held.follow(frozenset({1, 2}))
        bare.unplug()
        # With a MAC whose link-local address, which the kernel gives it by and by, is in none of these groups.
        bare.plug("52:54:00:00:00:77")
        with pytest.raises(OSError, match="No such device") as caught:
            held.follow(frozenset({1, 3}))
        assert caught.value.errno == ENODEV
        # Its name is another's now.
        assert not joined(bare).keys() & {1, 2, 3}
        with memberships(bare) as anew:
            anew.follow(frozenset({1}))
            assert joined(bare)[1] == 1


# What the daemon says


def told(program_line: dict[str, object]) -> tuple[object, object]:
    return program_line["groups"], str(program_line["message"]).partition(" instructions")[2]


@pytest.mark.parametrize(
    ("arguments", "groups", "words"),
    [
        (("-n", "2001:db8::/120"), 255, ", 255 groups joined"),
        (("-n", "2001:db8::/120,2001:db8:1::7"), 255, ", 255 groups joined"),
        (("-n", "2001:db8::/120", "--multicast", "join"), 255, ", 255 groups joined"),
        (("-n", "2001:db8::/120", "--multicast", "mrd"), 255, ", 255 groups joined"),
        (("-n", "2001:db8::/120", "--multicast", "allmulti"), 0, ""),
        (("-n", PREFIX, "--multicast", "allmulti"), 0, ""),
        (("-n", PREFIX), 0, f", 0 groups joined, none of {PREFIX}"),
        (("-n", "2001:db8::/120", "--multicast-groups", "255"), 0, ", 0 groups joined, none of 2001:db8::/120"),
        (("-n", "2001:db8::/117", "--multicast-groups", "2048"), 2047, ", 2047 groups joined"),
    ],
)
def test_ready_tells_the_groups(bare: Wire, arguments: tuple[str, ...], groups: int, words: str) -> None:
    program = bare.answering(*arguments)
    assert told(event(program, "ready")) == (groups, words)
    assert len(joined(bare)) == groups
    assert events(program, "multicast") == []
    assert program.stop() == 0
    assert joined(bare) == {}


def test_join_alone_is_not_enough_for_a_wide_prefix(bare: Wire) -> None:
    program = bare.answering("-n", PREFIX, "--multicast", "join")
    assert event(program, "multicast")["message"] == (
        f"with --multicast join, eth0 need not receive multicast solicitations for {PREFIX}: "
        "more than 1024 groups each (--multicast-groups)"
    )


def test_groups_follow_the_set(bare: Wire) -> None:
    bare.host.ip("address add 2001:db8::5/64 dev eth0")
    program = bare.answering("-n", "2001:db8::/124")
    event(program, "owned", timeout=SNAPSHOTS)
    # The kernel's own membership remains.
    assert joined(bare) == dict.fromkeys(range(1, 16), 1)


def test_groups_of_an_interface_that_comes_again(bare: Wire) -> None:
    program = bare.answering("-n", "2001:db8::/124")
    bare.host.ip("link set eth0 down")
    event(program, "waiting")
    assert joined(bare) == {}
    bare.host.ip("link set eth0 up")
    event(program, "ready", 2)
    assert joined(bare) == dict.fromkeys(range(1, 16), 1)


def test_it_answers_where_it_cannot_join(bare: Wire) -> None:
    bare.host.ip("link set eth0 mtu 1279")
    program = bare.answering("-n", "2001:db8::d000/120")
    assert event(program, "multicast")["message"] == (
        "cannot join multicast groups on eth0 (Invalid argument): "
        "where a switch snoops on MLD, solicitations will not arrive"
    )
    assert told(event(program, "ready"))[0] == 0
    assert bare.ask(TARGET) == [advertise()]

    # Once IPv6 is back on the interface, it is joined for what could not be.
    bare.host.ip("link set eth0 mtu 1500")
    bare.host.ip("address add 2001:db8:1::5/64 dev eth0")
    assert event(program, "multicast", 2)["message"] == "the multicast groups on eth0 are joined now"
    assert set(range(0xD001, 0xD100)) <= joined(bare).keys()


def test_it_joins_again_what_went_with_ipv6(bare: Wire) -> None:
    bare.host.ip("address add 2001:db8:1::99/64 dev eth0")
    program = bare.answering("-n", "2001:db8::/124")
    event(program, "ready")
    bare.host.ip("link set eth0 mtu 1279")
    event(program, "multicast", timeout=SNAPSHOTS)
    bare.host.ip("link set eth0 mtu 1500")
    bare.host.ip("address add 2001:db8:1::99/64 dev eth0")
    event(program, "multicast", 2, timeout=SNAPSHOTS)

    assert {*range(1, 16)} <= joined(bare).keys()
    assert [line["message"].partition(" (")[0] for line in events(program, "multicast")] == [
        "cannot join multicast groups on eth0",
        "the multicast groups on eth0 are joined now",
    ]


# Deafness

SHORT_MINUTES = "from ndpresponder import cli, daemon; daemon._SUMMARY = 0.1; cli.main()"
MULTICAST = bytes(solicit())
UNICAST = bytes.fromhex(OUR_MAC.replace(":", "")) + MULTICAST[6:]


def minutes(wire: Wire, *frames: bytes, mode: str = "auto") -> list[dict[str, object]]:
    """Have one frame after the other answered, each in a minute of its own; return what was said about multicast."""
    program = wire.start("-c", SHORT_MINUTES, "-i", "eth0", "-n", PREFIX, "--multicast", mode)
    event(program, "ready")
    for number, frame in enumerate(frames, 1):
        wire.send(frame)
        event(program, "summary", number)
    assert program.stop() == 0
    assert len(events(program, "summary")) == len(frames)
    return events(program, "deaf")


@pytest.mark.parametrize("mode", ["auto", "allmulti", "join", "mrd"])
def test_unicast_only_is_told_once(bare: Wire, mode: str) -> None:
    remedies = {
        "auto": "try --multicast mrd",
        "allmulti": "try --multicast auto for addresses and small prefixes, --multicast mrd for wide ones",
        "join": "try --multicast mrd",
        "mrd": "and it drops what --multicast mrd sends: ask those who run it",
    }
    [deaf] = minutes(bare, *[UNICAST] * 5, mode=mode)
    assert deaf["level"] == "warn"
    assert deaf["multicast"] == mode
    assert deaf["message"] == (
        "3 minutes with solicitations on eth0, and none by multicast: most likely a switch that snoops on MLD keeps "
        f"them away, and addresses that are new to the router are not reachable; {remedies[mode]}"
    )


@pytest.mark.parametrize(
    "frames",
    [[UNICAST] * 2, [MULTICAST] * 4, [MULTICAST] + [UNICAST] * 5, [UNICAST] * 2 + [MULTICAST] + [UNICAST] * 5],
    ids=["too-early", "multicast", "multicast-before", "multicast-in-time"],
)
def test_otherwise_there_is_nothing_to_tell(bare: Wire, frames: list[bytes]) -> None:
    assert minutes(bare, *frames) == []


# Posing as a multicast router


def test_what_is_sent_to_snoopers(bare: Wire) -> None:
    bare.host.ip(f"address add {LINK_LOCAL}/64 dev eth0")
    with bare.asker.entered():
        ear = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    with ear:
        ear.bind(("eth0", 0x86DD))
        ear.settimeout(5)

        def hear() -> bytes:
            while True:
                frame = ear.recv(65536)
                if frame[38:54] == socket.inet_pton(socket.AF_INET6, "ff02::6a"):
                    return frame

        program = bare.answering("-n", PREFIX, "--multicast", "mrd")
        headers = (
            Ether(dst="33:33:00:00:00:6a", src=OUR_MAC)
            / IPv6(src=LINK_LOCAL, dst="ff02::6a", hlim=1)
            / IPv6ExtHdrHopByHop(options=[RouterAlert(value=0)])
        )
        advertisement = bytes(headers / ICMPv6MRD_Advertisement(advinter=20, queryint=0, robustness=0))
        assert [hear() for _ in range(3)] == [advertisement] * 3
        assert program.stop() == 0
        while (frame := hear()) == advertisement:
            pass
        assert frame == bytes(headers / ICMPv6MRD_Termination())


@contextmanager
def heard_by_switches(wire: Wire) -> Iterator[socket.socket]:
    """A socket that hears what is sent while duplicate address detection is at work on ndpresponder's end."""
    wire.host.sysctl("net/ipv6/conf/eth0/accept_dad", 1)
    with wire.asker.entered(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as ear:
        ear.bind(("eth0", 0x86DD))
        ear.settimeout(5)
        yield ear


def is_for_routers(frame: bytes) -> bool:
    return frame[38:54] == socket.inet_pton(socket.AF_INET6, "ff02::6a")


def test_it_poses_as_soon_as_its_address_is_known_to_be_its_own(bare: Wire) -> None:
    with heard_by_switches(bare) as ear:
        bare.host.ip(f"address add {LINK_LOCAL}/64 dev eth0")
        program = bare.answering("-n", PREFIX, "--multicast", "mrd")
        while not is_for_routers(ear.recv(65536)):
            pass
        assert "tentative" not in bare.host.ip("address show dev eth0")
    assert events(program, "multicast") == []


def test_from_anothers_address_it_does_not_pose(bare: Wire) -> None:
    bare.asker.ip(f"address add {LINK_LOCAL}/64 dev eth0")
    with heard_by_switches(bare) as ear:
        bare.host.ip(f"address add {LINK_LOCAL}/64 dev eth0")
        program = bare.answering("-n", PREFIX, "--multicast", "mrd")
        assert event(program, "multicast", timeout=SNAPSHOTS)["message"] == (
            "cannot pose as a multicast router: no link-local address of eth0 is known to be its own"
        )
        assert program.stop() == 0
        ear.settimeout(0)
        with suppress(BlockingIOError):
            while True:
                assert not is_for_routers(ear.recv(65536))


@pytest.mark.parametrize("broken", [False, True], ids=["none", "unknown"])
def test_without_a_link_local_address_it_says_so(bare: Wire, tmp_path: Path, *, broken: bool) -> None:
    if broken:
        (tmp_path / "pyroute2.py").write_text("raise ImportError")
    program = bare.answering("-n", PREFIX, "--multicast", "mrd", environment={"PYTHONPATH": str(tmp_path)})
    assert event(program, "multicast")["message"] == (
        "cannot pose as a multicast router: no link-local address of eth0 is known to be its own"
    )
    assert bare.ask(TARGET) == [advertise()]
    assert program.stop() == 0


@pytest.mark.parametrize(("count", "warned"), [(1024, False), (1025, True)])
def test_many_groups_are_warned_of(bare: Wire, count: int, *, warned: bool) -> None:
    program = bare.answering("-n", ",".join(f"2001:db8::{number:x}" for number in range(1, count + 1)))
    assert bare.ask("2001:db8::1") == [advertise("2001:db8::1")]
    assert program.stop() == 0
    expected = (
        f"{count} groups joined on eth0: the kernel walks through them for each multicast frame; "
        "where no switch snoops on MLD, --multicast allmulti spares it that"
    )
    assert [line["message"] for line in events(program, "multicast")] == [expected] * warned
