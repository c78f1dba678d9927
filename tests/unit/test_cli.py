"""The command line, run as a user runs it, up to where a socket would be opened.

What goes on from there is in the tests of the daemon, inside namespaces.
"""

import grp
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGTERM, Signals
from threading import Thread

import pytest
from wire import signalled

from ndpresponder import __version__
from ndpresponder.addresses import AddressSet
from ndpresponder.config import DOCKER_SDK, PROMETHEUS_CLIENT, parse_addresses
from ndpresponder.file import INTERFACE_KEYS, PROCESS_KEYS
from ndpresponder.filter import Instruction, compile_filter, disassemble, numbers
from ndpresponder.station import interfaces

PREFIX = "2001:db8::/112"
NO_NAME = "name the uplink with -i, or a configuration file with -c; there are: "
NO_NETWORK = "not the name of a Docker network; docker network ls lists them"
NO_INTERFACE = "not the name of an interface"
EXCLUDED = "nothing to answer for: all that is named is excluded"
NOTHING = "nothing to answer for: name a prefix or an address, such as -n 2001:db8::/112"
# An interface that no machine has: should a usage error go unnoticed, no real one is touched.
ABSENT = "ndpr-absent"
COMMANDS = ["check", "doctor", "explain", "filter", "import-ndppd", "monitor", "reload", "status"]


def ndpresponder(*arguments: str, level: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "NDPRESPONDER_LOG"}
    if level is not None:
        environment["NDPRESPONDER_LOG"] = level
    return subprocess.run(
        [sys.executable, "-m", "ndpresponder", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def usage_error(*arguments: str, level: str | None = None) -> str:
    """Run a command line that is refused; return its one line without the program's name."""
    done = ndpresponder(*arguments, level=level)
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("ndpresponder: ")
    return line.removeprefix("ndpresponder: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(("-i", ABSENT), NOTHING, id="no-prefix"),
        pytest.param(
            ("-i", ABSENT, "-n", PREFIX, "-x", PREFIX), f"-n {PREFIX}: nothing to answer for: all", id="all-excluded"
        ),
        pytest.param(("-i", ABSENT, "-n", "192.0.2.0/24"), "-n 192.0.2.0/24: an IPv4 prefix;", id="ipv4"),
        pytest.param(("-i", ABSENT, "-n", PREFIX, "-n", "fe80::1"), "-n fe80::1: link-local", id="link-local"),
        pytest.param(("-i", ABSENT, "-n", f"{PREFIX},ff02::1"), "-n ff02::1: multicast", id="multicast"),
        pytest.param(("-i", ABSENT, "-n", PREFIX, "-x", "eth0"), "-x eth0: not an IPv6 prefix", id="unparsable"),
        pytest.param(("filter",), NOTHING, id="filter-without-prefix"),
        pytest.param(("filter", "-n", "::1"), "-n ::1: loopback", id="filter-loopback"),
    ],
)
def test_prefixes_that_cannot_be_meant(arguments: tuple[str, ...], message: str) -> None:
    assert usage_error(*arguments).startswith(message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--bogus",), "No such option '--bogus'."),
        (("filter", "--bogus"), "No such option '--bogus'."),
        (("bogus",), "No such command 'bogus'."),
        (("-i", ABSENT, "-n", PREFIX, "bogus"), "No such command 'bogus'."),
        (("-i",), "Option '-i' requires an argument."),
        (("--override", "maybe"), "Invalid value for '--override': 'maybe' is not one of 'auto', 'always', 'never'."),
        (
            ("--multicast", "none"),
            "Invalid value for '--multicast': 'none' is not one of 'auto', 'allmulti', 'join', 'mrd'.",
        ),
        (("--multicast-groups", "0"), "Invalid value for '--multicast-groups': 0 is not in the range 1<=x<=65536."),
        (("--gateway", "on"), "Invalid value for '--gateway': 'on' is not one of 'auto', 'off'."),
        (("--log-format", "xml"), "Invalid value for '--log-format': 'xml' is not one of 'auto', 'human', 'json'."),
        (("-i", ABSENT, "-N", ""), f"-N : {NO_NETWORK}"),
        (("-i", ABSENT, "-n", PREFIX, "--docker-network", "web", "-N", "../web"), f"-N ../web: {NO_NETWORK}"),
        (("-i", ABSENT, "-N", "web", "-n", PREFIX, "-x", PREFIX), f"-n {PREFIX}: {EXCLUDED}"),
        *(
            (
                ("-i", ABSENT, "-n", PREFIX, "--control-group", group),
                f"--control-group {shown}: neither the name nor the number of a group",
            )
            for group, shown in (
                ("a b", "a b"),
                ("x\n", "x\\n"),
                ("99999999999", "99999999999"),
                ("4294967296", "4294967296"),
                ("4294967295", "4294967295"),
            )
        ),
        (("-i", ABSENT, "-N", "a\nb\x1b"), f"-N a\\nb\\x1b: {NO_NETWORK}"),
        (("check", "-c", ""), "'': No such file or directory"),
        (("-N", "web", "-i", ""), f"{NO_NAME}{interfaces()}"),
        (("-i", f"{ABSENT}x{'x' * 15}", "-n", PREFIX), f"-i {ABSENT}x{'x' * 15}: {NO_INTERFACE}"),
        (("-i", "eth0:0", "-n", PREFIX), f"-i eth0:0: {NO_INTERFACE}"),
        (("-i", "eth0:1/x", "-n", PREFIX), f"-i eth0:1/x: {NO_INTERFACE}"),
        (("-i", f"{ABSENT} ", "-n", PREFIX), f"-i {ABSENT} : {NO_INTERFACE}"),
        (("-i", "x" * 100_000, "-n", PREFIX), f"-i {'x' * 60}: {NO_INTERFACE}"),
        (("doctor", "-i", ".."), f"-i ..: {NO_INTERFACE}"),
        (("status", "-i", "eth0:0"), f"-i eth0:0: {NO_INTERFACE}"),
    ],
)
def test_usage_errors(arguments: tuple[str, ...], message: str) -> None:

    assert usage_error(*arguments).replace("option: --bogus", "option '--bogus'.") == message


