"""What is sent of itself on a veth when an address comes to live behind the host, octet for octet."""

import socket
from collections.abc import Iterator
from contextlib import closing
from ipaddress import IPv6Address
from time import monotonic

import pytest
from lab import wait_until
from living import Living
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptDstLLAddr, ICMPv6NDOptSrcLLAddr, IPv6
from scapy.layers.l2 import Ether
from vectors import OUR_MAC, advertise, group_of
from wire import Wire

from ndpresponder.policy import Override

OTHER_MAC = "52:54:00:00:00:77"
NEIGHBORS_MAC = "02:00:00:00:00:aa"
HOST = "2001:db8::2"
CONTAINER, SECOND = "2001:db8::d003", "2001:db8::d004"
GATEWAY, SECOND_GATEWAY = "fe80::abcd:1", "2001:db8::1"


class Ear:
    """What arrives at the asker's end of the cable and is a solicitation or an advertisement from our MAC."""

    def __init__(self, wire: Wire) -> None:
        with wire.asker.entered():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.bind(("eth0", 0x86DD))
        self._socket.settimeout(5)

    def close(self) -> None:
        self._socket.close()

    def forget(self) -> None:
        """Throw away what has been heard so far."""
        self._socket.settimeout(0)
        try:
            while True:
                self._socket.recv(1)
        except BlockingIOError:
            self._socket.settimeout(5)

    def hear(self) -> bytes:
        """Return the next frame of the announcer; what the kernel sends of the host's own addresses is none."""
        while True:
            frame = self._socket.recv(65536)
            if frame[20] == 58 and frame[54] in (135, 136) and b"\x20\x01\x0d\xb8" + bytes(10) + b"\xd0" in frame:
                return frame


@pytest.fixture
def host(wire: Wire) -> Wire:
    """The cable, with an address of its own at ndpresponder's end, and a gateway that there is not."""
    wire.host.ip("link set eth0 addrgenmode none")
    wire.host.ip("address flush dev eth0")
    wire.host.ip(f"address add {HOST}/64 dev eth0")
    wire.host.ip(f"-6 route add default via {GATEWAY} dev eth0")
    return wire


@pytest.fixture
def ear(host: Wire) -> Iterator[Ear]:
    with closing(Ear(host)) as ear:
        yield ear


def asked(target: str, source: str, mac: str = OUR_MAC) -> bytes:
    """Return a solicitation from our MAC."""
    group = group_of(target)
    last = IPv6Address(group).packed[12:].hex(":")
    return bytes(
        Ether(src=mac, dst=f"33:33:{last}")
        / IPv6(src=source, dst=group, hlim=255)
        / ICMPv6ND_NS(tgt=target)
        / ICMPv6NDOptSrcLLAddr(lladdr=mac)
    )


def told(target: str, flags: str = "RO", mac: str = OUR_MAC) -> bytes:
    """Return an unsolicited advertisement from our MAC."""
    return bytes(
        Ether(src=mac, dst="33:33:00:00:00:01")
        / IPv6(src=target, dst="ff02::1", hlim=255)
        / ICMPv6ND_NA(tgt=target, R="R" in flags, S=0, O="O" in flags)
        / ICMPv6NDOptDstLLAddr(lladdr=mac)
    )


def first(target: str, flags: str = "RO", mac: str = OUR_MAC) -> list[bytes]:
    """Return the frames by which an address is announced first."""
    return [asked(target, HOST, mac), asked(GATEWAY, target, mac), told(target, flags, mac)]


def hear(ear: Ear, count: int) -> list[bytes]:
    return [ear.hear() for _ in range(count)]


# What is sent


def test_an_address_is_asked_for_and_announced(host: Wire, ear: Ear) -> None:
    with Living(host.host) as living:
        begun = monotonic()
        living.publish(CONTAINER)
        assert hear(ear, 5) == [*first(CONTAINER), told(CONTAINER), told(CONTAINER)]
        assert monotonic() - begun >= 2
        # That was all of it.
        living.publish(CONTAINER, SECOND)
        assert hear(ear, 3) == first(SECOND)


