"""The daemon on a veth: what it says, what it answers and what it leaves alone, whatever the interface does."""

import json
import os
import pty
import re
import time
import tty
from contextlib import suppress
from pathlib import Path
from signal import SIGCONT, SIGHUP, SIGINT, SIGSTOP, SIGTERM, Signals
from threading import Event, Thread

import pytest
from lab import Program, wait_until
from namespaces import end
from vectors import OUR_MAC, TARGET, advertise, solicit
from wire import PREFIX, SNAPSHOTS, Wire, event, events, signalled

OTHER = "2001:db8::d004"
SENTINEL = "2001:db8::ffff"
NEW_MAC = "52:54:00:00:00:77"


def words(program: Program) -> list[str]:
    return [line["event"] for line in events(program)]


def without(line: dict[str, object], *fields: str) -> dict[str, object]:
    return {name: value for name, value in line.items() if name not in fields}


def answer(target: str, mac: str = OUR_MAC) -> bytes:
    """Return what is sent for a target, with the MAC that the interface has now."""
    if mac == OUR_MAC:
        return advertise(target)
    before, after = (bytes.fromhex(each.replace(":", "")) for each in (OUR_MAC, mac))
    frame = advertise(target).replace(before, after)
    old_sum, difference = int.from_bytes(frame[56:58], "big"), int.from_bytes(before, "big") % 0xFFFF
    # RFC 1624: the checksum after a change of what it covers.
    new_sum = (old_sum + difference - int.from_bytes(after, "big")) % 0xFFFF
    return frame[:56] + new_sum.to_bytes(2, "big") + frame[58:]


def failure(wire: Wire, *arguments: str, prefix: tuple[str, ...] = (), code: int = 1) -> dict[str, object]:
    """Run ndpresponder to its end, which is a failure, and return its one line."""
    done = wire.host.run(*prefix, *wire.command(*arguments), check=False)
    assert (done.returncode, done.stdout) == (code, "")
    [line] = done.stderr.splitlines()
    parsed: dict[str, object] = json.loads(line)
    return parsed


# Saying so


def test_without_standard_streams(wire: Wire) -> None:
    """The numbers of those are not taken by a socket, to which a line of the log would be written."""
    closed = 'exec "$@" <&- >&- 2>&-'
    process = wire.host.popen("sh", "-c", closed, "sh", *wire.command("-i", "eth0", "-n", PREFIX))
    wait_until(lambda: wire.is_answered(TARGET), "an answer")
    process.send_signal(SIGTERM)
    assert process.wait(10) == 0


def test_ready(wire: Wire) -> None:
    program = wire.answering("-n", f"{PREFIX},2001:db8:1::5")
    line = event(program, "ready")
    instructions = len(wire.host.run(*wire.command("filter", "-n", f"{PREFIX},2001:db8:1::5")).stdout.splitlines())

    assert without(line, "time") == {
        "level": "info",
        "event": "ready",
        "message": f"answering on eth0 ({OUR_MAC}) for 2001:db8::/112, 2001:db8:1::5/128, "
        f"filter of {instructions} instructions, 1 groups joined, none of 2001:db8::/112",
        "interface": "eth0",
        "mac": OUR_MAC,
        "prefixes": 2,
        "instructions": instructions,
        "exact": True,
        "groups": 1,
    }
    assert wire.ask(TARGET) == [advertise()]


def test_ready_names_eight_prefixes(wire: Wire) -> None:
    program = wire.answering(*(word for number in range(1, 12) for word in ("-n", f"2001:db8:{number}::/112")))

    message = event(program, "ready")["message"]
    assert " 2001:db8:7::/112, 2001:db8:8::/112 and 3 more, filter of " in message