@pytest.mark.parametrize("arguments", [(), ("-n", PREFIX), ("--no-wait", "--log-format", "json")])
def test_without_an_interface_those_that_exist_are_named(arguments: tuple[str, ...]) -> None:
    # The wording is for up to 8 interfaces; those beyond are counted.
    names = [name for _, name in socket.if_nameindex()]
    there = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")

    assert usage_error(*arguments) == NO_NAME + there


def test_an_interface_without_a_name() -> None:
    """As `-i "$UPLINK"` makes it where the variable is not set."""
    assert usage_error("-i", "", "-n", PREFIX, "--no-wait").startswith(NO_NAME)


def test_a_docker_network_is_enough_to_answer_for() -> None:
    done = ndpresponder("-i", ABSENT, "-N", "web", "-x", "2001:db8::1", "--no-wait", "--log-format", "human")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith(f"fatal: {ABSENT}: No such device; there are: {interfaces()}\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARN", "ERROR", "FATAL", "debug", "Warn", ""])
def test_levels_in_the_environment(level: str) -> None:
    assert usage_error("-i", ABSENT, level=level) == NOTHING


@pytest.mark.parametrize("level", ["TRACE", "warning", "3", " INFO"])
def test_wrong_levels_in_the_environment(level: str) -> None:
    line = usage_error("-i", ABSENT, "-n", PREFIX, level=level)
    assert re.fullmatch(
        rf"Invalid value for '--log-level'.*: '{level}' is not one of 'debug', 'info', 'warn', 'error', 'fatal'\.",
        line,
        re.IGNORECASE,
    )
    assert "NDPRESPONDER_LOG" in line


