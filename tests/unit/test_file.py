"""read_file() and read_text(): what a configuration file says, or one error that names the place and the way out."""

import os
import re
import subprocess
import sys
from dataclasses import fields
from ipaddress import IPv6Network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndpresponder.addresses import Refusal, Rule
from ndpresponder.config import ENDPOINTS, Config, ConfigError, Endpoint, Interface, Multicast
from ndpresponder.file import INTERFACE_KEYS, PROCESS_KEYS, read_file, read_text
from ndpresponder.log import Format
from ndpresponder.policy import Override
from ndpresponder.verdict import Verdict

REFERENCE = Path(__file__).parents[2] / "packaging/ndpresponder.toml"
ETH0 = '[[interface]]\nifname = "eth0"\nsubnet = "2001:db8::/112"\n'
ETH1 = '[[interface]]\nifname = "eth1"\nsubnet = "2001:db8:1::/112"\n'
ALLOWED_HERE = f"allowed: {', '.join(INTERFACE_KEYS)}"
ALLOWED_ABOVE = f"allowed: {', '.join(PROCESS_KEYS)}, [[interface]]"
LIST = '["…", "…"]'
PREFIXES = f"one in quotes, or several in a list: {LIST}"


NO_SUBNET = 'it needs a subnet or a docker-network, such as subnet = "2001:db8::/112"'
GROUP = "the name or the number of a group, in quotes"
NETWORKS = f"the name of a Docker network in quotes, or several in a list: {LIST}"


def rule(prefix: str) -> Rule:
    return Rule(IPv6Network(prefix), "static")


def error(text: str) -> str:
    """Return the one line with which a text is refused, without the name of the file."""
    with pytest.raises(ConfigError) as caught:
        read_text(text, "f.toml")
    message = str(caught.value)
    assert "\n" not in message
    return message.removeprefix("f.toml:").removeprefix(" ")


def test_everything_written_out() -> None:
    text = """\
log-level = "debug"
log-format = "JSON"
metrics = "[::1]:9108"

[[interface]]
ifname = "eth0"
subnet = ["2001:db8::/112", "2001:db8:1::5"]
exclude = "2001:db8::e000/120"
router = false
override = "never"
multicast = "mrd"
multicast-groups = 65536
gateway = "off"
wait = false
docker-network = ["web", "mail", "web"]
docker-unique-local = true
announce = false

[[interface]]
ifname = "br0.7"
docker-network = "other"
"""
    assert read_text(text, "f.toml") == Config(
        (
            Interface(
                "eth0",
                (
                    rule("2001:db8::/112"),
                    rule("2001:db8:1::5/128"),
                    Refusal(IPv6Network("2001:db8::e000/120"), Verdict.EXCLUDED),
                ),
                router=False,
                override=Override.NEVER,
                wait=False,
                multicast=Multicast.MRD,
                few_groups=65536,
                keep_gateway=False,
                docker_networks=("web", "mail"),
                docker_unique_local=True,
                announce=False,
            ),
            Interface("br0.7", (), docker_networks=("other",)),
        ),
        "DEBUG",
        Format.JSON,
        metrics=Endpoint("::1", 9108),
    )


