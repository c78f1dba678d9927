"""Gateway: what follows from the kernel's entry and from what the gateway says, at which time."""

from ipaddress import IPv6Address, IPv6Interface, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndpresponder.addresses import AddressSet, Rule
from ndpresponder.gateway import Gateway, News, Question, sources_of
from ndpresponder.netlink import (
    NUD_DELAY,
    NUD_FAILED,
    NUD_INCOMPLETE,
    NUD_NOARP,
    NUD_PERMANENT,
    NUD_PROBE,
    NUD_REACHABLE,
    NUD_STALE,
    PROTOCOL,
    Neighbor,
    Snapshot,
)
from ndpresponder.packet import FLAG_OVERRIDE, FLAG_ROUTER, FLAG_SOLICITED, Advertised

ADDRESS = IPv6Address("fe80::1")
MAC, OTHER_MAC = (bytes.fromhex(f"5254000000{last}") for last in ("01", "99"))
MULTICAST, UNICAST = Question.MULTICAST, Question.UNICAST
SOLICITED = FLAG_ROUTER | FLAG_SOLICITED | FLAG_OVERRIDE
IN_NEED = [NUD_INCOMPLETE, NUD_PROBE, NUD_FAILED]


def entry(state: int, link_address: bytes | None = MAC, protocol: int = 0) -> Neighbor:
    return Neighbor(ADDRESS, state, link_address, protocol)


def says(link_address: bytes | None = MAC, flags: int = SOLICITED) -> Advertised:
    return Advertised(ADDRESS.packed, flags, link_address)


def kept() -> Gateway:
    """A gateway that the kernel could not resolve, and that answered at 1.0."""
    gateway = Gateway()
    assert [gateway.look(entry(NUD_INCOMPLETE, None), now) for now in (0.0, 0.5)] == [None, MULTICAST]
    assert gateway.hear(says(), 1.0) is News.FOUND
    return gateway


def questions(gateway: Gateway, found: Neighbor | None, begin: float, end: float) -> list[tuple[float, Question]]:
    """Look twice a second, and return what was to be asked when."""
    times = [begin + step / 2 for step in range(int(2 * (end - begin)))]
    return [(now, question) for now in times if (question := gateway.look(found, now))]


# When the kernel needs help


@pytest.mark.parametrize("found", [None, *(entry(state) for state in (NUD_STALE, NUD_DELAY))])
def test_a_kernel_that_gets_on_is_left_alone(found: Neighbor | None) -> None:
    gateway = Gateway()
    assert questions(gateway, found, 0, 100) == []
    assert not gateway.kept
    assert not gateway.lacks(found)


def test_a_gateway_that_the_kernel_takes_for_reachable_is_asked_every_five_seconds() -> None:
    gateway = Gateway()
    assert questions(gateway, entry(NUD_REACHABLE), 0, 5.5) == [(5.0, UNICAST)]
    assert gateway.hear(says(), 5.2) is None
    assert questions(gateway, entry(NUD_REACHABLE), 5.5, 11) == [(10.5, UNICAST)]
    assert gateway.hear(says(None), 10.6) is None
    assert not gateway.kept
    assert not gateway.lacks(entry(NUD_STALE))


def test_what_the_kernel_takes_for_reachable_and_is_silent_is_asked_little_and_left_to_the_kernel() -> None:
    gateway = Gateway()
    expected = [
        (5.0, UNICAST),
        (6.0, MULTICAST),
        (12.0, UNICAST),
        (13.0, MULTICAST),
        (19.0, UNICAST),
        (20.0, MULTICAST),
    ]
    assert questions(gateway, entry(NUD_REACHABLE), 0, 25) == expected
    assert (gateway.kept, gateway.silent) == (False, False)
    # Each that was in vain is a reason to ask from elsewhere.
    assert gateway.attempts == 3


def test_a_gateway_that_is_not_where_the_kernel_takes_it_to_be_is_kept() -> None:
    gateway = Gateway()
    assert questions(gateway, entry(NUD_REACHABLE), 0, 6.5) == [(5.0, UNICAST), (6.0, MULTICAST)]
    assert gateway.hear(says(OTHER_MAC), 6.1) is News.MOVED
    assert gateway.lacks(entry(NUD_REACHABLE))
    assert not gateway.lacks(entry(NUD_REACHABLE, OTHER_MAC))
    assert questions(gateway, entry(NUD_REACHABLE, OTHER_MAC), 6.5, 10) == [(9.5, UNICAST)]


