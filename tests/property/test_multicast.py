"""The groups of any set: those of exactly the answered addresses in narrow prefixes."""

from ipaddress import IPv6Network

from hypothesis import given
from hypothesis import strategies as st
from strategies import addresses, entries

from ndpresponder.addresses import AddressSet, Refusal, Rule
from ndpresponder.multicast import groups_of

narrow = st.builds(
    lambda address, length: IPv6Network((address, length), strict=False), addresses, st.integers(116, 128)
)
narrow_rules = st.builds(Rule, narrow, st.just("static"))


@given(entries, st.lists(narrow_rules, max_size=4), st.sampled_from([1, 2, 256, 1000, 1024]))
def test_groups_are_those_of_the_narrow_prefixes(some: list[Rule | Refusal], more: list[Rule], few: int) -> None:
    some_addresses = AddressSet([*some, *more])
    expected = set()
    for entry in (*some, *more):
        if isinstance(entry, Rule) and entry.prefix.num_addresses <= few:
            for address in entry.prefix:
                outcome = some_addresses.lookup(int(address))
                if isinstance(outcome, Rule) and outcome.prefix.num_addresses <= few:
                    expected.add(int(address) % 2**24)
    groups = groups_of(some_addresses, few)
    assert groups.joined == expected
    assert set(groups.wide) == {
        rule.prefix for _, _, rule in some_addresses.decided() if rule.prefix.num_addresses > few
    }


@given(entries)
def test_what_is_decided_is_what_lookup_says(some: list[Rule | Refusal]) -> None:
    some_addresses = AddressSet(some)
    for first, last, rule in some_addresses.decided():
        assert some_addresses.lookup(first) == some_addresses.lookup(last) == rule