def test_ready_says_that_the_filter_is_wider(wire: Wire) -> None:
    program = wire.answering("-n", ",".join(f"2001:db8::{2 * number:x}" for number in range(1, 5000)))

    line = event(program, "ready")
    assert line["exact"] is False
    assert line["instructions"] <= 4096
    assert line["message"].endswith(" instructions, wider than the prefixes: more would not fit, 4999 groups joined")
    # The reports of so many groups can fill the asker's receive buffer.
    wire.forget()
    # The first is let through by the filter, and answered by nobody.
    assert wire.ask("2001:db8::3", "2001:db8::4") == [advertise("2001:db8::4")]


@pytest.mark.parametrize("octets", [20_480, 1_000])
def test_it_makes_do_with_little_memory_for_the_filter(wire: Wire, octets: int) -> None:
    """Linux before 6.7 gives 20,480 octets on its own."""
    wire.limit_option_memory(octets)
    many = [f"2001:db8::{2 * number:x}" for number in range(1, 2000)]
    program = wire.answering("-n", ",".join(many))

    line = event(program, "ready")
    assert line["exact"] is False
    # An instruction takes 8 octets.
    assert 0 < line["instructions"] <= octets // 8
    wire.forget()
    assert wire.ask(many[0], "2001:db8::3", many[-1]) == [advertise(many[0]), advertise(many[-1])]


def test_remarks_come_first(wire: Wire) -> None:
    program = wire.answering("-n", "2001:db8::5/112")

    [remark, ready] = events(program)[:2]
    assert without(remark, "time") == {
        "level": "warn",
        "event": "remark",
        "message": "-n 2001:db8::5/112 has bits set beyond its length; taken as 2001:db8::/112",
    }
    assert ready["event"] == "ready"


@pytest.mark.parametrize("number", [SIGINT, SIGTERM, SIGHUP])
def test_a_signal_stops_it_with_a_summary(wire: Wire, number: Signals) -> None:
    program = wire.answering()
    frame = bytes(solicit(TARGET))
    wire.send(frame[:57] + bytes([frame[57] ^ 1]) + frame[58:])
    wire.ask(TARGET, OTHER)

    program.process.send_signal(number)

    assert program.wait() == 0
    assert words(program) == ["ready", "stopped"]
    assert without(events(program)[-1], "time") == {
        "level": "info",
        "event": "stopped",
        "message": "stopped: answered 2, refused 1 (1 checksum)",
        "answered": 2,
        "refused": {"checksum": 1},
        "unsent": {},
        "dropped": 0,
    }


def test_nohup_keeps_it_going(wire: Wire) -> None:
    """Who has SIGHUP ignored means it."""
    ignoring = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); from ndpresponder import cli; cli.main()"
    program = wire.start("-c", ignoring, "-i", "eth0", "-n", PREFIX)
    event(program, "ready")
    program.process.send_signal(SIGHUP)
    assert wire.ask(TARGET) == [advertise()]
    assert program.stop() == 0
    assert words(program) == ["ready", "stopped"]


@pytest.mark.parametrize("point", ["click", "ndpresponder.daemon", "ndpresponder.systemd"])
@pytest.mark.parametrize("number", [SIGINT, SIGTERM])
@pytest.mark.parametrize("prefix", [(), ("unshare", "--pid", "--fork", "--kill-child")], ids=["process", "process-1"])
def test_stopped_before_anything_has_begun(wire: Wire, prefix: tuple[str, ...], number: Signals, point: str) -> None:
    """The kernel drops what process 1 of a container has no handler for: pid_namespaces(7)."""
    command = wire.command("-c", signalled(number, point), "-i", "eth0", "-n", PREFIX)
    done = wire.host.run(*prefix, *command, check=False, timeout=10)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_hung_up_on_before_anything_has_begun(wire: Wire) -> None:
    done = wire.host.run(*wire.command("-c", signalled(SIGHUP, "click"), "-i", "eth0", "-n", PREFIX), check=False)
    assert done.returncode == 0