def test_an_announcement_leads_to_a_question_about_what_the_kernel_takes_for_reachable() -> None:
    gateway = Gateway()
    assert questions(gateway, entry(NUD_REACHABLE), 0, 2) == []
    assert gateway.hear(says(OTHER_MAC, FLAG_OVERRIDE), 2.1) is None
    assert gateway.look(entry(NUD_REACHABLE), 2.5) is MULTICAST
    assert gateway.hear(says(OTHER_MAC), 2.6) is News.MOVED


def test_a_mac_that_the_kernel_has_learned_itself_is_no_news() -> None:
    gateway = Gateway()
    assert questions(gateway, entry(NUD_REACHABLE), 0, 4) == []
    assert questions(gateway, entry(NUD_REACHABLE, OTHER_MAC), 4, 9.5) == [(9.0, UNICAST)]
    assert gateway.hear(says(OTHER_MAC), 9.1) is None
    assert not gateway.kept


@pytest.mark.parametrize("state", [NUD_STALE, NUD_DELAY, *IN_NEED])
def test_what_was_heard_of_an_entry_that_is_not_reachable_any_more_is_forgotten(state: int) -> None:
    gateway = Gateway()
    assert questions(gateway, entry(NUD_REACHABLE), 0, 5.5) == [(5.0, UNICAST)]
    assert gateway.look(entry(state), 5.5) is None
    assert gateway.hear(says(OTHER_MAC), 5.6) is None
    assert not gateway.kept


@pytest.mark.parametrize("state", IN_NEED)
def test_a_need_that_lasts_until_the_next_look_is_met(state: int) -> None:
    gateway = Gateway()
    assert gateway.look(entry(state), 0.0) is None
    assert gateway.look(entry(state), 0.5) is MULTICAST
    assert gateway.kept


@pytest.mark.parametrize("state", IN_NEED)
def test_a_need_that_the_kernel_meets_itself_is_none(state: int) -> None:
    gateway = Gateway()
    for second in range(100):
        assert gateway.look(entry(state), second) is None
        assert gateway.look(entry(NUD_REACHABLE), second + 0.5) is None
    assert not gateway.kept


@pytest.mark.parametrize("state", [NUD_PERMANENT, NUD_NOARP])
def test_what_the_administrator_fixed_is_left_alone(state: int) -> None:
    gateway = Gateway()
    assert questions(gateway, entry(state), 0, 100) == []

    gateway = kept()
    assert questions(gateway, entry(state), 1, 100) == []
    assert not gateway.lacks(entry(state))
    assert gateway.hear(says(OTHER_MAC), 50) is None
    # When it is gone the kernel is on its own again, and what was known is not taken for what is.
    assert questions(gateway, None, 100, 200) == []
    assert gateway.link_address is None


def test_what_a_killed_process_left_is_kept() -> None:
    gateway = Gateway()
    assert gateway.look(entry(NUD_STALE, protocol=PROTOCOL), 0.0) is MULTICAST


# How it is asked for


def test_it_is_asked_for_once_a_second_until_it_answers() -> None:
    gateway = Gateway()
    expected = [(now, MULTICAST) for now in (0.5, 1.5, 2.5, 3.5)]
    assert questions(gateway, entry(NUD_FAILED, None), 0, 4) == expected
    # Each that was in vain is a reason to ask from elsewhere.
    assert gateway.attempts == 3


def test_an_answer_is_good_for_three_seconds() -> None:
    gateway = kept()
    assert questions(gateway, entry(NUD_REACHABLE), 1, 6) == [(4.0, UNICAST), (5.0, MULTICAST)]
    assert gateway.hear(says(), 5.5) is None
    assert questions(gateway, entry(NUD_REACHABLE), 6, 9) == [(8.5, UNICAST)]
    # That the known MAC does not answer is no reason to ask from elsewhere.
    assert gateway.attempts == 0


def test_another_mac_is_known_four_seconds_after_the_last_answer() -> None:
    gateway = kept()
    assert questions(gateway, entry(NUD_REACHABLE), 1, 5.5) == [(4.0, UNICAST), (5.0, MULTICAST)]
    assert gateway.hear(says(OTHER_MAC), 5.0) is News.MOVED
    assert gateway.link_address == OTHER_MAC


def test_an_announcement_leads_to_a_question_at_the_next_look() -> None:
    gateway = kept()
    assert gateway.hear(says(OTHER_MAC, FLAG_OVERRIDE), 2.6) is None
    assert gateway.link_address == MAC
    assert gateway.look(entry(NUD_REACHABLE), 3.0) is MULTICAST
    assert gateway.hear(says(OTHER_MAC), 3.0) is News.MOVED


