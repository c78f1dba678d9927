"""Tally: what is counted, the difference between two moments, and how it reads in the log."""

from collections import Counter

import pytest

from ndpresponder.responder import Tally
from ndpresponder.verdict import Verdict

EARLIER = Tally(3, Counter({Verdict.CHECKSUM: 1}), Counter({"ENOBUFS": 2}), 5)
LATER = Tally(10, Counter({Verdict.CHECKSUM: 1, Verdict.OPTIONS: 4}), Counter({"ENOBUFS": 3}), 5)


def test_since() -> None:
    assert LATER.since(EARLIER) == Tally(7, Counter({Verdict.OPTIONS: 4}), Counter({"ENOBUFS": 1}), 0)
    assert LATER.since(LATER) == Tally()


def test_a_copy_stays_as_it_is() -> None:
    tally = EARLIER.copy()
    copy = tally.copy()
    assert copy == EARLIER

    tally.answered += 1
    tally.refused[Verdict.OPTIONS] += 1
    tally.unsent["ENETDOWN"] += 1
    tally.dropped += 1

    assert copy == EARLIER
    assert tally.since(copy) == Tally(1, Counter({Verdict.OPTIONS: 1}), Counter({"ENETDOWN": 1}), 1)


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
