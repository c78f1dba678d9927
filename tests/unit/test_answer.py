"""answer(): each row of the table of frames, octet for octet."""

import pytest
from vectors import ADDRESSES, OUR_MAC, POLICY, ROWS, Row, solicit

from ndpresponder.responder import answer
from ndpresponder.verdict import Verdict


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_frame(row: Row) -> None:
    reply = answer(row.frame, ADDRESSES, row.policy)
    if isinstance(reply, tuple):
        octets, rule = reply
        assert octets == row.outcome
        assert rule is ADDRESSES.lookup(int.from_bytes(octets[62:78]))
    else:
        assert reply is row.outcome


def test_every_verdict_has_a_row() -> None:
    assert {row.outcome for row in ROWS if isinstance(row.outcome, Verdict)} == set(Verdict)


def test_names_are_unique() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)


def test_octets_written_out() -> None:
    """One answer that no library had a hand in: computed by hand from RFC 4861 section 4.4."""
    expected = bytes.fromhex(
        "0200000000fe" + OUR_MAC.replace(":", "") + "86dd"
        "60000000 0020 3a ff"
        "20010db800000000000000000000d003"
        "fe8000000000000000000000000000fe"
        "88 00 6855 c0000000"
        "20010db800000000000000000000d003"
        "02 01 525400000001"
    )
    reply = answer(bytes(solicit()), ADDRESSES, POLICY)
    assert isinstance(reply, tuple)
    assert reply[0] == expected
