"""Announcements: what is announced when, and what is told of those who claim the same."""

from collections import defaultdict
from ipaddress import IPv6Address, IPv6Network

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ndpresponder.addresses import AddressSet, Refusal, Rule
from ndpresponder.announce import Announcements, Conflict, Turn, living
from ndpresponder.verdict import Verdict

LOOK = 0.02
MAC, OTHER_MAC = (bytes.fromhex(f"5254000000{last}") for last in ("01", "99"))
GATEWAY, OTHER_GATEWAY = frozenset({IPv6Address("fe80::1")}), frozenset({IPv6Address("fe80::2")})


def following(*addresses: int) -> Announcements:
    announcements = Announcements()
    announcements.follow(frozenset(addresses), GATEWAY)
    return announcements


def announced(announcements: Announcements, begin: float, end: float) -> list[tuple[float, Turn]]:
    """Look fifty times a second, and return what was announced when."""
    turns = []
    for step in range(round((end - begin) / LOOK)):
        now = round(begin + step * LOOK, 2)
        for turn in announcements.due(now):
            turns.append((now, turn))
            announcements.sent(turn, now)
    return turns


# When


def test_an_address_is_announced_three_times_a_second_apart() -> None:
    assert announced(following(5), 10, 100) == [(10, Turn(5, 0)), (11, Turn(5, 1)), (12, Turn(5, 2))]


def test_nothing_is_announced_of_nothing() -> None:
    announcements = following()
    assert announced(announcements, 0, 10) == []
    assert announcements.pause(0) is None


def test_the_same_again_is_nothing_new() -> None:
    announcements = following(5)
    announced(announcements, 0, 5)
    announcements.follow(frozenset({5}), GATEWAY)
    assert announced(announcements, 5, 10) == []


def test_what_is_gone_is_not_announced() -> None:
    for end in (0, 0.5, 1.5):
        announcements = following(5)
        announced(announcements, 0, end)
        announcements.follow(frozenset(), GATEWAY)
        assert announced(announcements, 2, 10) == []
        assert announcements.pause(2) is None


def test_what_went_and_came_is_announced_anew() -> None:
    announcements = following(5)
    announced(announcements, 0, 5)
    announcements.follow(frozenset(), GATEWAY)
    announcements.follow(frozenset({5}), GATEWAY)
    assert announced(announcements, 5, 10) == [(5, Turn(5, 0)), (6, Turn(5, 1)), (7, Turn(5, 2))]


@pytest.mark.parametrize("end", [0.5, 1.5, 2.5])
def test_what_was_announced_within_the_last_second_waits(end: float) -> None:
    announcements = following(5)
    last, _ = announced(announcements, 0, end)[-1]
    announcements.follow(frozenset(), GATEWAY)
    announcements.follow(frozenset({5}), GATEWAY)
    assert announcements.pause(end) == 0.5
    assert announced(announcements, end, 10) == [(last + 1 + number, Turn(5, number)) for number in range(3)]


def test_a_crash_loop_is_announced_once_a_second_and_keeps_nobody_waiting() -> None:
    announcements = following(4)
    turns = []
    for step in range(100):
        announcements.follow(frozenset({4, 5} if step % 2 else {4}), GATEWAY)
        if step == 50:
            announcements.again()
        turns += announced(announcements, step / 10, (step + 1) / 10)
    times = {address: [now for now, turn in turns if turn.address == address] for address in (4, 5)}
    assert times[4] == [0, 1, 2, 5, 6, 7]
    assert len(times[5]) in (9, 10)
    assert min(later - now for now, later in zip(times[5], times[5][1:], strict=False)) >= 1


def test_again() -> None:
    announcements = following(5, 6)
    announced(announcements, 0, 1.5)
    announcements.again()
    assert [turn for _, turn in announced(announcements, 1.5, 10)] == [
        Turn(address, number) for number in range(3) for address in (6, 5)
    ]


@pytest.mark.parametrize(
    ("gateways", "anew"),
    [(GATEWAY, False), (frozenset(), False), (OTHER_GATEWAY, True), (GATEWAY | OTHER_GATEWAY, True)],
)
def test_a_gateway_that_is_new_is_told(gateways: frozenset[IPv6Address], *, anew: bool) -> None:
    announcements = following(5)
    announced(announcements, 0, 5)
    announcements.follow(frozenset({5}), gateways)
    assert len(announced(announcements, 5, 10)) == 3 * anew


