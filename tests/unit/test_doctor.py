"""The address that the doctor wants to be pinged."""

from ipaddress import IPv6Address, IPv6Interface, IPv6Network

from hypothesis import given
from hypothesis import strategies as st
from strategies import addresses, prefixes

from ndpresponder.doctor import unused
from ndpresponder.netlink import Snapshot, Survey


def survey(*prefixes: str, own: str = "2001:db8::1/64", held: str = "2001:db8::2") -> Survey:
    snapshot = Snapshot("eth0", (IPv6Interface(own),), (IPv6Address("2001:db8::3"),))
    return Survey(snapshot, tuple(map(IPv6Network, prefixes)), (), (("docker0", IPv6Address(held)),))


def test_nobody_has_it() -> None:
    # Of these four, the first is anycast, the second the uplink's, the last its gateway's.
    four = survey("2001:db8::/126", held="2001:db8::9")
    assert {unused(four, ()) for _ in range(50)} == {IPv6Address("2001:db8::2")}
    assert unused(survey("2001:db8::/126", held="2001:db8::2"), ()) is None
    assert unused(four, {IPv6Address("2001:db8::2")}) is None
    assert unused(survey("2001:db8::1", "2001:db8::3"), ()) is None
    assert unused(survey("2001:db8::1", "2001:db8::7"), {IPv6Address("2001:db8::7")}) == IPv6Address("2001:db8::7")


@given(
    st.lists(prefixes, min_size=1, max_size=3), st.builds(IPv6Interface, addresses), st.builds(IPv6Address, addresses)
)
def test_it_is_of_the_prefixes(some: list[IPv6Network], own: IPv6Interface, held: IPv6Address) -> None:
    drawn = unused(survey(*map(str, some), own=str(own), held=str(held)), ())
    if drawn is not None:
        assert any(drawn in prefix for prefix in some)
        assert drawn != own.ip
        assert drawn != held or IPv6Network(held) in some
