"""parse_addresses(): what the operator wrote becomes rules, refusals and remarks, or one error."""

from ipaddress import IPv6Network

import pytest

from ndpresponder.addresses import Refusal, Rule
from ndpresponder.config import (
    ENDPOINTS,
    ConfigError,
    Endpoint,
    Interface,
    parse_addresses,
    parse_endpoint,
    parse_networks,
)
from ndpresponder.policy import Override
from ndpresponder.verdict import Verdict

GLOBAL_WANTED = "are never answered for; name a prefix of global or unique-local ones"
IPV4 = "an IPv4 prefix; neighbor discovery is IPv6 only, for IPv4 the kernel has proxy_arp"
UNPARSABLE = "not an IPv6 prefix such as 2001:db8::/112 ("
NOTHING_NAMED = "nothing to answer for: name a prefix or an address, such as -n 2001:db8::/112"
ALL_EXCLUDED = "nothing to answer for: all that is named is excluded"


def rule(prefix: str) -> Rule:
    return Rule(IPv6Network(prefix), "static")


def excluded(prefix: str) -> Refusal:
    return Refusal(IPv6Network(prefix), Verdict.EXCLUDED)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("192.0.2.0/24", IPV4, id="ipv4"),
        pytest.param("192.0.2.1", IPV4, id="ipv4-address"),
        pytest.param("192.0.2.1/24", IPV4, id="ipv4-host-bits"),
        pytest.param("fe80::/64", f"link-local addresses (fe80::/10) {GLOBAL_WANTED}", id="link-local"),
        pytest.param("febf::1", f"link-local addresses (fe80::/10) {GLOBAL_WANTED}", id="link-local-end"),
        pytest.param("ff02::/16", f"multicast addresses (ff00::/8) {GLOBAL_WANTED}", id="multicast"),
        pytest.param("::1", f"loopback addresses (::1/128) {GLOBAL_WANTED}", id="loopback"),
        pytest.param("::", f"unspecified addresses (::/128) {GLOBAL_WANTED}", id="unspecified"),
        pytest.param("::/0", f"unspecified addresses (::/128) {GLOBAL_WANTED}", id="everything"),
        pytest.param("f000::/4", f"link-local addresses (fe80::/10) {GLOBAL_WANTED}", id="contains-link-local"),
        pytest.param("::ffff:192.0.2.1", f"IPv4-mapped addresses (::ffff:0:0/96) {GLOBAL_WANTED}", id="ipv4-mapped"),
    ],
)
@pytest.mark.parametrize("flag", ["-n", "-x"])
def test_a_prefix_that_is_never_answered_for(flag: str, text: str, reason: str) -> None:
    prefixes, exclusions = ([text], []) if flag == "-n" else (["2001:db8::/112"], [text])

    with pytest.raises(ConfigError) as caught:
        parse_addresses(prefixes, exclusions)

    assert str(caught.value) == f"{flag} {text}: {reason}"


@pytest.mark.parametrize(
    "text",
    ["eth0", "2001:db8::/129", "2001:db8::/-1", "2001:db8::/64/64", "2001:db8::g", "2001:db8::/"],
)
def test_what_is_no_prefix(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_addresses([text], [])

    assert str(caught.value).startswith(f"-n {text}: {UNPARSABLE}")
    assert str(caught.value).endswith(")")


@pytest.mark.parametrize("text", ["2001:db8::1%eth0", "2001:db8::%2/112", "fe80::1%eth0"])
def test_a_zone(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_addresses([text], [])

    assert str(caught.value) == f"-n {text}: a zone has no place in a prefix; the interface is named by itself"


def test_lines_are_as_good_as_commas() -> None:
    """As `-n "$(cat prefixes)"` makes them."""
    entries, _ = parse_addresses(["2001:db8::/112\n2001:db8:1::/112"], [])

    assert entries == (rule("2001:db8::/112"), rule("2001:db8:1::/112"))


def test_host_bits_are_masked_and_said_so() -> None:
    entries, remarks = parse_addresses(["2001:db8::d003/112"], ["2001:db8::e001/120"])

    assert entries == (rule("2001:db8::/112"), excluded("2001:db8::e000/120"))
    assert remarks == (
        "-n 2001:db8::d003/112 has bits set beyond its length; taken as 2001:db8::/112",
        "-x 2001:db8::e001/120 has bits set beyond its length; taken as 2001:db8::e000/120",
    )


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(["2001:db8::/112", "fd00::5"], id="repeated"),
        pytest.param(["2001:db8::/112,fd00::5"], id="commas"),
        pytest.param([" 2001:db8::/112 ,\tfd00::5\n"], id="blanks"),
        pytest.param([",2001:db8::/112,,", "", " , ", "fd00::5,"], id="empty-parts"),
        pytest.param(["2001:0DB8:0::0/112", "fd00::5/128"], id="other-spellings"),
    ],
)
def test_several_prefixes(values: list[str]) -> None:
    assert parse_addresses(values, []) == ((rule("2001:db8::/112"), rule("fd00::5/128")), ())
    assert parse_addresses(["2000::/64", *values], values)[0][3:] == (
        excluded("2001:db8::/112"),
        excluded("fd00::5/128"),
    )


