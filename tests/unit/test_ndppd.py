"""convert(): configurations as ndppd and the guides of its users have them, and what becomes of them."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndpresponder.config import ConfigError
from ndpresponder.file import read_text
from ndpresponder.ndppd import convert

SHIPPED = Path("/usr/share/doc/ndppd/ndppd.conf-dist")


def imported(text: str) -> list[str]:
    """Convert, and return the lines behind the first, which names the file; what they say is valid."""
    toml, interfaces = convert(text, "ndppd.conf")
    if interfaces:
        assert len(read_text(toml, "f.toml").interfaces) == interfaces
    first, *lines = toml.splitlines()
    assert first == "# From ndppd.conf, by ndpresponder import-ndppd."
    return lines


def answered(text: str) -> dict[str, list[str]]:
    """Convert, and return what is answered for on each interface."""
    toml, _ = convert(text, "ndppd.conf")
    settings = read_text(toml, "f.toml")
    return {config.ifname: [str(prefix) for prefix in config.prefixes] for config in settings.interfaces}


def test_everything_at_once() -> None:
    text = """\
route-ttl 30000

proxy eth0 {
   router no
   timeout 500 // milliseconds
   ttl 30000
   rule 2001:db8:1::/112 {
      static
   }
   rule 2001:db8:2::5/120 { static }
   rule 2001:db8:3:: { auto }
   rule 2001:db8:4::/64 {
      iface docker0
      autovia yes
   }
   rule fe80::/64 { static }
}
proxy eth1 {
   rule 2001:db8::/64 { auto }
}
"""
    ask = "has no equivalent yet: it asks inside first; to answer for all of it without asking, write it into subnet"
    nothing_cached = "nothing is cached: each solicitation is decided by itself"
    assert imported(text) == [
        "# line 1: route-ttl 30000 has no equivalent: routes are not looked up",
        "",
        "[[interface]]",
        'ifname = "eth0"',
        "router = false",
        "subnet = [",
        '    "2001:db8:1::/112", # line 7',
        '    "2001:db8:2::/120", # line 10',
        "]",
        "# line 5: timeout 500 has no equivalent: nobody inside is asked, so that nothing is waited for or repeated",
        f"# line 6: ttl 30000 has no equivalent: {nothing_cached}",
        f"# line 11: rule 2001:db8:3::/128 with auto {ask}",
        f"# line 12: rule 2001:db8:4::/64 with iface docker0 {ask}",
        "# line 14: autovia yes has no equivalent: not known",
        (
            "# line 16: rule fe80::/64: link-local addresses (fe80::/10) are never answered for; "
            "name a prefix of global or unique-local ones"
        ),
        "",
        "# eth1: no static rule, nothing to answer for.",
        f"# line 19: rule 2001:db8::/64 with auto {ask}",
    ]


def test_what_ndppd_ships() -> None:
    if not SHIPPED.exists():
        pytest.skip("ndppd is not installed")
    toml, interfaces = convert(SHIPPED.read_text(), "ndppd.conf")
    assert interfaces == 0
    assert re.findall(r"^# line \d+: ([\w-]+)", toml, re.MULTILINE) == ["route-ttl", "timeout", "ttl", "rule"]


# As in the manual; with the signs of version 1; behind a tunnel; for a container; all in one line.
GUIDES = [
    ("proxy eth0 {\n   rule 1234:5678::/96 {\n   }\n}\n", {"eth0": ["1234:5678::/96"]}),
    (
        (
            "proxy ens3 {\n  router yes;\n  timeout 500;\n  ttl 30000;\n  autowire no;\n"
            "  rule 2001:db8::/64 {\n    static;\n  }\n}\n"
        ),
        {"ens3": ["2001:db8::/64"]},
    ),
    (
        (
            "route-ttl 30000\naddress-ttl 30000\nproxy enp1s0 {\n  router yes\n  keepalive yes\n  retries 3\n"
            "  rule 2001:db8:0:1::/80 {\n    static # wg\n  }\n  rule 2001:db8:0:2::/80 {\n    iface tun0\n  }\n}\n"
        ),
        {"enp1s0": ["2001:db8:0:1::/80"]},
    ),
    (
        "proxy eth0 { router yes timeout 500 rule 2001:db8:0:1:d0::/76 { static } rule 2001:db8::5 { static } }",
        {"eth0": ["2001:db8:0:1:d0::/76", "2001:db8::5/128"]},
    ),
    (
        (
            "proxy eth0\n{\n  rule 2001:db8:2222::/64\n  {\n    static\n  }\n}\n"
            "proxy eth1\n{\n  rule 2001:db8:1111::/64\n  {\n    static\n  }\n}\n"
        ),
        {"eth0": ["2001:db8:2222::/64"], "eth1": ["2001:db8:1111::/64"]},
    ),
    (
        "/* all of\n it } */ proxy = 'eth0' { // {\n rule \"2001:db8::/112\" {} # }\n}\r\n",
        {"eth0": ["2001:db8::/112"]},
    ),
    ("proxy br-lan { rule * { static }\n rule 2001:db8::/112 { static } }", {"br-lan": ["2001:db8::/112"]}),
]


@pytest.mark.parametrize(("text", "expected"), GUIDES)
def test_as_guides_have_it(text: str, expected: dict[str, list[str]]) -> None:
    assert answered(text) == expected


def test_sections_of_one_interface_are_one() -> None:
    first, second = "proxy e { rule 2001:db8::1 {} }\n", "proxy f { rule 2001:db8::2 {} }\n"
    text = f"{first}{second}proxy e {{ rule 2001:db8::3 {{}} rule 2001:db8::1 {{}} }}"
    assert answered(text) == {"e": ["2001:db8::1/128", "2001:db8::3/128"], "f": ["2001:db8::2/128"]}


@pytest.mark.parametrize(
    ("router", "line"), [("yes", []), ("TRUE", []), ("", ["router = false"]), ("on", ["router = false"])]
)
def test_router_as_ndppd_reads_it(router: str, line: list[str]) -> None:
    lines = imported(f"proxy e {{\nrouter {router}\nrule 2001:db8::1 {{}}\n}}")
    assert [each for each in lines if each.startswith("router")] == line


@pytest.mark.parametrize("method", ["static auto", "auto static", "auto\nstatic", "static\nauto", "iface e\nauto"])
def test_what_asks_goes_before_static(method: str) -> None:
    """But `static auto` is one statement with a value, to ndppd too."""
    found = imported(f"proxy e {{ rule 2001:db8::/112 {{ {method} }} }}")
    assert ("[[interface]]" in found) == (method == "static auto")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "ndppd.conf: no proxy section: not a configuration of ndppd"),
        ("route-ttl 5\n", "ndppd.conf: no proxy section: not a configuration of ndppd"),
        ("\nproxy {\n}\n", "ndppd.conf:2: proxy: not the name of an interface"),
        ("proxy a/b {\n}\n", "ndppd.conf:1: proxy a/b: not the name of an interface"),
        ("proxy e {\n rule ::1 {\n static\n }\n", "ndppd.conf:1: the { of this line has no }"),
        ("proxy e {\n rule ::1 {\n static\n", "ndppd.conf:2: the { of this line has no }"),
        ("proxy e {\n}\n}\n", "ndppd.conf:3: a } without a { before it"),
        ("proxy e {\n\n{ }\n}\n", "ndppd.conf:3: { where a name such as proxy or rule belongs"),
        ("proxy e {\n= x\n}\n", "ndppd.conf:2: = where a name such as proxy or rule belongs"),
        ("a {" * 2000, "ndppd.conf:1: blocks inside of blocks, too deep for ndppd"),
    ],
)
def test_what_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        convert(text, "ndppd.conf")
    assert str(caught.value) == message


PIECES = [
    "proxy ",
    "rule ",
    "eth0 ",
    "2001:db8::1 ",
    "{ ",
    "} ",
    "static ",
    "auto ",
    "router ",
    "no ",
    *"\n;=#'\"/*\\\0\u2028é",
]


@given(st.lists(st.sampled_from(PIECES), max_size=40) | st.just(["proxy e { rule 2001:db8::/112 { } "]))
def test_any_text_gives_a_valid_file_or_one_line(pieces: list[str]) -> None:
    try:
        imported("".join(pieces) + "}")
    except ConfigError as caught:
        assert re.fullmatch(r"ndppd\.conf(:\d+)?: [^\n]+", str(caught))  # noqa: PT017 - both are right
