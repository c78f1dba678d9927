"""Which frames the kernel hands to ndpresponder as ours: tags, and frames for another MAC."""

import socket

import pytest
from lab import CONTAINER, SOLICITATIONS_AND_ADVERTISEMENTS, VPS_MAC, Lab
from namespaces import Namespace
from scapy.layers.inet6 import ICMPv6ND_NS, ICMPv6NDOptSrcLLAddr, IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet

OTHER_MAC = "52:54:00:00:00:99"
GROUP_MAC = "33:33:ff:00:d0:03"
LAST = "2001:db8:1::d0aa"


def solicitation(ether: Packet, target: str = CONTAINER) -> bytes:
    """Return a solicitation by the neighbor behind an Ethernet header, with or without a tag."""
    source = "52:54:00:00:00:03"
    ether[Ether].src = source
    message = ICMPv6ND_NS(tgt=target) / ICMPv6NDOptSrcLLAddr(lladdr=source)
    return bytes(ether / IPv6(src="fe80::3", dst="ff02::1:ff00:d003", hlim=255) / message)


def send(host: Namespace, frame: bytes) -> None:
    with host.entered(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as link:
        link.bind(("eth0", 0))
        link.send(frame)


@pytest.mark.parametrize(
    ("ether", "answers"),
    [
        pytest.param(Ether(dst=GROUP_MAC), 1, id="untagged"),
        pytest.param(Ether(dst=GROUP_MAC) / Dot1Q(vlan=0, prio=5), 1, id="priority-tagged"),
        pytest.param(Ether(dst=GROUP_MAC) / Dot1Q(vlan=5), 0, id="tagged"),
        pytest.param(Ether(dst=VPS_MAC), 1, id="unicast"),
        pytest.param(Ether(dst=OTHER_MAC), 0, id="for-another-mac"),
    ],
)
def test_a_solicitation_is_answered_by_how_it_arrives(
    lab: Lab, neighbor: Namespace, ether: Packet, answers: int
) -> None:
    lab.ndpresponder()
    capture = lab.capture(lab.vps, "eth0", SOLICITATIONS_AND_ADVERTISEMENTS, "-e")

    send(neighbor, solicitation(ether))
    # Frames are handled in order: once this one is answered, the one before was dealt with.
    send(neighbor, solicitation(Ether(dst=GROUP_MAC), LAST))
    capture.wait_for("neighbor advertisement", LAST)

    assert len(capture.lines("neighbor solicitation", CONTAINER)) == 1
    assert len(capture.lines("neighbor advertisement", f"tgt is {CONTAINER},")) == answers