def test_debug_has_a_line_for_each_answer(wire: Wire) -> None:
    program = wire.answering("-n", PREFIX, environment={"NDPRESPONDER_LOG": "DEBUG"})
    wire.ask(TARGET, OTHER)

    assert program.stop() == 0
    assert [without(line, "time") for line in events(program, "answered")] == [
        {
            "level": "debug",
            "event": "answered",
            "message": f"answered for {target} to fe80::fe",
            "target": target,
            "source": "fe80::fe",
        }
        for target in (TARGET, OTHER)
    ]


def test_info_has_no_line_for_an_answer(wire: Wire) -> None:
    program = wire.answering("-n", PREFIX, environment={"NDPRESPONDER_LOG": "INFO"})
    wire.ask(TARGET, OTHER)

    assert program.stop() == 0
    assert words(program) == ["ready", "stopped"]


def test_a_quiet_level_says_nothing(wire: Wire) -> None:
    program = wire.start("-i", "eth0", "-n", PREFIX, environment={"NDPRESPONDER_LOG": "FATAL"})
    # There is no line to wait for; each look costs one solicitation.
    wait_until(lambda: wire.is_answered(TARGET), "an answer")

    assert program.stop() == 0
    assert program.printed() == ""


@pytest.mark.parametrize("level", ["INFO", "DEBUG"])
def test_who_reads_the_log_may_hang(wire: Wire, level: str) -> None:
    """As a log driver that blocks, or `ndpresponder 2>&1 | less`."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, bytes(65536))
    os.set_blocking(writing, True)
    process = wire.host.popen(*wire.command("-i", "eth0", "-n", PREFIX, "--log-level", level), stderr=writing)
    os.close(writing)
    try:
        # Not one line can be written.
        wait_until(lambda: wire.is_answered(TARGET), "an answer")
        wire.forget()
        assert wire.ask(TARGET, OTHER) == [advertise(TARGET), advertise(OTHER)]
        process.send_signal(SIGTERM)
        assert process.wait(5) == 0
    finally:
        end(process)
        os.close(reading)


# A minute is too long for a test.
SHORT_SUMMARIES = "from ndpresponder import cli, daemon; daemon._SUMMARY = 0.2; cli.main()"


def test_a_summary_while_there_is_something_to_say(wire: Wire) -> None:
    program = wire.start("-c", SHORT_SUMMARIES, "-i", "eth0", "-n", PREFIX)
    event(program, "ready")
    wire.ask(TARGET)
    event(program, "summary")
    # Time for a summary that there should not be.
    time.sleep(0.5)
    wire.ask(OTHER)
    event(program, "summary", 2)

    assert program.stop() == 0
    expected = {"level": "info", "event": "summary", "message": "last minute on eth0: answered 1", "interface": "eth0"}
    counts = {"answered": 1, "refused": {}, "unsent": {}, "dropped": 0}
    assert [without(line, "time") for line in events(program, "summary")] == [expected | counts] * 2
    assert events(program)[-1]["message"] == "stopped: answered 2"


def test_what_the_kernel_drops_is_counted(wire: Wire) -> None:
    program = wire.answering()
    frame, sent = bytes(solicit(TARGET)), 20_000
    stat = Path(f"/proc/{program.process.pid}/stat")
    program.process.send_signal(SIGSTOP)
    wait_until(lambda: stat.read_text().rpartition(") ")[2].startswith("T"), "the daemon standing still")
    for _ in range(sent):
        wire.send(frame)
    program.process.send_signal(SIGCONT)
    wait_until(lambda: waiting_octets(program) == 0, "an empty queue")
    wire.forget()
    assert wire.ask(SENTINEL) == [advertise(SENTINEL)]

    assert program.stop() == 0
    stopped = events(program)[-1]
    assert stopped["dropped"] > 0
    assert stopped["answered"] + stopped["dropped"] == sent + 1
    assert stopped["message"] == f"stopped: answered {stopped['answered']}, dropped {stopped['dropped']} (queue full)"


def test_it_stops_under_a_flood_as_well(wire: Wire) -> None:
    program = wire.answering()
    frame, over = bytes(solicit(TARGET)), Event()

    def flood() -> None:
        while not over.is_set():
            wire.send(frame)

    flooding = Thread(target=flood)
    flooding.start()
    try:
        # Until the queue is full, and so the daemon busy without a pause.
        wait_until(lambda: waiting_octets(program) > 100_000, "a full queue")
        assert program.stop() == 0
    finally:
        over.set()
        flooding.join()

    assert words(program) == ["ready", "stopped"]
    stopped = events(program)[-1]
    assert stopped["answered"] > 0
    # Nothing failed: that it closes its own socket is no news.
    assert stopped["unsent"] == {}


def waiting_octets(program: Program) -> int:
    """Return how much is waiting in the program's packet socket, the only one in its namespace."""
    _, line = Path(f"/proc/{program.process.pid}/net/packet").read_text().splitlines()
    return int(line.split()[6])