def test_what_is_there_at_start_is_announced(host: Wire, ear: Ear) -> None:
    with Living(host.host, CONTAINER):
        assert hear(ear, 3) == first(CONTAINER)


@pytest.mark.parametrize(
    ("router", "override", "flags"),
    [(True, Override.ALWAYS, "RO"), (True, Override.NEVER, "R"), (False, Override.AUTO, "O")],
)
def test_flags(host: Wire, ear: Ear, *, router: bool, override: Override, flags: str) -> None:
    with Living(host.host, router=router, override=override) as living:
        living.publish(CONTAINER)
        assert hear(ear, 3) == first(CONTAINER, flags)


def test_each_gateway_is_told(host: Wire, ear: Ear) -> None:
    host.host.ip(f"-6 route add default via {SECOND_GATEWAY} dev eth0 metric 2048")
    with Living(host.host) as living:
        living.publish(CONTAINER)
        heard = hear(ear, 4)
        assert [heard[0], heard[3]] == [asked(CONTAINER, HOST), told(CONTAINER)]
        assert sorted(heard[1:3]) == sorted([asked(GATEWAY, CONTAINER), asked(SECOND_GATEWAY, CONTAINER)])


def test_without_an_address_of_the_host_another_container_asks(host: Wire, ear: Ear) -> None:
    host.host.ip(f"address del {HOST}/64 dev eth0")
    with Living(host.host) as living:
        living.publish(CONTAINER)
        # There is nobody to ask for it.
        assert hear(ear, 2) == first(CONTAINER)[1:]
        living.publish(CONTAINER, SECOND)
        assert hear(ear, 3) == [asked(SECOND, CONTAINER), *first(SECOND)[1:]]


def test_no_announce(host: Wire, ear: Ear) -> None:
    with Living(host.host, announce=False) as living:
        living.publish(CONTAINER)
        wait_until(lambda: host.is_answered(CONTAINER), "an answer")
        ear.forget()
        host.ask(CONTAINER)
        assert ear.hear() == advertise(CONTAINER, flags="RSO")


# At which pace


def test_there_is_a_pace_and_the_newest_comes_first(host: Wire, ear: Ear) -> None:
    many = [f"2001:db8::d0{number:02x}" for number in range(255)]
    newest = "2001:db8::d0ff"
    with Living(host.host) as living:
        begun = monotonic()
        living.publish(*many)
        assert hear(ear, 3) == first(many[-1])
        living.publish(*many, newest)
        before = 0
        while (frame := ear.hear()) != asked(newest, HOST):
            before += frame[54] == 136
        assert before < 75
        while frame != asked(many[200], HOST):
            frame = ear.hear()
        # There were 55 before it.
        assert monotonic() - begun >= 1.1


def test_what_a_full_queue_does_not_take_is_sent_later(host: Wire, ear: Ear) -> None:
    some = [f"2001:db8::d0{number:02x}" for number in range(10)]
    # Room for one frame, and eleven a second.
    narrow = "tc qdisc add dev eth0 root tbf rate 8kbit burst 100 limit 100"
    wide = "1gbit burst 100000 limit 1000000"
    if host.host.run(*narrow.split(), check=False).returncode:
        pytest.skip("the kernel has no token bucket filter (sch_tbf)")
    with Living(host.host) as living:
        living.publish(*some)
        heard = [ear.hear()]
        # Not deleted, for what waits in it would be too.
        host.host.run(*narrow.replace("add", "change").replace("8kbit burst 100 limit 100", wide).split())
        while min(heard.count(told(address)) for address in some) < 3:
            heard.append(ear.hear())

    for address in some:
        assert heard.count(told(address)) == 3
        assert {*first(address)} <= {*heard}


# Again


def test_a_container_that_comes_back_is_announced_anew(host: Wire, ear: Ear) -> None:
    with Living(host.host) as living:
        living.publish(CONTAINER)
        assert hear(ear, 3) == first(CONTAINER)
        living.publish()
        living.publish(CONTAINER)
        assert hear(ear, 5) == [*first(CONTAINER), told(CONTAINER), told(CONTAINER)]