def test_remarks_name_the_line() -> None:
    [config] = read_text(ETH0 + 'exclude = [\n  "2001:db8:1::",\n  "2001:db8::1:5/120"]\n', "f.toml").interfaces

    assert config.remarks == (
        "f.toml:6: exclude 2001:db8::1:5/120 has bits set beyond its length; taken as 2001:db8::1:0/120",
        (
            "f.toml:5: exclude 2001:db8:1::/128 excludes nothing: nothing answered contains it, "
            "and the longest match decides"
        ),
        (
            "f.toml:6: exclude 2001:db8::1:0/120 excludes nothing: nothing answered contains it, "
            "and the longest match decides"
        ),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "nothing to answer for: it has no [[interface]] with an ifname and a subnet"),
        ("interface = []", "nothing to answer for: it has no [[interface]] with an ifname and a subnet"),
        ('subnet = "2001:db8::/112"\n' + ETH0, "1: subnet is not a key here; it belongs below a line [[interface]]"),
        (
            ETH0 + 'log-level = "INFO"\n',
            "4: log-level is not a key here; it is for the whole process: it belongs above the first [[interface]]",
        ),
        ('mode = "x"\n' + ETH0, f"1: mode is not a key here; {ALLOWED_ABOVE}"),
        ('log_level = "INFO"\n' + ETH0, f"1: log_level is not a key here; {ALLOWED_ABOVE}; did you mean log-level?"),
        ("[[interfaces]]\n", f"1: interfaces is not a key here; {ALLOWED_ABOVE}; did you mean [[interface]]?"),
        (ETH0 + "\nprefixes = []\n", f"5: prefixes is not a key here; {ALLOWED_HERE}"),
        (ETH0 + 'mulitcast = "a"\n', f"4: mulitcast is not a key here; {ALLOWED_HERE}; did you mean multicast?"),
        (ETH0 + "Wait = true\n", f"4: Wait is not a key here; {ALLOWED_HERE}; did you mean wait?"),
        (ETH0 + '"a\\nb" = true\n', f'4: "a\\nb" is not a key here; {ALLOWED_HERE}'),
        (ETH0 + ETH1 + "x.y = 1\n", f"7: x is not a key here; {ALLOWED_HERE}"),
        ("[interface]\nifname = 1\n", "1: an interface begins with a line [[interface]], in two brackets"),
        ("\ninterface = [1]\n", "2: an interface begins with a line [[interface]], in two brackets"),
        ("\n[[interface]]\n", '2: an [[interface]] needs an ifname, such as ifname = "eth0"'),
        (
            '[[interface]]\n\nifname = "eth0"\n',
            f"1: nothing to answer for on eth0: {NO_SUBNET}",
        ),
        (
            '[[interface]]\nifname = "eth0"\nsubnet = []\n',
            f"1: nothing to answer for on eth0: {NO_SUBNET}",
        ),
        (
            ETH0 + 'exclude = "2001:db8::/112"\n',
            "3: subnet 2001:db8::/112: nothing to answer for: all that is named is excluded",
        ),
        (ETH0 + ETH1 + ETH0, "8: eth0 has an [[interface]] already, in line 2; make one of the two"),
        (
            f'{ETH0}docker-network = ["a", "b"]\n{ETH1}docker-unique-local = true\ndocker-network = ["c", "b"]\n',
            "9: b has another docker-unique-local at another [[interface]]; give it the same",
        ),
        (ETH0 + ETH1.replace("eth1", "auto"), '5: "auto" can come to be any of the other interfaces; name this one'),
    ],
)
def test_what_does_not_belong_there(text: str, message: str) -> None:
    assert error(text) == message


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('router = "yes"', 'router cannot be "yes"; allowed: true or false, without quotes'),
        ("wait = 1", "wait cannot be 1; allowed: true or false, without quotes"),
        ("wait = {a = 1}", "wait cannot be a table; allowed: true or false, without quotes"),
        (
            'override = "allways"',
            'override cannot be "allways"; allowed: "auto", "always", "never"; did you mean always?',
        ),
        ("override = true", 'override cannot be true; allowed: "auto", "always", "never"'),
        ('multicast = "none"', 'multicast cannot be "none"; allowed: "auto", "allmulti", "join", "mrd"'),
        ('gateway = "on"', 'gateway cannot be "on"; allowed: "auto", "off"'),
        *(
            (
                f"multicast-groups = {value}",
                f"multicast-groups cannot be {value}; allowed: a whole number from 1 to 65536, without quotes",
            )
            for value in ("0", "65537", "1.5", "true", '"8"')
        ),
        ('docker-network = ""', f'docker-network cannot be ""; allowed: {NETWORKS}'),
        ('docker-network = ["web", "a/b"]', f'docker-network cannot be ["web", "a/b"]; allowed: {NETWORKS}'),
        ("docker-network = true", f"docker-network cannot be true; allowed: {NETWORKS}"),
        ("exclude = 1", f"exclude cannot be 1; allowed: {PREFIXES}"),
        ('exclude = ["::", 1]', f'exclude cannot be ["::", 1]; allowed: {PREFIXES}'),
        ('exclude = "a, b"', f'exclude cannot be "a, b"; allowed: {PREFIXES}'),
        ('exclude = "2001:db8::\\n"', f'exclude cannot be "2001:db8::\\n"; allowed: {PREFIXES}'),
        ('exclude = ""', f'exclude cannot be ""; allowed: {PREFIXES}'),
        (f'exclude = "{"b " * 99}"', f'exclude cannot be "{"b " * 29}b…; allowed: {PREFIXES}'),
        ("exclude = 1979-05-27", f'exclude cannot be "1979-05-27"; allowed: {PREFIXES}'),
        (
            'exclude = ["fe80::1"]',
            (
                "exclude fe80::1: link-local addresses (fe80::/10) are never answered for; "
                "name a prefix of global or unique-local ones"
            ),
        ),
        (
            'exclude = "192.0.2.0/24"',
            "exclude 192.0.2.0/24: an IPv4 prefix; neighbor discovery is IPv6 only, for IPv4 the kernel has proxy_arp",
        ),
    ],
)
def test_values_that_are_not_allowed(line: str, message: str) -> None:
    assert error(f"{ETH0}{line}\n{ETH1}") == f"4: {message}"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            'log-level = "WARNING"',
            'log-level cannot be "WARNING"; allowed: "DEBUG", "INFO", "WARN", "ERROR", "FATAL"; did you mean WARN?',
        ),
        ("metrics = 9108", f"metrics cannot be 9108; allowed: in quotes, {ENDPOINTS}"),
        ('metrics = "localhost:9108"', f'metrics cannot be "localhost:9108"; allowed: in quotes, {ENDPOINTS}'),
        ("log-level = 3", 'log-level cannot be 3; allowed: "DEBUG", "INFO", "WARN", "ERROR", "FATAL"'),
        *(
            (f"control-group = {group}", f"control-group cannot be {group}; allowed: {GROUP}")
            # The last number is that of no group: chown(2) takes it for leaving the group as it is.
            for group in ("100", '"a b"', '"a\\u0000"', '"99999999999"', '"4294967296"', '"4294967295"', '"\u0661"')
        ),
        ('log-format = "xml"', 'log-format cannot be "xml"; allowed: "auto", "human", "json"'),
    ],
)
def test_process_wide_values_that_are_not_allowed(line: str, message: str) -> None:
    assert error(f"# first\n{line}\n{ETH0}") == f"2: {message}"