@pytest.mark.parametrize(
    ("advertised", "now"),
    [
        pytest.param(says(OTHER_MAC, FLAG_ROUTER), 2.6, id="no-override"),
        pytest.param(says(MAC, FLAG_OVERRIDE), 2.6, id="the-same-mac"),
        pytest.param(says(OTHER_MAC, FLAG_SOLICITED), 2.6, id="a-proxys-second-answer"),
        pytest.param(says(OTHER_MAC), 1.1, id="a-second-answer"),
        pytest.param(says(None, FLAG_OVERRIDE), 2.6, id="no-mac"),
    ],
)
def test_what_is_no_reason_to_ask(advertised: Advertised, now: float) -> None:
    gateway = kept()
    assert gateway.hear(advertised, now) is None
    assert gateway.look(entry(NUD_REACHABLE), 3.0) is None
    assert gateway.link_address == MAC


def test_a_flood_of_announcements_leads_to_one_question_at_each_look() -> None:
    gateway = kept()
    asked = 0
    for step in range(1000):
        gateway.hear(says(OTHER_MAC, FLAG_OVERRIDE), 3 + step / 100)
        if step % 50 == 49:
            asked += gateway.look(entry(NUD_REACHABLE), 3 + step / 100) is not None
    assert asked == 20


def moves(gateway: Gateway, begin: int, end: int, every: int = 1) -> list[tuple[int, News]]:
    """Have the gateway answer from a new MAC at each of these seconds; return what is told when."""
    told = []
    for now in range(begin, end, every):
        mac = b"\x02" + now.to_bytes(5)
        # As long as a question is not answered, each look leads to one.
        gateway.hear(says(mac, FLAG_OVERRIDE), now)
        assert gateway.look(entry(NUD_REACHABLE), now) is MULTICAST
        if news := gateway.hear(says(mac), now):
            told.append((now, news))
        assert gateway.link_address == mac
    return told


def test_moves_without_end_are_a_line_in_thirty_seconds() -> None:
    gateway = kept()
    restless = [(now, News.RESTLESS) for now in (13, 43, 73)]
    assert moves(gateway, 10, 100) == [(10, News.MOVED), (11, News.MOVED), (12, News.MOVED), *restless]
    # And when there has been an end to them, the next ones are told one by one again.
    assert moves(gateway, 129, 131) == [(129, News.MOVED), (130, News.MOVED)]


def test_moves_that_are_far_apart_are_told_each() -> None:
    assert moves(kept(), 10, 400, 30) == [(now, News.MOVED) for now in range(10, 400, 30)]


def test_the_answer_to_a_unicast_question_need_not_have_the_mac() -> None:
    gateway = kept()
    assert gateway.look(entry(NUD_REACHABLE), 4.0) is UNICAST
    assert gateway.hear(says(None), 4.0) is None
    assert gateway.look(entry(NUD_REACHABLE), 5.0) is None
    assert gateway.link_address == MAC


def test_the_first_answer_must_have_the_mac() -> None:
    gateway = Gateway()
    assert questions(gateway, entry(NUD_INCOMPLETE, None), 0, 1) == [(0.5, MULTICAST)]
    assert gateway.hear(says(None), 1.0) is None
    assert gateway.look(entry(NUD_INCOMPLETE, None), 1.5) is MULTICAST


def test_long_silence_and_its_end_are_news() -> None:
    gateway = kept()
    silent = []
    for begin, end in ((1, 11), (11, 11.5)):
        questions(gateway, entry(NUD_STALE), begin, end)
        silent.append(gateway.silent)
    assert silent == [False, True]
    assert gateway.hear(says(), 12) is News.BACK
    assert gateway.hear(says(), 12) is None


def test_a_gateway_that_never_answers_is_silent_too() -> None:
    gateway = Gateway()
    silent = []
    for begin, end in ((0, 10.5), (10.5, 11)):
        questions(gateway, entry(NUD_INCOMPLETE), begin, end)
        silent.append(gateway.silent)
    assert silent == [False, True]


# What is written


@pytest.mark.parametrize(
    ("found", "lacks"),
    [
        (None, True),
        (entry(NUD_REACHABLE), False),
        (entry(NUD_REACHABLE, OTHER_MAC), True),
        *((entry(state), True) for state in (NUD_STALE, NUD_DELAY, *IN_NEED)),
    ],
)
def test_what_the_kernel_lacks_after_an_answer(found: Neighbor | None, *, lacks: bool) -> None:
    assert kept().lacks(found) is lacks


def test_nothing_is_written_while_a_question_is_open() -> None:
    gateway = kept()
    assert gateway.look(entry(NUD_STALE), 4.0) is UNICAST
    assert not gateway.lacks(entry(NUD_STALE))


