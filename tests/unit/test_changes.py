"""changed_by(): what netlink messages are about."""

from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndpresponder.netlink import Changed, changed_by

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
    ("messages", "changed"),
    [
        (message(NEWLINK, link(INDEX)), Changed(link=True)),
        # Under another name it may be the one that is waited for.
        (message(NEWLINK, link(3)), Changed(link=True)),
        (message(DELLINK, link(INDEX)), Changed(link=True)),
        (message(NEWADDR, address(INDEX)), Changed(addresses=frozenset({INDEX}))),
        (message(DELADDR, address(INDEX)), Changed(addresses=frozenset({INDEX}))),
        (message(NEWROUTE, route(0)), Changed(route=True)),
        (message(DELROUTE, route(0)), Changed(route=True)),
        (message(NEWROUTE, route(48)), Changed()),
        (message(NEWNEIGH, address(INDEX)), Changed()),
        (message(NEWROUTE, route(48)) * 3 + message(NEWLINK, link(3)), Changed(link=True)),
        (
            message(NEWADDR, address(3)) + message(NEWLINK, link(3)) + message(NEWADDR, address(INDEX)),
            Changed(link=True, addresses=frozenset({3, INDEX})),
        ),
        (b"", Changed()),
        (message(NEWLINK, link(INDEX))[:16], Changed()),
    ],
)
def test_changes(messages: bytes, changed: Changed) -> None:
    assert changed_by(messages) == changed


@pytest.mark.parametrize(
    ("changed", "concerned"),
    [
        (Changed(link=True), False),
        (Changed(addresses=frozenset({INDEX})), True),
        (Changed(addresses=frozenset({3})), False),
        (Changed(route=True), True),
        (Changed(lost=True), True),
    ],
)
def test_whom_a_change_concerns(changed: Changed, *, concerned: bool) -> None:
    assert changed.concerns(INDEX) == concerned


@given(st.binary(max_size=200))
def test_any_bytes_give_changes(messages: bytes) -> None:
    changed = changed_by(messages)
    assert not changed.lost
    assert len(changed.addresses) + changed.link + changed.route <= len(messages) // 16