@pytest.mark.parametrize(
    "ifname",
    ['""', '"."', '".."', '"eth0 "', '"a/b"', '"eth0:1"', '"' + "a" * 16 + '"', '"ä23456789012345"', "1", "[]"],
)
def test_what_is_no_name_of_an_interface(ifname: str) -> None:
    assert error(f'[[interface]]\nifname = {ifname}\nsubnet = "::"\n') == (
        f"2: ifname cannot be {ifname}; allowed: the name of an interface, in quotes"
    )


@pytest.mark.parametrize("ifname", ["a" * 15, "ä" * 7, "eth0.7", "...", "-", "'\""])
def test_unusual_names_of_interfaces(ifname: str) -> None:
    written = ifname.replace('"', '\\"')
    [config] = read_text(f'[[interface]]\nifname = "{written}"\nsubnet = "2001:db8::"\n', "f.toml").interfaces
    assert config.ifname == ifname


@pytest.mark.parametrize(
    ("text", "begin"),
    [
        (ETH0 + "\nwait\n", "5: "),
        (ETH0 + "wait = yes\n", "4: "),
        (ETH0 + 'exclude = [\n"::"', "5: "),
        (ETH0 + 'subnet = "2001:db8::5"\n', "4: "),
        (ETH0 + "x = 1" + "1" * 5000, "4: a number of too many digits"),
        (ETH0 + "multicast-groups = 0x" + "1" * 5000, "4: multicast-groups cannot be a number of too many digits; all"),
        (ETH0 + "x = " + "[" * 5000, "brackets in brackets, too deep for a configuration"),
        ("\ufeff" + ETH0, "1: "),
    ],
)
def test_what_is_no_toml(text: str, begin: str) -> None:
    assert error(text).startswith(begin)