@pytest.mark.parametrize(
    "options",
    [("-i", ABSENT), ("-n", PREFIX), ("-x", PREFIX), ("--no-wait",), ("--log-level", "debug"), ("-c", "a.toml")],
)
def test_options_before_a_command_are_refused(options: tuple[str, ...]) -> None:
    line = usage_error(*options, "filter", "-n", PREFIX)
    assert line == "options before 'filter' have no effect; write them behind it"


@pytest.mark.parametrize(("options", "wording"), [((), disassemble), (("--ddd",), numbers)])
def test_filter(options: tuple[str, ...], wording: Callable[[Sequence[Instruction]], str]) -> None:
    entries, _ = parse_addresses([PREFIX], ["2001:db8::e000/120"])

    done = ndpresponder("filter", "-n", PREFIX, "-x", "2001:db8::e000/120", *options, level="DEBUG")

    expected = wording(compile_filter(AddressSet(entries)).instructions)
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")


def test_filter_written_out() -> None:
    done = ndpresponder("filter", "-n", "2001:db8::d003")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "(000) ldh      [type]",
        "(001) jgt      #0x2             jt 20\tjf 2",
        "(002) ldh      [12]",
        "(003) jeq      #0x86dd          jt 4\tjf 20",
        "(004) ldb      [14]",
        "(005) and      #0xf0",
        "(006) jeq      #0x60            jt 7\tjf 20",
        "(007) ldh      [20]",
        "(008) jeq      #0x3aff          jt 9\tjf 20",
        "(009) ldh      [54]",
        "(010) jeq      #0x8700          jt 11\tjf 20",
        "(011) ld       [62]",
        "(012) jeq      #0x20010db8      jt 13\tjf 20",
        "(013) ld       [66]",
        "(014) jeq      #0x0             jt 15\tjf 20",
        "(015) ld       [70]",
        "(016) jeq      #0x0             jt 17\tjf 20",
        "(017) ld       [74]",
        "(018) jeq      #0xd003          jt 19\tjf 20",
        "(019) ret      #262144",
        "(020) ret      #0",
    ]


def test_what_filter_remarks_goes_to_standard_error() -> None:
    done = ndpresponder("filter", "--ddd", "-n", "2001:db8::5/112", "-x", "fd00::")

    assert done.returncode == 0
    assert done.stdout.splitlines()[0] == "22"
    assert done.stderr.splitlines() == [
        "ndpresponder: -n 2001:db8::5/112 has bits set beyond its length; taken as 2001:db8::/112",
        "ndpresponder: -x fd00::/128 excludes nothing: nothing answered contains it, and the longest match decides",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name the uplink with -i; there are: "),
        (("-n", PREFIX), "name the uplink with -i; there are: "),
        (("-i", ABSENT, "-n", "192.0.2.0/24"), "-n 192.0.2.0/24: an IPv4 prefix;"),
        (("-i", ABSENT, "-n", ""), NOTHING),
        (("-i", ABSENT, "--listen", "-1"), "Invalid value for '--listen': -1 is not in the range 0<=x<=3600."),
        (("-i", ABSENT, "--listen", "soon"), "Invalid value for '--listen': 'soon' is not a valid integer range."),
    ],
)
def test_usage_errors_of_the_doctor(arguments: tuple[str, ...], message: str) -> None:
    assert usage_error("doctor", *arguments).startswith(message)


def test_the_doctor_of_an_interface_that_is_not_there() -> None:
    done = ndpresponder("doctor", "-i", ABSENT, "-n", PREFIX)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"ndpresponder: {ABSENT}: no such interface; there are: ")


def test_filter_says_that_it_is_wider() -> None:
    # Every other address of more than the kernel's 4,096 instructions could tell apart.
    many = ",".join(f"2001:db8::{2 * number:x}" for number in range(1, 5000))

    done = ndpresponder("filter", "--ddd", "-n", many)

    assert done.returncode == 0
    count, *instructions = done.stdout.splitlines()
    assert int(count) == len(instructions) <= 4096
    assert done.stderr == "ndpresponder: wider than the prefixes: more would not fit the kernel's limit\n"