@pytest.mark.parametrize("values", [[], [""], [" , ", ",,"]])
def test_nothing_named(values: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_addresses(values, ["2001:db8::/112"])

    assert str(caught.value) == NOTHING_NAMED


@pytest.mark.parametrize(
    ("prefix", "exclusions"),
    [
        pytest.param("2001:db8::/112", ["2001:db8::/112"], id="the-same"),
        pytest.param("2001:db8::/112", ["2001:db8::/113", "2001:db8::8000/113"], id="both-halves"),
        pytest.param("2001:db8::5", ["2001:db8::5"], id="an-address"),
        # All that is left is the subnet-router anycast address, which is never answered.
        pytest.param("2001:db8::/127", ["2001:db8::1"], id="all-but-anycast"),
    ],
)
def test_all_is_excluded(prefix: str, exclusions: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_addresses([prefix], exclusions)

    assert str(caught.value) == f"-n {IPv6Network(prefix)}: {ALL_EXCLUDED}"


def test_an_exclusion_outside_excludes_nothing() -> None:
    entries, remarks = parse_addresses(["2001:db8::/112"], ["2001:db8::1:0/112"])

    assert entries == (rule("2001:db8::/112"), excluded("2001:db8::1:0/112"))
    assert remarks == (
        "-x 2001:db8::1:0/112 excludes nothing: nothing answered contains it, and the longest match decides",
    )


def test_an_exclusion_that_contains_every_prefix_excludes_nothing() -> None:
    """The longest match decides, so each -n wins; whoever wrote this -x believes the opposite."""
    _, remarks = parse_addresses(["2001:db8::/112", "2001:db8::1:0/112"], ["2001:db8::/96"])

    [remark] = remarks
    assert remark.startswith("-x 2001:db8::/96 excludes nothing: ")


def test_an_exclusion_inside_is_not_remarked_on() -> None:
    entries, remarks = parse_addresses(["2001:db8::/112", "2001:db8::e0ff"], ["2001:db8::e000/120"])

    assert entries == (rule("2001:db8::/112"), rule("2001:db8::e0ff/128"), excluded("2001:db8::e000/120"))
    assert remarks == ()


def test_wider_than_64() -> None:
    _, remarks = parse_addresses(["2001:db8::/63", "2001:db8:1::/64"], ["2001:db8::/64"])

    [remark] = remarks
    assert remark == (
        "-n 2001:db8::/63 is wider than a /64: a scan of it can fill the router's neighbor table; "
        "name only the part that is in use"
    )


def test_the_prefixes_of_a_config_are_those_answered_for_in_their_order() -> None:
    entries, remarks = parse_addresses(["fd00::5", "2001:db8::/112"], ["2001:db8::e000/120"])
    config = Interface("eth0", entries, router=True, override=Override.AUTO, wait=True, remarks=remarks)

    assert config.prefixes == [IPv6Network("fd00::5/128"), IPv6Network("2001:db8::/112")]


def test_with_more_to_answer_for_no_prefix_is_needed() -> None:
    """What a container will hold can be excluded beforehand."""
    assert parse_addresses([], ["2001:db8::5"], more=True) == ((excluded("2001:db8::5/128"),), ())
    assert parse_addresses([], [], more=True) == ((), ())


def test_with_more_to_answer_for_nothing_is_left_of_the_prefixes() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_addresses(["2001:db8::/112"], ["2001:db8::/112"], more=True)

    assert str(caught.value) == f"-n 2001:db8::/112: {ALL_EXCLUDED}"


def test_each_network_once_in_their_order() -> None:
    assert parse_networks(["web", "my net", "web", "a.b_c-d"]) == ("web", "my net", "a.b_c-d")


@pytest.mark.parametrize("name", ["", "a/b", "..//", "web\n"])
def test_what_is_no_network_name(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_networks(["web", name])

    assert str(caught.value) == f"-N {name}: not the name of a Docker network; docker network ls lists them"


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("off", None),
        ("127.0.0.1:9108", Endpoint("127.0.0.1", 9108)),
        ("0.0.0.0:1", Endpoint("0.0.0.0", 1)),  # noqa: S104 - what an operator can want
        ("[::1]:9108", Endpoint("::1", 9108)),
        ("[2001:DB8:0::1]:65535", Endpoint("2001:db8::1", 65535)),
    ],
)
def test_where_to_listen(text: str, endpoint: Endpoint | None) -> None:
    assert parse_endpoint(text) == endpoint
    # What is logged can be written again.
    assert endpoint is None or parse_endpoint(str(endpoint)) == endpoint


@pytest.mark.parametrize(
    "text",
    [
        *("", "9108", ":9108", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:http"),
        *("::1:9108", "[::1]", "[::1]:-1", "[fe80::1%eth0]:9108", "[127.0.0.1]:9108", "127.0.0.256:9108"),
        *("localhost:9108", "[::1]:9108 ", "http://127.0.0.1:9108", "127.0.0.1:\u0669", "OFF"),
    ],
)
def test_where_nobody_can_listen(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_endpoint(text)
    assert str(caught.value) == f"--metrics {text}: allowed: {ENDPOINTS}"
