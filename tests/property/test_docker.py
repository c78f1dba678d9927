"""Whatever an engine says of a network."""

from contextlib import suppress
from ipaddress import IPv6Address, IPv6Network

from hypothesis import given
from hypothesis import strategies as st
from strategies import addresses, any_address

from ndpresponder.docker import addresses_of, subnets_of

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_ranges = st.sampled_from(["fc00::", "fd00::", "fe80::", "ff02::", "::", "::ffff:0:0"]).map(IPv6Address)
_any = st.builds(
    IPv6Address, addresses | any_address | st.builds(lambda base, low: int(base) + low, _ranges, st.integers(0, 255))
)
_texts = st.builds(lambda address, length: f"{address}/{length}", _any, st.integers(0, 128))
_containers = st.dictionaries(st.text(), _json | st.fixed_dictionaries({"IPv6Address": _texts | _json}), max_size=8)
_ipam = st.fixed_dictionaries({"Config": _json | st.lists(st.fixed_dictionaries({"Gateway": _texts}), max_size=3)})
_networks = _json | st.fixed_dictionaries({"Containers": _json | _containers, "IPAM": _json | _ipam})


@given(_networks, st.booleans())
def test_any_json_gives_a_value_or_one_error(network: object, unique_local: bool) -> None:  # noqa: FBT001 - drawn
    with suppress(ValueError):
        addresses_of(network, unique_local=unique_local)


@given(st.lists(_any, max_size=8), st.lists(_any, max_size=2), st.booleans())
def test_nothing_is_made_up_and_nothing_left_out(
    held: list[IPv6Address],
    gateways: list[IPv6Address],
    unique_local: bool,  # noqa: FBT001 - drawn
) -> None:
    network = {
        "Containers": {str(number): {"IPv6Address": f"{address}/64"} for number, address in enumerate(held)},
        "IPAM": {"Config": [{"Gateway": str(gateway)} for gateway in gateways]},
    }

    def is_answered(address: IPv6Address) -> bool:
        # The standard library's opinion of what an address is, as a witness.
        if address.is_multicast or address.is_link_local or address.is_loopback or address.is_unspecified:
            return False
        if address.ipv4_mapped or address in gateways:
            return False
        return unique_local or address not in IPv6Network("fc00::/7")

    assert addresses_of(network, unique_local=unique_local).addresses == set(filter(is_answered, held))


@given(_json | _ipam | st.fixed_dictionaries({"Config": st.lists(st.fixed_dictionaries({"Subnet": _texts | _json}))}))
def test_any_json_has_prefixes_or_none(ipam: object) -> None:
    assert all(isinstance(subnet, IPv6Network) for subnet in subnets_of({"IPAM": ipam}))
