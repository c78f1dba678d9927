"""The laws of address sets, and of the book that holds their pages."""

from ipaddress import IPv6Address
from itertools import pairwise
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from oracle import longest_match
from strategies import addresses, any_address, entries

from ndpresponder.addresses import LAST_ADDRESS, AddressBook, AddressSet, Refusal, Rule
from ndpresponder.verdict import Verdict

Entries = list[Rule | Refusal]


def edges(some_entries: Entries) -> list[int]:
    """Where a lookup could go wrong by one."""
    near = set()
    for entry in some_entries:
        for edge in (int(entry.prefix.network_address), int(entry.prefix.broadcast_address)):
            near |= {edge - 1, edge, edge + 1}
    return sorted(value for value in near if 0 <= value <= LAST_ADDRESS)


@given(entries, st.lists(addresses | any_address))
def test_the_longest_match_decides(some_entries: Entries, some_addresses: list[int]) -> None:
    address_set = AddressSet(some_entries)
    for address in edges(some_entries) + some_addresses:
        assert address_set.lookup(address) == longest_match(some_entries, address), IPv6Address(address)


@given(entries, st.randoms(use_true_random=False))
def test_order_does_not_matter(some_entries: Entries, random: Random) -> None:
    shuffled = list(some_entries)
    random.shuffle(shuffled)
    assert AddressSet(shuffled) == AddressSet(some_entries)
    assert hash(AddressSet(shuffled)) == hash(AddressSet(some_entries))


@given(entries)
def test_saying_it_twice_changes_nothing(some_entries: Entries) -> None:
    assert AddressSet(some_entries * 2) == AddressSet(some_entries)


@given(entries, st.lists(addresses))
def test_ranges_are_what_is_answered(some_entries: Entries, some_addresses: list[int]) -> None:
    address_set = AddressSet(some_entries)
    ranges = address_set.ranges()
    assert all(first <= last for first, last in ranges)
    assert all(last + 1 < first for (_, last), (first, _) in pairwise(ranges))
    for address in edges(some_entries) + some_addresses:
        inside = any(first <= address <= last for first, last in ranges)
        assert inside == isinstance(address_set.lookup(address), Rule)


def test_the_empty_set_answers_nothing() -> None:
    assert AddressSet().ranges() == []
    assert AddressSet().lookup(0) is Verdict.NOT_CONFIGURED
    assert AddressSet().lookup(LAST_ADDRESS) is Verdict.NOT_CONFIGURED


class Book(RuleBasedStateMachine):
    """Whatever is published in whatever order, the set is that of the newest pages together."""

    def __init__(self) -> None:
        super().__init__()
        self.book = AddressBook()
        self.pages: dict[str, Entries] = {}

    @rule(source=st.sampled_from(["static", "docker", "uplink"]), page=entries)
    def publish(self, source: str, page: Entries) -> None:
        self.pages[source] = page
        before = self.book.addresses
        assert self.book.publish(source, page) == (self.book.addresses != before)

    @invariant()
    def the_set_is_that_of_all_pages(self) -> None:
        assert self.book.addresses == AddressSet(entry for page in self.pages.values() for entry in page)


Book.TestCase.settings = settings(max_examples=30, stateful_step_count=15)
TestBook = Book.TestCase
