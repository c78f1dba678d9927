"""Which groups are joined for a set of addresses, and when a multicast router shows itself."""

from ipaddress import IPv6Network
from itertools import islice

import pytest

from ndpresponder.addresses import AddressSet, Refusal, Rule
from ndpresponder.multicast import Groups, advertisement_intervals, groups_of
from ndpresponder.verdict import Verdict


def addresses(*prefixes: str, but: tuple[str, ...] = ()) -> AddressSet:
    rules = [Rule(IPv6Network(prefix), "static") for prefix in prefixes]
    return AddressSet([*rules, *(Refusal(IPv6Network(prefix), Verdict.EXCLUDED) for prefix in but)])


def networks(*prefixes: str) -> tuple[IPv6Network, ...]:
    return tuple(map(IPv6Network, prefixes))


@pytest.mark.parametrize(
    ("some", "joined", "wide"),
    [
        pytest.param(addresses(), set(), (), id="nothing"),
        pytest.param(addresses("2001:db8::1:2:d003"), {0x02D003}, (), id="last-24-bits"),
        pytest.param(addresses("2001:db8:1::5", "2001:db8:2::5", "2001:db8:3:0:1::5"), {5}, (), id="one-for-several"),
        pytest.param(addresses("2001:db8::10/126"), {0x11, 0x12, 0x13}, (), id="not-the-anycast-address"),
        pytest.param(
            addresses("2001:db8::10/124", but=("2001:db8::14/126", "2001:db8::18/125")),
            {0x11, 0x12, 0x13},
            (),
            id="not-what-is-excluded",
        ),
        pytest.param(addresses("2001:db8::/118"), {*range(1, 1024)}, (), id="just-small-enough"),
        pytest.param(addresses("2001:db8::/117"), set(), networks("2001:db8::/117"), id="just-too-wide"),
        pytest.param(
            addresses("2001:db8::/117", "2001:db8:1::7", "2001:db8:2::/64"),
            {7},
            networks("2001:db8::/117", "2001:db8:2::/64"),
            id="wide-ones-beside-a-single-one",
        ),
        pytest.param(
            addresses("2001:db8::/64", "2001:db8::d003"),
            {0xD003},
            networks("2001:db8::/64"),
            id="a-single-one-inside-a-wide-one",
        ),
        pytest.param(
            addresses("2001:db8::/112", but=("2001:db8::10", "2001:db8::18")),
            set(),
            networks("2001:db8::/112"),
            id="what-is-carved-out-does-not-make-a-wide-one-small",
        ),
        pytest.param(
            addresses("2001:db8::/112", but=("2001:db8::/112",)), set(), (), id="a-wide-one-that-is-not-answered-for"
        ),
        pytest.param(
            addresses(*(f"2001:db8::{number:x}" for number in range(2000))),
            {*range(2000)},
            (),
            id="neighbors-are-not-a-prefix",
        ),
        pytest.param(addresses("::fffe:0/119"), {*range(0xFE0001, 0xFE0200)}, (), id="the-upper-half"),
    ],
)
def test_groups(some: AddressSet, joined: set[int], wide: tuple[IPv6Network, ...]) -> None:
    assert groups_of(some, 1024) == Groups(frozenset(joined), wide)


@pytest.mark.parametrize(("few", "count"), [(1, 1), (15, 1), (16, 16), (65536, 16)])
def test_how_many_are_few_is_configurable(few: int, count: int) -> None:
    assert len(groups_of(addresses("2001:db8::10/124", "2001:db8::7"), few).joined) == count


def test_many_addresses() -> None:
    many = addresses(*(f"2001:db8:{number:x}::{7 * number:x}" for number in range(5000)))
    groups = groups_of(many, 1024)
    assert groups == Groups(frozenset(7 * number for number in range(5000)), ())


def test_advertisements_begin_quickly_and_come_every_20_seconds_give_or_take_a_fortieth() -> None:
    intervals = list(islice(advertisement_intervals(), 1002))
    assert intervals[:2] == [2.0, 2.0]
    assert 19.5 <= min(intervals[2:]) < 19.6
    assert 20.4 < max(intervals[2:]) <= 20.5