PIECES = [*"[]{}=\"'.,\n #\\", "[[interface]]\n", "ifname", "subnet", "wait", "log-level", " = ", "true", '"::1"']


@given(st.lists(st.sampled_from(PIECES), max_size=30))
def test_any_text_gives_settings_or_one_line(pieces: list[str]) -> None:
    try:
        read_text("".join(pieces), "f.toml")
    except ConfigError as caught:
        assert re.fullmatch(r"f\.toml(:\d+)?: [^\n]+", str(caught))  # noqa: PT017 - both are right


# The file itself


def refused(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        read_file(str(path))
    return str(caught.value)


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "f.toml"
    path.write_text("# äöü\n" + ETH0)
    assert [config.ifname for config in read_file(str(path)).interfaces] == ["eth0"]


def test_a_file_with_a_mark_at_the_front(tmp_path: Path) -> None:
    path = tmp_path / "f.toml"
    path.write_text(ETH0, encoding="utf-8-sig")
    assert [config.ifname for config in read_file(str(path)).interfaces] == ["eth0"]


def test_a_file_of_another_user(tmp_path: Path) -> None:
    path = tmp_path / "f.toml"
    path.write_text(ETH0)
    path.chmod(0)
    read = "import sys; from ndpresponder.file import read_file; read_file(sys.argv[1])"
    # Root without its capabilities is anybody.
    command = [
        *(["setpriv", "--bounding-set=-all"] if os.geteuid() == 0 else []),
        sys.executable,
        "-c",
        read,
        str(path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.stderr.endswith(
        f": {path}: Permission denied; the user that ndpresponder runs as must be able to read it\n"
    )


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    missing, pipe, large, octets = (tmp_path / name for name in ("missing", "pipe", "large", "octets"))
    os.mkfifo(pipe)
    large.write_bytes(b"#" * (2**20 + 1))
    octets.write_bytes(b"# 1\n# \xff\n")

    assert refused(missing) == f"{missing}: No such file or directory"
    assert refused(tmp_path) == f"{tmp_path}: Is a directory"
    assert refused(pipe) == f"{pipe}: not a regular file"
    assert refused(Path("/dev/zero")) == "/dev/zero: not a regular file"
    assert refused(large) == f"{large}: larger than 1048576 octets: not a configuration"
    assert refused(octets) == f"{octets}:2: not UTF-8 (octet 0xff); save it as UTF-8"


# The reference file


def reference() -> str:
    """Return its text with all keys taken into use."""
    return re.sub(r"^#(?=[\w\[])", "", REFERENCE.read_text(), flags=re.MULTILINE)


def test_the_reference_file_as_it_is_has_nothing_to_answer_for() -> None:
    assert (
        refused(REFERENCE) == f"{REFERENCE}: nothing to answer for: it has no [[interface]] with an ifname and a subnet"
    )


def test_the_reference_file_has_every_key() -> None:
    found = re.findall(r"^([\w-]+) = ", reference(), re.MULTILINE)
    assert sorted(found) == sorted([*PROCESS_KEYS, *INTERFACE_KEYS])


def test_the_reference_file_states_the_defaults() -> None:
    assert read_text(reference(), "f.toml") == Config((Interface("eth0", (rule("2001:db8:1::d000/120"),)),))


def test_every_field_has_a_key() -> None:
    """The other way round: what a Interface can be, a file can say."""
    changed: dict[str, Any] = {
        "router": "false",
        "override": '"never"',
        "multicast": '"mrd"',
        "multicast-groups": "1",
        "gateway": '"off"',
        "wait": "false",
        "announce": "false",
        "docker-network": '"web"',
        "docker-unique-local": "true",
    }
    lines = "".join(f"{key} = {value}\n" for key, value in changed.items())
    [config] = read_text(ETH0 + lines, "f.toml").interfaces
    default = Interface("eth0", ())
    same = {field.name for field in fields(Interface) if getattr(config, field.name) == getattr(default, field.name)}
    assert same == {"ifname", "remarks"}