def test_the_newest_does_not_wait_for_thousands() -> None:
    announcements = following(*range(5000))
    announced(announcements, 0, 5)
    announcements.follow(frozenset(range(5001)), GATEWAY)
    assert announcements.due(5)[0] == Turn(5000, 0)


def test_thousands_are_announced_at_a_pace() -> None:
    turns = announced(following(*range(5000)), 0, 600)

    assert len(turns) == 15_000
    assert {turn for _, turn in turns} == {Turn(address, number) for address in range(5000) for number in range(3)}
    by_second: dict[int, list[Turn]] = defaultdict(list)
    for now, turn in turns:
        by_second[int(now)].append(turn)
    assert max(len(each) for each in by_second.values()) == 150
    firsts = [sum(turn.number == 0 for turn in by_second[second]) for second in range(600)]
    assert firsts[:4] == [50] * 4
    assert max(sum(firsts[second : second + 40]) for second in range(600)) <= 250 + 40 * 10
    # All but the first 250 come ten a second, and the last one is repeated for two seconds.
    assert 474 < turns[-1][0] < 480


def test_what_could_not_be_sent_stays_due() -> None:
    announcements = following(5)
    assert [announcements.due(now) for now in (0, 1, 2)] == [[Turn(5, 0)]] * 3
    announcements.sent(Turn(5, 0), 2)
    assert [announcements.due(now) for now in (2.5, 3, 4)] == [[], [Turn(5, 1)], [Turn(5, 1)]]


def test_pause() -> None:
    announcements = following(5)
    assert announcements.pause(0) == 0
    announcements.sent(Turn(5, 0), 0)
    assert announcements.pause(0.25) == 0.75
    assert announcements.pause(7) == 0
    announcements.sent(Turn(5, 1), 1)
    announcements.sent(Turn(5, 2), 2)
    assert announcements.pause(2) is None


# Who else claims it


def test_a_conflict_is_told_once_while_the_address_stays() -> None:
    announcements = following(5)
    assert announcements.claim(5, MAC)
    assert announcements.tell(0) == Conflict([5], MAC)
    for claimed in (MAC, OTHER_MAC):
        assert not announcements.claim(5, claimed)
    assert announcements.tell(10) is None
    announcements.again()
    assert not announcements.claim(5, MAC)

    announcements.follow(frozenset(), GATEWAY)
    announcements.follow(frozenset({5}), GATEWAY)
    assert announcements.claim(5, OTHER_MAC)
    assert announcements.tell(20) == Conflict([5], OTHER_MAC)


def test_what_does_not_live_here_can_be_anybodys() -> None:
    announcements = following(5)
    assert not announcements.claim(6, MAC)
    assert announcements.tell(0) is None


def test_conflicts_are_told_once_a_second_and_together_by_host() -> None:
    announcements = following(*range(10))
    for address in range(10):
        announcements.claim(address, OTHER_MAC if address == 4 else MAC)
        if address == 0:
            assert announcements.tell(0) == Conflict([0], MAC)
    assert announcements.tell(0.9) is None
    assert announcements.tell(1) == Conflict([1, 2, 3, 5, 6, 7, 8, 9], MAC)
    assert announcements.tell(1.5) is None
    assert announcements.tell(2) == Conflict([4], OTHER_MAC)
    assert announcements.tell(3) is None


def test_the_wording_of_a_conflict() -> None:
    first = int(IPv6Address("2001:db8::5"))
    assert str(Conflict([first], MAC)) == (
        "2001:db8::5 lives here, but another host, at 52:54:00:00:00:01, has it too: "
        "packets go to either, until one gives way"
    )
    assert str(Conflict([first, 6, 7], MAC)) == (
        "2001:db8::5 and 2 more live here, but another host, at 52:54:00:00:00:01, has them too: "
        "packets go to either, until one gives way"
    )


def test_a_conflict_that_is_over_before_it_was_told_is_none() -> None:
    announcements = following(5)
    announcements.claim(5, MAC)
    announcements.follow(frozenset(), GATEWAY)
    assert announcements.tell(0) is None