# What cannot be written


@pytest.mark.parametrize(("state", "first"), [(NUD_INCOMPLETE, MULTICAST), (NUD_PROBE, UNICAST)])
def test_what_the_kernel_waits_for_is_asked_for_within_a_second(state: int, first: Question) -> None:
    gateway = kept()
    assert questions(gateway, entry(state), 1.5, 5) == [(2.0, first), (3.0, MULTICAST), (4.0, MULTICAST)]


@pytest.mark.parametrize(("state", "unheard"), [(NUD_INCOMPLETE, True), (NUD_PROBE, True), (NUD_FAILED, False)])
def test_what_the_kernel_does_not_hear(state: int, *, unheard: bool) -> None:
    gateway = Gateway()
    assert questions(gateway, entry(state, None), 0, 1) == [(0.5, MULTICAST)]
    assert not gateway.unheard
    assert gateway.hear(says(), 0.6) is News.FOUND
    assert gateway.look(entry(state), 1.0) is None
    assert gateway.unheard is unheard
    # What it has heard a moment later after all.
    assert gateway.look(entry(NUD_REACHABLE), 1.5) is None
    assert not gateway.unheard


def test_what_was_answered_before_the_kernel_asked_it_need_not_have_heard() -> None:
    gateway = kept()
    assert questions(gateway, entry(NUD_FAILED), 1.5, 3.5) == []
    assert gateway.look(entry(NUD_INCOMPLETE), 3.5) is MULTICAST
    assert not gateway.unheard
    assert gateway.hear(says(), 3.6) is None
    assert gateway.look(entry(NUD_INCOMPLETE), 4.0) is None
    assert gateway.unheard


links = st.sampled_from([None, MAC, OTHER_MAC])
states = st.sampled_from([0, NUD_REACHABLE, NUD_STALE, NUD_DELAY, *IN_NEED, NUD_PERMANENT, NUD_NOARP])
entries = st.none() | st.builds(entry, states, links, st.sampled_from([0, PROTOCOL]))
flags = st.sets(st.sampled_from([FLAG_ROUTER, FLAG_SOLICITED, FLAG_OVERRIDE])).map(sum)
steps = st.lists(entries | st.builds(says, links, flags), max_size=60)


@given(steps, st.floats(0, 1e6))
def test_whatever_happens(happenings: list[Neighbor | Advertised | None], begin: float) -> None:
    """It is never asked for while the kernel's entry is fixed, nor by unicast to nobody."""
    gateway = Gateway()
    for number, happening in enumerate(happenings):
        now = begin + number / 4
        if isinstance(happening, Advertised):
            gateway.hear(happening, now)
        else:
            question = gateway.look(happening, now)
            fixed = happening is not None and happening.state & (NUD_PERMANENT | NUD_NOARP)
            assert not (fixed and (question or gateway.lacks(happening)))
            assert question is not UNICAST or gateway.link_address
            # After a question there is nothing to write, before there is an answer.
            assert not (question and gateway.lacks(happening))


# From where


def uplink(*addresses: str) -> Snapshot:
    return Snapshot("eth0", tuple(map(IPv6Interface, addresses)), (ADDRESS,))


def answered(*prefixes: str) -> AddressSet:
    return AddressSet(Rule(IPv6Network(prefix), "static") for prefix in prefixes)


@pytest.mark.parametrize(
    ("own", "prefixes", "sources"),
    [
        (["fe80::2/64", "2001:db8:1::2/64"], ["2001:db8:1::d000/120"], ["2001:db8:1::2", "2001:db8:1::d0ff"]),
        (["fe80::2/64"], ["2001:db8:1::d000/120", "2001:db8::5"], ["2001:db8:1::d0ff"]),
        (
            ["fd00::2/64", "2001:db8:1::2/64", "2001:db8:2::2/64"],
            ["2001:db8:1::d003"],
            ["2001:db8:1::2", "2001:db8:2::2", "2001:db8:1::d003", "fd00::2"],
        ),
        (["fe80::2/64"], [], []),
    ],
)
def test_sources(own: list[str], prefixes: list[str], sources: list[str]) -> None:
    assert list(map(str, sources_of(uplink(*own), answered(*prefixes)))) == sources


def test_what_may_be_anothers_is_no_source() -> None:
    ours = uplink("2001:db8:1::2/64", "2001:db8:2::2/64")
    theirs = ours._replace(unusable=frozenset({IPv6Address("2001:db8:1::2")}))
    assert list(map(str, sources_of(theirs, answered()))) == ["2001:db8:2::2"]