def test_version() -> None:
    done = ndpresponder("--version")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"ndpresponder, version {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "first"),
    [
        (("--help",), "Usage: ndpresponder [OPTIONS] [COMMAND] [ARGS]..."),
        (("-h",), "Usage: ndpresponder [OPTIONS] [COMMAND] [ARGS]..."),
        (("filter", "--help"), "Usage: ndpresponder filter [OPTIONS]"),
        (("doctor", "--help"), "Usage: ndpresponder doctor [OPTIONS]"),
        # As it is written, whatever else the line has.
        (("-i", ABSENT, "-n", "nonsense", "--help"), "Usage: ndpresponder [OPTIONS] [COMMAND] [ARGS]..."),
    ],
)
def test_help(arguments: tuple[str, ...], first: str) -> None:
    done = ndpresponder(*arguments)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == first


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_says_what_each_option_is_for(command: str) -> None:
    printed = ndpresponder(*command.split(), "--help").stdout
    listed = printed.partition("\nOptions:\n")[2].partition("\nCommands:\n")[0]
    options = re.split(r"^  (?=-)", listed, flags=re.MULTILINE)[1:]
    # Behind its names there is a sentence, not just a default.
    assert [each for each in options if not re.search(r"\s{2,}(?:A|JSON|IPv6|[A-Z][a-z]+) ", each)] == []
    assert options


def test_help_names_every_option_and_command() -> None:
    printed = ndpresponder("--help").stdout

    words = set(re.findall(r"(?<![\w-])--?[\w-]+", printed))
    assert words >= {
        *("-i", "--ifname", "-n", "--subnet", "-x", "--exclude", "-N", "--docker-network", "--docker-unique-local"),
        *("--router", "--no-router", "--override", "--wait", "--no-wait", "--log-format", "--log-level"),
        "--gateway",
        *("--version", "-h", "--help"),
    }
    assert "NDPRESPONDER_LOG" in printed
    commands = re.findall(r"^  ([\w-]+)  ", printed.partition("\nCommands:\n")[2], re.MULTILINE)
    assert commands == COMMANDS


# Standard streams


def through_shell(redirection: str, *arguments: str, encoding: str = "utf-8") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ndpresponder", *arguments]
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {redirection}', "sh", *command],
        env=os.environ | {"PYTHONIOENCODING": encoding},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


EXPLAIN = ("explain", "-i", ABSENT, "-n", PREFIX, "2001:db9::5")


@pytest.mark.parametrize("arguments", [("filter", "-n", PREFIX), EXPLAIN, ("--help",), ("--version",)])
def test_a_full_disk(arguments: tuple[str, ...]) -> None:
    done = through_shell(">/dev/full", *arguments)
    assert (done.returncode, done.stderr) == (1, "ndpresponder: standard output: No space left on device\n")


