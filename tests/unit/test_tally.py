"""Tally: what is counted, the difference between two moments, and how it reads in the log."""

from collections import Counter

import pytest

from ndpresponder.responder import Tally, deaf_minutes
from ndpresponder.verdict import Verdict

EARLIER = Tally(3, Counter({Verdict.CHECKSUM: 1}), Counter({"ENOBUFS": 2}), 5, 2)
LATER = Tally(10, Counter({Verdict.CHECKSUM: 1, Verdict.OPTIONS: 4}), Counter({"ENOBUFS": 3}), 5, 6)


def test_since() -> None:
    assert LATER.since(EARLIER) == Tally(7, Counter({Verdict.OPTIONS: 4}), Counter({"ENOBUFS": 1}), 0, 4)
    assert LATER.since(LATER) == Tally()


def test_a_copy_stays_as_it_is() -> None:
    tally = EARLIER.copy()
    copy = tally.copy()
    assert copy == EARLIER

    tally.answered += 1
    tally.refused[Verdict.OPTIONS] += 1
    tally.unsent["ENETDOWN"] += 1
    tally.dropped += 1
    tally.multicast += 1

    assert copy == EARLIER
    assert tally.since(copy) == Tally(1, Counter({Verdict.OPTIONS: 1}), Counter({"ENETDOWN": 1}), 1, 1)


def test_as_dict() -> None:
    assert LATER.as_dict() == {
        "answered": 10,
        "refused": {"checksum": 1, "options": 4},
        "unsent": {"ENOBUFS": 3},
        "dropped": 5,
    }


@pytest.mark.parametrize(
    ("tally", "text"),
    [
        (Tally(), "answered 0"),
        (Tally(7), "answered 7"),
        (Tally(dropped=2), "answered 0, dropped 2 (queue full)"),
        (
            LATER,
            "answered 10, refused 5 (4 options, 1 checksum), could not send 3 (3 ENOBUFS), dropped 5 (queue full)",
        ),
    ],
)
def test_wording(tally: Tally, text: str) -> None:
    assert str(tally) == text


QUIET, UNICAST, BOTH = Tally(), Tally(answered=2), Tally(answered=2, multicast=1)


@pytest.mark.parametrize(
    ("minutes", "counted"),
    [
        ([QUIET, QUIET, QUIET, QUIET], [0, 0, 0, 0]),
        ([UNICAST, UNICAST, UNICAST, UNICAST], [1, 2, 3, 4]),
        # A minute without any solicitation says nothing.
        ([UNICAST, QUIET, UNICAST, QUIET, QUIET, UNICAST], [1, 1, 2, 2, 2, 3]),
        ([UNICAST, UNICAST, BOTH, UNICAST, UNICAST, UNICAST], [1, 2, 0, 0, 0, 0]),
        ([BOTH, UNICAST, UNICAST, UNICAST], [0, 0, 0, 0]),
        # What is refused may be anything.
        ([Tally(refused=Counter({Verdict.CHECKSUM: 1}))] * 3, [0, 0, 0]),
    ],
)
def test_minutes_without_multicast(minutes: list[Tally], counted: list[int]) -> None:
    so_far, whole, counts = 0, Tally(), []
    for minute in minutes:
        whole.answered += minute.answered
        whole.multicast += minute.multicast
        so_far = deaf_minutes(so_far, minute, whole)
        counts.append(so_far)
    assert counts == counted
