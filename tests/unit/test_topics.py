"""topics_of(): what netlink messages mean for an interface."""

from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndpresponder.netlink import Topic, topics_of

INDEX = 7
NEWLINK, DELLINK, NEWADDR, DELADDR, NEWROUTE, DELROUTE, NEWNEIGH = 16, 17, 20, 21, 24, 25, 28


def message(kind: int, body: bytes) -> bytes:
    """Return a message, padded as netlink(7) says."""
    whole = pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body
    return whole + bytes(-len(whole) % 4)


def link(index: int) -> bytes:
    return pack("=BxHiII", 0, 1, index, 0x11043, 0xFFFFFFFF) + b"\x09\x00\x03\x00eth0\x00"


def address(index: int) -> bytes:
    return pack("=BBBBI", 10, 64, 0, 0, index) + bytes(20)


def route(dst_len: int) -> bytes:
    return pack("=BBBBBBBBI", 10, dst_len, 0, 0, 254, 3, 0, 1, 0) + bytes(16)


@pytest.mark.parametrize(
    ("messages", "topics"),
    [
        (message(NEWLINK, link(INDEX)), {Topic.LINK}),
        # Under another name it may be the one that is waited for.
        (message(NEWLINK, link(3)), {Topic.LINK}),
        (message(DELLINK, link(INDEX)), {Topic.LINK}),
        (message(NEWADDR, address(INDEX)), {Topic.UPLINK}),
        (message(DELADDR, address(INDEX)), {Topic.UPLINK}),
        (message(NEWADDR, address(3)), set()),
        (message(NEWROUTE, route(0)), {Topic.UPLINK}),
        (message(DELROUTE, route(0)), {Topic.UPLINK}),
        (message(NEWROUTE, route(48)), set()),
        (message(NEWNEIGH, address(INDEX)), set()),
        (message(NEWROUTE, route(48)) * 3 + message(NEWLINK, link(3)), {Topic.LINK}),
        (message(NEWLINK, link(3)) + message(NEWADDR, address(INDEX)), {Topic.LINK, Topic.UPLINK}),
        (b"", set()),
        (message(NEWLINK, link(INDEX))[:16], set()),
    ],
)
def test_topics(messages: bytes, topics: set[Topic]) -> None:
    assert topics_of(messages, INDEX) == topics


@given(st.binary(max_size=200))
def test_any_bytes_give_topics(messages: bytes) -> None:
    assert topics_of(messages, INDEX) <= set(Topic)