@pytest.mark.parametrize(
    ("arguments", "status"), [(("filter", "-n", PREFIX), 0), (EXPLAIN, 3), (("status", "-c"), 2), (("--bogus",), 2)]
)
@pytest.mark.parametrize("redirection", [">&-", "2>&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_streams_that_are_missing(redirection: str, arguments: tuple[str, ...], status: int) -> None:
    done = through_shell(redirection, *arguments)
    assert done.returncode == status
    assert "Traceback" not in done.stderr


def test_text_that_cannot_be_written() -> None:
    """As in this locale, and as the name of a file that is not UTF-8."""
    done = through_shell("", *EXPLAIN, encoding="ascii")
    assert (done.returncode, done.stderr) == (3, "")
    assert f"> ndpresponder -i {ABSENT} -n 2001:db9::5 \\u2026\n" in done.stdout


def test_a_name_that_is_not_utf_8(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.toml")
    Path(path).write_text(FILE)
    done = through_shell("", "explain", "-i", "lo", "-c", path, "2001:db9::5")
    assert (done.returncode, done.stderr) == (3, "")
    assert f'> add "2001:db9::5" to subnet in {tmp_path}/\\udcff.toml, then: ' in done.stdout


# What the shells ask


def completions(*words: str) -> str:
    """Return what bash is told for the last of these words."""
    asked = {"COMP_WORDS": " ".join(("ndpresponder", *words)), "COMP_CWORD": str(len(words))}
    done = subprocess.run(
        [sys.executable, "-m", "ndpresponder"],
        env=os.environ | asked | {"_NDPRESPONDER_COMPLETE": "bash_complete"},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return done.stdout


@pytest.mark.parametrize(
    "words", [("-c", "/etc/ho"), *((command, "-c", "/etc/ho") for command in ("check", "reload", "status", "explain"))]
)
def test_files_are_completed(words: tuple[str, ...]) -> None:
    # The shell itself knows them.
    assert completions(*words) == "file,/etc/ho\n"


def test_other_files_are_completed() -> None:
    assert completions("import-ndppd", "/etc/ho") == "file,/etc/ho\n"
    assert completions("monitor", "-w", "/etc/ho") == "file,/etc/ho\n"


@pytest.mark.parametrize("words", [(), ("doctor",), ("status",), ("monitor",), ("explain",)])
def test_interfaces_are_completed(words: tuple[str, ...]) -> None:
    assert "plain,lo" in completions(*words, "-i", "l").splitlines()
    assert completions(*words, "-i", "ndpr-") == "\n"


# Configuration files


@pytest.mark.parametrize(
    ("arguments", "option", "key"),
    [
        (("-i", ABSENT), "-i", "ifname"),
        (("--subnet", PREFIX), "-n", "subnet"),
        (("-x", PREFIX), "-x", "exclude"),
        (("-N", "web"), "-N", "docker-network"),
        (("--docker-unique-local",), "--docker-unique-local", "docker-unique-local"),
        (("--no-router",), "--no-router", "router"),
        (("--override", "auto"), "--override", "override"),
        (("--multicast-groups", "5"), "--multicast-groups", "multicast-groups"),
        (("--no-wait",), "--no-wait", "wait"),
        (("--gateway", "off"), "--gateway", "gateway"),
        (("--no-announce",), "--no-announce", "announce"),
        (("--announce",), "--announce", "announce"),
    ],
)
def test_what_goes_into_the_file(arguments: tuple[str, ...], option: str, key: str) -> None:
    assert key in INTERFACE_KEYS
    assert usage_error("-c", "a.toml", *arguments) == (
        f"{option} does not go with -c; a.toml can say it, with the key {key}"
    )


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "f.toml"
    assert usage_error("-c", str(path)) == f"{path}: No such file or directory"
    assert usage_error("check", "-c", str(path)) == f"{path}: No such file or directory"
    assert usage_error("reload", "-c", str(path)) == f"{path}: No such file or directory"


def test_options_for_the_log_go_with_a_file(tmp_path: Path) -> None:
    """As far as to an interface that is missing."""
    path = tmp_path / "f.toml"
    path.write_text(f'log-format = "json"\n[[interface]]\nifname = "{ABSENT}"\nsubnet = "::2"\nwait = false\n')
    done = ndpresponder("-c", str(path), "--log-format", "human", level="FATAL")
    assert done.returncode == 1
    assert re.fullmatch(rf"\d\d:\d\d:\d\d fatal: {ABSENT}: No such device; there are: [^\n]*\n", done.stderr)


def test_every_key_is_a_flag() -> None:
    printed = ndpresponder("--help").stdout
    flags = set(re.findall(r"--([\w-]+)", printed))
    assert {*INTERFACE_KEYS, *PROCESS_KEYS} <= flags


FILE = """\
[[interface]]
ifname = "ndpr-absent"
subnet = ["2001:db8::/112", "2001:db8:1::5/64"]
exclude = "2001:db8::e000/120"

[[interface]]
ifname = "lo"
subnet = "2001:db8:2::5"
router = false
override = "always"
multicast = "allmulti"
gateway = "off"
"""


def test_check(tmp_path: Path) -> None:
    path = tmp_path / "f.toml"
    path.write_text(FILE)

    done = ndpresponder("check", "-c", str(path))

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "ndpr-absent (not here now; waits for it)",
        "  answers for  2001:db8::/112",
        "               2001:db8:1::/64",
        "  but not for  2001:db8::e000/120",
        "  flags        Router, Override for addresses that are known to live here",
        "  multicast    all that arrives, and joined groups",
        "               0 groups joined",
        "               none for 2001:db8::/112: more than 1024 addresses",
        "               none for 2001:db8:1::/64: more than 1024 addresses",
        "  gateway      its neighbor entry is kept usable",
        "",
        "lo",
        "  answers for  2001:db8:2::5/128",
        "  flags        no Router, Override",
        "  multicast    all that arrives",
        "  gateway      left to the kernel",
        "",
        "log-level INFO, log-format auto",
        "metrics off, control-group none",
        f"warning: {path}:3: subnet 2001:db8:1::5/64 has bits set beyond its length; taken as 2001:db8:1::/64",
    ]


@pytest.mark.parametrize(
    ("group", "shown"),
    [
        ("0", "0"),
        (grp.getgrgid(0).gr_name, grp.getgrgid(0).gr_name),
        ("ndpr-absent", "ndpr-absent (there is no such group here)"),
    ],
)
def test_check_of_what_is_for_the_whole_process(tmp_path: Path, group: str, shown: str) -> None:
    path = tmp_path / "f.toml"
    path.write_text(f'log-level = "debug"\nmetrics = "[::1]:9108"\ncontrol-group = "{group}"\n{FILE}')

    done = ndpresponder("check", "-c", str(path))

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-3:-1] == [
        "log-level DEBUG, log-format auto",
        f"metrics [::1]:9108, control-group {shown}",
    ]


@pytest.mark.parametrize(
    ("library", "key", "flags", "needs"),
    [
        (
            "docker",
            f'[[interface]]\nifname = "{ABSENT}"\ndocker-network = "web"\n',
            ("-N", "web"),
            DOCKER_SDK.needed,
        ),
        (
            "prometheus_client",
            f'\n\nmetrics = "127.0.0.1:9108"\n[[interface]]\nifname = "{ABSENT}"\nsubnet = "::2"\n',
            ("-n", PREFIX, "--metrics", "127.0.0.1:9108"),
            PROMETHEUS_CLIENT.needed,
        ),
    ],
)
def test_a_library_that_is_not_installed(
    tmp_path: Path, library: str, key: str, flags: tuple[str, ...], needs: str
) -> None:
    path = tmp_path / "f.toml"
    path.write_text(key)
    without = f"import sys; sys.modules['{library}'] = None; from ndpresponder import cli; cli.main()"
    for arguments, where in (
        (("check", "-c", str(path)), f"{path}:3: "),
        (("reload", "-c", str(path)), f"{path}:3: "),
        (("-c", str(path)), f"{path}:3: "),
        (("-i", ABSENT, *flags), ""),
    ):
        command = [sys.executable, "-c", without, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (2, "", f"ndpresponder: {where}{needs}\n")


def test_check_says_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "f.toml"
    path.write_text(FILE.replace("router", "ruter"))
    assert usage_error("check", "--config", str(path)).startswith(f"{path}:9: ruter is not a key here; ")
    assert usage_error("check", "-c", str(tmp_path)) == f"{tmp_path}: Is a directory"


def test_import_ndppd(tmp_path: Path) -> None:
    """What is printed passes the check."""
    theirs, ours = tmp_path / "ndppd.conf", tmp_path / "f.toml"
    theirs.write_text("proxy ndpr-absent { rule 2001:db8::/112 { static } }\n")

    done = ndpresponder("import-ndppd", str(theirs))
    ours.write_text(done.stdout)

    assert (done.returncode, done.stderr) == (0, "")
    checked = ndpresponder("check", "-c", str(ours))
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout.splitlines()[1] == "  answers for  2001:db8::/112"


def test_import_ndppd_where_there_is_nothing_to_import(tmp_path: Path) -> None:
    path = tmp_path / "ndppd.conf"
    path.write_text("proxy eth0 { rule 2001:db8::/112 { auto } }\n")

    done = ndpresponder("import-ndppd", str(path))

    assert done.returncode == 2
    assert "\n# eth0: no static rule, nothing to answer for.\n# line 1: rule 2001:db8::/112 with auto " in done.stdout
    assert done.stderr == (
        f"ndpresponder: {path}: no static rule: there is nothing that can be answered for without asking inside\n"
    )


def test_import_ndppd_says_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "ndppd.conf"
    path.write_text("\nproxy eth0 {\n")
    assert usage_error("import-ndppd", str(path)) == f"{path}:2: the {{ of this line has no }}"
    assert usage_error("import-ndppd", str(tmp_path)) == f"{tmp_path}: Is a directory"


# Asking a daemon


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("explain",), "Missing argument 'ADDRESS'."),
        (("explain", "eth0"), "eth0: not an IPv6 address (At least 3 parts expected in 'eth0')"),
        (("explain", "fe80::1%eth0"), "fe80::1%eth0: an address with a zone is link-local, and never answered for"),
        (
            ("explain", "-n", PREFIX, "2001:db8::5"),
            "-n and -x go with -i, and without -c: they say what a daemon there would do",
        ),
        (("explain", "-i", ABSENT, "-x", PREFIX, "2001:db8::5"), NOTHING),
        (("status", "eth0"), "Got unexpected extra argument (eth0)"),
    ],
)
def test_what_cannot_be_asked(arguments: tuple[str, ...], message: str) -> None:
    assert usage_error(*arguments) == message