def test_a_flood_of_claims_with_a_mac_each_is_one_line_a_second() -> None:
    announcements = following(*range(100))
    for number in range(10_000):
        announcements.claim(number % 1000, number.to_bytes(6))
    assert [announcements.tell(step / 10) is not None for step in range(1000)].count(True) == 100
    assert announcements.tell(1000) is None


def test_the_pause_ends_when_there_is_more_to_tell() -> None:
    announcements = following(5, 6)
    announced(announcements, 0, 10)
    announcements.claim(5, MAC)
    announcements.tell(10)
    assert announcements.pause(10) is None
    announcements.claim(6, MAC)
    assert announcements.pause(10.25) == 0.75


# Whatever happens

addresses = st.frozensets(st.integers(0, 9), max_size=10)


class Whatever(RuleBasedStateMachine):
    """Each address is announced three times from when it came or all were to be announced again, a second apart."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.announcements = Announcements()
        self.here: frozenset[int] = frozenset()
        self.left: dict[int, int] = {}
        self.last: dict[int, float] = {}
        self.told: set[int] = set()

    def renew(self, anew: frozenset[int]) -> None:
        for address in anew:
            self.left[address] = 3

    @rule(wanted=addresses)
    def follow(self, wanted: frozenset[int]) -> None:
        self.announcements.follow(wanted, GATEWAY)
        # The first gateways are new ones, but then all addresses are new too.
        for address in self.here - wanted:
            del self.left[address]
            self.told.discard(address)
        self.renew(wanted - self.here)
        self.here = wanted

    @rule()
    def again(self) -> None:
        self.announcements.again()
        self.renew(self.here)

    @rule(seconds=st.sampled_from([0.0, 0.125, 0.5, 1.0, 3.0]), sending=st.booleans())
    def look(self, seconds: float, *, sending: bool) -> None:
        self.now += seconds
        turns = self.announcements.due(self.now)
        assert len(turns) <= 3
        assert len({turn.address for turn in turns}) == len(turns)
        for turn in turns:
            assert turn.address in self.here
            assert turn.number == 3 - self.left[turn.address]
            assert self.now - self.last.get(turn.address, -1) >= 1
            if sending:
                self.announcements.sent(turn, self.now)
                self.left[turn.address] -= 1
                self.last[turn.address] = self.now

    @rule(address=st.integers(0, 9), mac=st.sampled_from([MAC, OTHER_MAC]))
    def claim(self, address: int, mac: bytes) -> None:
        self.announcements.claim(address, mac)
        conflict = self.announcements.tell(self.now)
        for each in conflict.addresses if conflict else ():
            assert each in self.here - self.told
            self.told.add(each)

    @invariant()
    def it_is_not_idle_while_there_is_something_to_announce(self) -> None:
        if any(self.left.values()):
            assert self.announcements.pause(self.now) is not None

    def teardown(self) -> None:
        """In the end each has been announced three times."""
        for _ in range(100):
            self.look(1.0, sending=True)
        assert not any(self.left.values())
        assert self.announcements.due(self.now) == []


TestWhatever = Whatever.TestCase


# What lives here


def net(text: str) -> IPv6Network:
    return IPv6Network(text)


def test_what_lives_here_is_single_addresses_that_are_answered_for() -> None:
    found = living(
        AddressSet(
            [
                Rule(net("2001:db8::/112"), "static"),
                Rule(net("2001:db8::5"), "docker", lives_here=True),
                Rule(net("2001:db8::5"), "static"),
                Rule(net("2001:db8::6"), "docker", lives_here=True),
                Rule(net("2001:db8::7"), "docker", lives_here=True),
                Rule(net("2001:db8::8"), "static"),
                Rule(net("2001:db8:1::/64"), "docker", lives_here=True),
                Rule(net("2001:db8::9"), "docker", lives_here=True),
                Refusal(net("2001:db8::9"), Verdict.OWN_ADDRESS),
                Rule(net("2001:db8::a"), "docker", lives_here=True),
                Refusal(net("2001:db8::a"), Verdict.EXCLUDED),
            ]
        )
    )
    assert list(map(str, map(IPv6Address, found))) == ["2001:db8::5", "2001:db8::6", "2001:db8::7"]