# The interface


@pytest.mark.alone
def test_an_interface_that_is_missing_is_waited_for_at_no_cost(unplugged: Wire) -> None:
    program = unplugged.start("-i", "eth0", "-n", PREFIX)
    waiting = event(program, "waiting")
    assert without(waiting, "time") == {
        "level": "warn",
        "event": "waiting",
        "message": "waiting for eth0: No such device; there are: lo",
        "interface": "eth0",
        "reason": "No such device",
    }

    used, looked = cpu_time(program), 2.0
    # It is the time itself that is measured: several looks at whether the interface is there.
    time.sleep(looked)
    assert cpu_time(program) - used < 0.01 * looked
    assert words(program) == ["waiting"]

    unplugged.plug()
    event(program, "ready")
    assert unplugged.ask(TARGET) == [advertise()]


def cpu_time(program: Program) -> float:
    """Return the seconds of CPU time that all threads of a program have had."""
    threads = Path(f"/proc/{program.process.pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def test_an_interface_that_is_down_at_start_is_waited_for(wire: Wire) -> None:
    wire.host.ip("link set eth0 down")
    program = wire.start("-i", "eth0", "-n", PREFIX)
    assert event(program, "waiting")["message"] == "waiting for eth0: Network is down; there are: lo, eth0"

    wire.host.ip("link set eth0 up")
    event(program, "ready")
    assert wire.ask(TARGET) == [advertise()]


def test_down_and_up_again(wire: Wire) -> None:
    program = wire.answering()
    assert wire.ask(TARGET) == [advertise()]
    wire.host.ip("link set eth0 down")
    event(program, "waiting")
    wire.host.ip(f"link set eth0 address {NEW_MAC}")
    wire.host.ip("link set eth0 up")
    assert event(program, "ready", 2)["mac"] == NEW_MAC

    assert wire.ask(TARGET) == [answer(TARGET, NEW_MAC)]
    assert program.stop() == 0
    assert words(program) == ["ready", "lost", "waiting", "ready", "stopped"]
    [lost] = events(program, "lost")
    assert without(lost, "time") == {
        "level": "warn",
        "event": "lost",
        "message": "lost eth0: Network is down",
        "interface": "eth0",
        "reason": "Network is down",
    }
    # What was counted before is not forgotten.
    assert events(program)[-1]["message"] == "stopped: answered 2"


def test_deleted_and_created_again(wire: Wire) -> None:
    program = wire.answering()
    assert wire.ask(TARGET) == [advertise()]
    wire.unplug()
    program.wait_for('"event": "waiting"', "No such device")
    wire.plug(NEW_MAC)
    ready = event(program, "ready", 2)

    # connect() makes the interface, and brings it up, before it has its new address.
    assert wire.ask(TARGET) == [answer(TARGET, ready["mac"])]
    assert program.stop() == 0
    # In between it can be seen as down, on its way out and on its way in.
    assert list(dict.fromkeys(words(program))) == ["ready", "lost", "waiting", "stopped"]
    assert words(program)[:3] == ["ready", "lost", "waiting"]
    assert words(program)[-2:] == ["ready", "stopped"]


def test_again_and_again_without_a_leak(wire: Wire) -> None:
    wire.host.ip("address add 2001:db8::5/64 dev eth0")
    program = wire.answering()
    descriptors, threads = (Path(f"/proc/{program.process.pid}/{each}") for each in ("fd", "task"))
    # The line that comes after the first snapshot. Each takes a thread for as long as it lasts, in asyncio.
    event(program, "owned", timeout=SNAPSHOTS)
    wait_until(lambda: len(names(threads)) == THREADS, "no snapshot under way")
    before = names(descriptors)
    for round_ in range(2, 5):
        wire.host.ip("link set eth0 down")
        event(program, "waiting", round_ - 1)
        wire.host.ip("link set eth0 up")
        event(program, "ready", round_)
        assert wire.ask(TARGET) == [advertise()]

    # While a snapshot is under way, it has some of both. What else there is, the comparison shows.
    with suppress(TimeoutError):
        wait_until(
            lambda: (names(descriptors), len(names(threads))) == (before, THREADS), "no snapshot", timeout=SNAPSHOTS
        )
    assert (names(descriptors), len(names(threads))) == (before, THREADS)
    assert program.stop() == 0


THREADS = 3
"""The event loop's, that which answers, and that which writes the log."""


def names(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


# What is held by others


def test_what_the_uplink_and_its_gateway_hold_is_left_to_them(wire: Wire) -> None:
    own, on_link, gateway = "2001:db8:0:1::5", "2001:db8:0:1::", "2001:db8:0:2::1"
    wire.host.ip(f"address add {own}/120 dev eth0")
    wire.host.ip(f"-6 route add {gateway}/128 dev eth0")
    wire.host.ip(f"-6 route add default via {gateway}")
    program = wire.answering("-n", "2001:db8::/48")
    owned = event(program, "owned", timeout=SNAPSHOTS)
    assert without(owned, "time") == {
        "level": "info",
        "event": "owned",
        "message": f"not answering for {on_link}, {own}, {gateway}: held by eth0 or its gateway",
        "interface": "eth0",
        "addresses": [on_link, own, gateway],
    }

    # Our own address the kernel answers for: with the Override flag, and without the Router flag since it does not
    # forward.
    assert wire.ask(gateway, on_link, own, TARGET) == [advertise(own, flags="SO"), advertise()]
    assert program.stop() == 0
    assert events(program)[-1]["message"] == "stopped: answered 1"


def test_each_of_several_gateways_is_left_alone(wire: Wire) -> None:
    wire.host.ip("address add 2001:db8:5::2/64 dev eth0")
    for gateway in ("2001:db8::1", "2001:db8::2"):
        wire.host.ip(f"-6 route add {gateway} dev eth0")
    wire.host.ip("-6 route add default nexthop via 2001:db8::1 dev eth0 nexthop via 2001:db8::2 dev eth0")
    program = wire.answering()
    assert event(program, "owned", timeout=SNAPSHOTS)["message"] == (
        "not answering for 2001:db8::1, 2001:db8::2: held by eth0 or its gateway"
    )

    assert wire.ask("2001:db8::1", "2001:db8::2", "2001:db8::3") == [advertise("2001:db8::3")]


def test_they_are_left_alone_after_the_interface_was_down(wire: Wire) -> None:
    # An IPv6 address goes with the interface unless it is told to stay.
    wire.host.sysctl("net/ipv6/conf/eth0/keep_addr_on_down", 1)
    wire.host.ip("address add 2001:db8::5/64 dev eth0")
    program = wire.answering()
    event(program, "owned", timeout=SNAPSHOTS)
    wire.host.ip("link set eth0 down")
    event(program, "waiting")
    wire.host.ip("link set eth0 up")
    event(program, "ready", 2)
    # The kernel does not own its addresses again at once.
    wait_until(lambda: wire.is_answered("2001:db8::5"), "the kernel's answer")

    assert wire.ask("2001:db8::5", TARGET) == [advertise("2001:db8::5", flags="SO"), advertise()]
    assert program.stop() == 0
    assert events(program)[-1]["message"] == "stopped: answered 1"


@pytest.mark.parametrize(
    ("prefix", "warned"),
    [("2001:db8:0:1::/64", True), ("2001:db8::/62", True), ("2001:db8:0:1::/65", False), ("2001:db8:0:2::/64", False)],
)
def test_a_prefix_that_covers_the_link(wire: Wire, prefix: str, *, warned: bool) -> None:
    wire.host.ip("address add 2001:db8:0:1::5/64 dev eth0")
    # The second is inside the prefix, so the line that ends the test comes whether or not there is a warning.
    inside = f"{prefix.partition('/')[0]}7"
    wire.host.ip(f"address add {inside}/128 dev eth0")
    program = wire.answering("-n", prefix)
    event(program, "owned", timeout=SNAPSHOTS)
    # Other addresses come and go: it has been said.
    wire.host.ip(f"address add {inside}7/128 dev eth0")
    event(program, "owned", 2, timeout=SNAPSHOTS)

    assert [without(line, "time") for line in events(program, "covers-link")] == [
        {
            "level": "warn",
            "event": "covers-link",
            "message": f"{prefix} covers all of 2001:db8:0:1::/64, the on-link prefix of eth0: no other host there "
            "can take a new address, and a scan can fill the router's neighbor table; "
            "name only the part that is yours",
            "interface": "eth0",
        }
    ] * warned


def test_without_a_snapshot_it_says_so_and_answers(wire: Wire, tmp_path: Path) -> None:
    looked = f"open({str(tmp_path / 'looked')!r}, 'w').close()"
    (tmp_path / "pyroute2.py").write_text(f"{looked}\nraise ImportError('broken')")
    program = wire.answering("-n", PREFIX, environment={"PYTHONPATH": str(tmp_path)})

    assert without(event(program, "netlink"), "time") == {
        "level": "warn",
        "event": "netlink",
        "message": "the addresses of eth0 and of its gateway are unknown (ImportError: broken); "
        "exclude with -x those that are inside of a prefix",
        "interface": "eth0",
    }
    # Another look, with the same result.
    (tmp_path / "looked").unlink()
    wire.host.ip("address add 2001:db8:7::7/64 dev eth0")
    wait_until((tmp_path / "looked").exists, "another look", SNAPSHOTS)
    assert wire.ask(TARGET) == [advertise()]
    assert program.stop() == 0
    assert len(events(program, "netlink")) == 1


# What it costs


@pytest.mark.alone
def test_cost(wire: Wire) -> None:
    program = wire.start("-i", "eth0", "-n", PREFIX)
    wire.host.ip("address add 2001:db8::5/64 dev eth0")
    event(program, "ready")
    at_start = cpu_time(program)
    # The line that ends the snapshot, which is the last thing that the start brings.
    event(program, "owned", timeout=SNAPSHOTS)
    status = Path(f"/proc/{program.process.pid}/status").read_text()
    [resident] = re.findall(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)

    assert at_start < 0.15
    assert int(resident) <= 25 * 1024


# What it cannot do


def test_no_such_interface(wire: Wire) -> None:
    line = failure(wire, "-i", "eth7", "-n", PREFIX, "--no-wait")
    assert without(line, "time") == {
        "level": "fatal",
        "event": "failed",
        "message": "eth7: No such device; there are: lo, eth0",
    }


def test_an_interface_that_is_down(wire: Wire) -> None:
    wire.host.ip("link set eth0 down")
    line = failure(wire, "-i", "eth0", "-n", PREFIX, "--no-wait")
    assert line["message"] == "eth0: Network is down; there are: lo, eth0"


@pytest.mark.parametrize("option", ["--wait", "--no-wait"])
def test_not_an_ethernet_interface(wire: Wire, option: str) -> None:
    # It never will be one: nothing is to start it again.
    line = failure(wire, "-i", "lo", "-n", PREFIX, option, code=2)
    assert without(line, "time") == {
        "level": "fatal",
        "event": "failed",
        "message": "lo is not an Ethernet interface: nobody solicits neighbors there; "
        "name the uplink with -i, or the key ifname (there are: lo, eth0)",
    }


@pytest.mark.parametrize("option", ["--wait", "--no-wait"])
def test_no_permission(wire: Wire, option: str) -> None:
    without_net_raw = "setpriv", "--bounding-set", "-net_raw"
    line = failure(wire, "-i", "eth0", "-n", PREFIX, option, prefix=without_net_raw)
    assert without(line, "time") == {
        "level": "fatal",
        "event": "failed",
        "message": "no permission to open a packet socket: run as root, or grant CAP_NET_RAW "
        "(systemd: AmbientCapabilities=CAP_NET_RAW; Docker: --cap-add NET_RAW)",
    }


def tasks(program: Program) -> int:
    return len(list(Path(f"/proc/{program.process.pid}/task").iterdir()))


def test_a_limit_of_tasks_is_no_end(wire: Wire) -> None:
    """It is one of a user who is not root (systemd's and Docker's are of a control group), and fails the same way."""
    user = "setpriv", "--reuid=54321", "--regid=54321", "--clear-groups"
    # CAP_DAC_READ_SEARCH: the interpreter may be where only root can read.
    granted = (f"--{kind}=+net_raw,+dac_read_search" for kind in ("inh-caps", "ambient-caps", "bounding-set"))
    command = wire.command("-i", "eth0", "-n", PREFIX, "--log-format", "json")
    wire.host.ip(f"address add {OTHER}/128 dev eth0")
    with Program(wire.host, *user, *granted, *command) as program:

        def limit(more: int) -> None:
            """Let it have so many tasks more than it has."""
            pid = str(program.process.pid)
            wire.host.run(*user, "prlimit", "--pid", pid, f"--nproc={tasks(program) + more}:")

        event(program, "owned", timeout=SNAPSHOTS)
        wait_until(lambda: tasks(program) == THREADS, "the end of the snapshot")
        limit(1)
        wire.host.ip("address add 2001:db8::55/128 dev eth0")
        # The process, but no thread to wait for it; or without such a thread (Python 3.12), both.
        wait_until(lambda: words(program).count("owned") == 2 or "netlink" in words(program), "a snapshot", SNAPSHOTS)
        limit(0)
        wire.host.ip("address add 2001:db8::56/128 dev eth0")
        event(program, "netlink", timeout=SNAPSHOTS)
        wire.forget()
        assert wire.ask(TARGET) == [advertise()]

        wire.host.ip("link set eth0 down")
        event(program, "waiting")
        limit(0)
        wire.host.ip("link set eth0 up")
        assert event(program, "waiting", 2)["message"] == (
            "waiting for eth0: can't start new thread: too many tasks (systemd: TasksMax; Docker: --pids-limit); "
            "there are: lo, eth0"
        )
        limit(9)
        event(program, "ready", 2)
        wait_until(lambda: wire.is_answered(TARGET), "an answer")
        assert program.stop() == 0


def test_a_failure_is_told_at_any_level(wire: Wire) -> None:
    line = failure(wire, "-i", "eth7", "-n", PREFIX, "--no-wait", "--log-level", "fatal")
    assert line["event"] == "failed"


def test_a_failure_on_a_terminal(wire: Wire) -> None:
    """As a person sees it, all the way from the command line."""
    terminal, standard_error = pty.openpty()
    tty.setraw(standard_error)
    process = wire.host.popen(
        *("env", "-u", "NO_COLOR"), *wire.command("-i", "eth7", "-n", PREFIX, "--no-wait"), stderr=standard_error
    )
    os.close(standard_error)
    try:
        assert process.wait(10) == 1
        line = os.read(terminal, 4096).decode()
    finally:
        os.close(terminal)
        end(process)
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d \033\[1;31mfatal: eth7: No such device; there are: lo, eth0\033\[0m\n",
        line,
    )