@pytest.mark.parametrize("command", [("status",), ("status", "-j"), ("explain", "2001:db8::5")])
def test_without_a_daemon(command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    done = ndpresponder(*command)
    assert (done.returncode, done.stdout) == (1, "")
    way_out = "; with -c FILE, or -i NAME -n PREFIX, none is needed" if command[0] == "explain" else ""
    assert done.stderr == f"ndpresponder: no daemon was found: no control socket in {tmp_path} answers{way_out}\n"


def test_a_daemon_that_cannot_be_asked_is_not_taken_for_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the file says may not be what that daemon does."""
    path = tmp_path / "1-a.sock"
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    file = tmp_path / "f.toml"
    file.write_text(FILE)

    def end_at_once() -> None:
        with listener.accept()[0] as connection:
            connection.recv(4096)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        Thread(target=end_at_once).start()
        done = ndpresponder("explain", "-c", str(file), "2001:db8::5")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"ndpresponder: {path}: no reply\n")


def test_an_interface_that_is_not_there_is_in_the_way() -> None:
    done = ndpresponder("explain", "-i", ABSENT, "-n", PREFIX, "2001:db8::5")
    assert (done.returncode, done.stderr) == (3, "")
    by = f"by {PREFIX} (static), flags: Router, Solicited"
    assert done.stdout.splitlines() == [
        f"pass  answer          {ABSENT} would answer for it, {by}; no daemon was asked",
        f"fail  interface       there is no {ABSENT}; there are: {interfaces()}",
    ]


@pytest.mark.parametrize("module", ["click", "tomllib"])
@pytest.mark.parametrize(("number", "code"), [(SIGHUP, -SIGHUP), (SIGINT, 130), (SIGTERM, -SIGTERM)])
def test_a_signal_ends_a_command_that_is_no_daemon(tmp_path: Path, number: Signals, code: int, module: str) -> None:
    path = tmp_path / "file"
    path.write_text(f'[[interface]]\nifname = "{ABSENT}"\nsubnet = ["{PREFIX}"]\n')
    command = [sys.executable, "-c", signalled(number, module), "check", "-c", str(path)]
    done = subprocess.run(command, capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (code, b"")