def test_a_container_that_is_gone_is_not_announced(host: Wire, ear: Ear) -> None:
    with Living(host.host) as living:
        living.publish(CONTAINER, SECOND)
        hear(ear, 6)
        living.publish(CONTAINER)
        assert hear(ear, 2) == [told(CONTAINER), told(CONTAINER)]


def test_another_mac_is_announced(host: Wire, ear: Ear) -> None:
    with Living(host.host) as living:
        living.publish(CONTAINER)
        assert hear(ear, 5)[3:] == [told(CONTAINER)] * 2
        host.host.ip(f"link set eth0 address {OTHER_MAC}")
        assert hear(ear, 3) == first(CONTAINER, mac=OTHER_MAC)


def test_when_the_carrier_is_back(host: Wire, ear: Ear) -> None:
    with Living(host.host) as living:
        living.publish(CONTAINER)
        assert hear(ear, 5)[3:] == [told(CONTAINER)] * 2
        host.asker.ip("link set eth0 down")
        living.wait_for("carrier")
        # Said once, for the asker's own end was down.
        with pytest.raises(OSError, match="Network is down"):
            ear.hear()
        host.asker.ip("link set eth0 up")
        assert hear(ear, 3) == first(CONTAINER)


def test_when_the_interface_is_back(host: Wire, ear: Ear) -> None:
    host.host.sysctl("net/ipv6/conf/eth0/keep_addr_on_down", 1)
    with Living(host.host) as living:
        living.publish(CONTAINER)
        assert hear(ear, 5)[3:] == [told(CONTAINER)] * 2
        host.host.ip("link set eth0 down")
        living.wait_for("lost")
        host.host.ip("link set eth0 up")
        host.host.ip(f"-6 route replace default via {GATEWAY} dev eth0")
        assert hear(ear, 3) == first(CONTAINER)


# Who else has it


def claim(wire: Wire, target: str = CONTAINER, mac: str = NEIGHBORS_MAC, option: str | None = None) -> None:
    """Say on the link that another host has an address."""
    wire.send(
        bytes(
            Ether(src=mac, dst="33:33:00:00:00:01")
            / IPv6(src=target, dst="ff02::1", hlim=255)
            / ICMPv6ND_NA(tgt=target, R=0, S=0, O=1)
            / ICMPv6NDOptDstLLAddr(lladdr=option or mac)
        )
    )


def warning(target: str, mac: str = NEIGHBORS_MAC) -> str:
    return f"{target} lives here, but another host, at {mac}, has it too: packets go to either, until one gives way"


def test_a_conflict_is_told_once_and_changes_nothing(host: Wire, ear: Ear) -> None:
    with Living(host.host) as living:
        living.publish(CONTAINER, SECOND)
        hear(ear, 6)
        for _ in range(100):
            claim(host)
        # Ours, sent back by a switch, and sent back by one that puts its own MAC on it; and nobody's of ours.
        claim(host, SECOND, OUR_MAC)
        claim(host, SECOND, NEIGHBORS_MAC, OUR_MAC)
        claim(host, SECOND, OUR_MAC, NEIGHBORS_MAC)
        claim(host, "2001:db8::d005")
        claim(host, SECOND, OTHER_MAC)
        living.wait_for("conflict", 2)
        assert [line["mac"] for line in living.lines if line["event"] == "conflict"] == [NEIGHBORS_MAC, OTHER_MAC]
        assert living.said("conflict") == [warning(CONTAINER), warning(SECOND, OTHER_MAC)]
        host.forget()
        assert host.ask(CONTAINER)[-1] == advertise(CONTAINER, flags="RSO")

        living.publish(SECOND)
        living.publish(CONTAINER, SECOND)
        ear.forget()
        claim(host, CONTAINER, OTHER_MAC)
        living.wait_for("conflict", 3)
        assert living.said("conflict")[2:] == [warning(CONTAINER, OTHER_MAC)]
