"""Measures ndpresponder beside its peers, in one run and on one cable, and how its cost grows with its work.

    PYTHONPATH=tests python tests/bench/bench.py [--rounds N] [--seconds S] [--json FILE]

Two hosts, `asker` and `host`, are namespaces joined by a veth pair. load.c asks from one core; the responder
answers on another. Each round measures every responder in turn, so that what else the machine does meets all
of them; a figure is the median over the rounds. docs/performance.md says what each one means.
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from compileall import compile_dir
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Self

from namespaces import Namespace, connect, end, run, sweep

import ndpresponder as package
from ndpresponder.addresses import AddressSet, Rule
from ndpresponder.filter import compile_filter
from ndpresponder.link import Link

ASKER_MAC = "02:00:00:00:00:0a"
ASKER = IPv6Address("2001:db8:ffff::a")
PREFIX = IPv6Network("2001:db8:1::/64")
STRANGERS = IPv6Network("2001:db8:2::/64")
"""Somebody else's prefix: nobody answers for it."""
TARGETS = 4096
"""Asked for in rotation, from ::1000 of a prefix on."""

LIGHT_RATE = 500
STRANGERS_RATE = 40_000
"""All responders keep up with this: each solicitation costs what it costs, none is dropped unseen."""
STRANGERS_FRAMES = 100_000
PATIENCE = 30.0


# ---- the test bed


@dataclass(frozen=True)
class Targets:
    """Which addresses to ask for: `first`, and `count - 1` more, each 2**shift after the one before."""

    first: IPv6Address
    count: int = TARGETS
    shift: int = 0

    @classmethod
    def of(cls, prefix: IPv6Network) -> Self:
        """Return consecutive addresses within one prefix."""
        return cls(prefix[0x1000])

    def options(self) -> list[str]:
        """Return them as options of load.c."""
        return ["-t", str(self.first), "-n", str(self.count), "-k", str(self.shift)]


class Bed:
    """Two hosts on one cable, the load generator, and a directory for what the run writes."""

    def __init__(self, stack: ExitStack) -> None:
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < 2:
            raise SystemExit("the bench needs two cores: one asks, one answers")
        self.asking_core, self.answering_core = cores[:2]
        self.directory = Path(stack.enter_context(TemporaryDirectory()))
        self._load = self.directory / "load"
        source = Path(__file__).with_name("load.c")
        run("cc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", self._load, source)
        self.asker = stack.enter_context(Namespace("asker"))
        self.host = stack.enter_context(Namespace("host"))
        self._cable()

    def _cable(self) -> None:
        self.host.sysctl("net/ipv6/conf/default/accept_dad", 0)
        connect(self.asker, "asker", self.host, "host")
        self.asker.ip(f"link set asker address {ASKER_MAC}")
        # What the asker's kernel would do with an advertisement happens in the system call that sends it, and
        # would be charged to the responder.
        self.asker.sysctl("net/ipv6/conf/asker/disable_ipv6", 1)
        self.host.sysctl("net/ipv6/conf/all/forwarding", 1)
        self.host.ip(f"address add {IPv6Network((ASKER, 64), strict=False)[1]}/64 dev host")
        # ndppd and the kernel answer by way of the neighbour table. The asker's kernel is silent: tell them.
        self.host.ip(f"neigh add {ASKER} lladdr {ASKER_MAC} dev host nud permanent")

    def _command(self, mode: str, targets: Targets, options: dict[str, object]) -> list[str | Path]:
        more = [str(word) for option in options.items() for word in option]
        return [self._load, "-i", "asker", "-s", str(ASKER), *targets.options(), *more, mode]

    def load(self, mode: str, targets: Targets, **options: object) -> dict[str, float]:
        """Run the generator and return what it measured. Options are those of load.c, without the dash."""
        dashed = {f"-{letter}": value for letter, value in options.items()}
        with pinned(self.asking_core):
            done = self.asker.run(*self._command(mode, targets, dashed))
        return dict(json.loads(done.stdout))

    @contextmanager
    def awaiting_first(self, targets: Targets) -> Iterator[Callable[[], float]]:
        """Ask every millisecond from now on; what is yielded waits for the answer and returns its time."""
        with pinned(self.asking_core):
            command = self._command("first", targets, {"-d": PATIENCE})
            process = self.asker.popen(*command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        output = process.stdout

        def answered_at() -> float:
            line = output.readline()
            if not line:
                raise RuntimeError("no answer")
            return float(json.loads(line)["answered_at"])

        try:
            output.readline()  # it has begun
            yield answered_at
        finally:
            end(process)


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Let what is started here run on one core only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of all threads of a process, to the nanosecond."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


def resident_mib(pid: int) -> float:
    """Return the resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"process {pid} has no memory: it has ended")


def settle(pid: int) -> None:
    """Wait until a process has nothing left to do, such as imports that were put off until it answers."""
    deadline = time.monotonic() + PATIENCE
    before = -1.0
    while (after := cpu_seconds(pid)) - before > 0.001:
        if time.monotonic() > deadline:
            raise RuntimeError(f"process {pid} does not come to rest")
        before = after
        time.sleep(0.2)


def busy(cores: tuple[int, int]) -> float:
    """Return what share of the cores other programs use, over a second in which this one rests."""

    def ticks() -> tuple[int, int]:
        names = {f"cpu{core}" for core in cores}
        lines = [line.split() for line in Path("/proc/stat").read_text().splitlines()]
        counts = [[int(word) for word in words[1:9]] for words in lines if words[0] in names]
        # proc_stat(5): the fourth and fifth are spent idle.
        return sum(map(sum, counts)), sum(count[3] + count[4] for count in counts)

    total, idle = ticks()
    time.sleep(1)
    total_after, idle_after = ticks()
    return 1 - (idle_after - idle) / (total_after - total)


# ---- the responders


@dataclass(frozen=True)
class Running:
    """A responder that has answered. The kernel is no process, and is not started."""

    pid: int | None
    first_answer: float | None


@contextmanager
def process(bed: Bed, targets: Targets, *command: str | Path) -> Iterator[Running]:
    """Start a responder on its core; it runs once it has answered, and ends when it is told to."""
    log = bed.directory / "log"
    with log.open("w") as output, bed.awaiting_first(targets) as answered_at, pinned(bed.answering_core):
        started = time.monotonic()
        responder = bed.host.popen(*command, stdout=output, stderr=output)
        try:
            first_answer = answered_at() - started
        except RuntimeError as error:
            raise RuntimeError(f"{' '.join(map(str, command))[:200]}: {error}\n{log.read_text()}") from error
    settle(responder.pid)
    yield Running(responder.pid, first_answer)
    responder.send_signal(signal.SIGTERM)
    responder.wait(PATIENCE)


@contextmanager
def ndpresponder(bed: Bed) -> Iterator[Running]:
    """This project's program."""
    with process(bed, Targets.of(PREFIX), *ndpresponder_command([PREFIX])) as running:
        yield running


def ndpresponder_command(prefixes: list[IPv6Network], *more: str) -> list[str]:
    """Return the command, with prefixes in groups: the kernel takes 128 kB in one argument (MAX_ARG_STRLEN)."""
    groups = (prefixes[at : at + 1000] for at in range(0, len(prefixes), 1000))
    options = [word for group in groups for word in ("-n", ",".join(map(str, group)))]
    return [sys.executable, "-m", "ndpresponder", "-i", "host", "--log-format", "json", *options, *more]


@contextmanager
def ndppd(bed: Bed) -> Iterator[Running]:
    """The NDP Proxy Daemon, with a static rule."""
    configuration = bed.directory / "ndppd.conf"
    configuration.write_text(f"proxy host {{\n  rule {PREFIX} {{\n    static\n  }}\n}}\n")
    with process(bed, Targets.of(PREFIX), "ndppd", "-c", configuration) as running:
        yield running


@contextmanager
def proxy_ndp(bed: Bed) -> Iterator[Running]:
    """The kernel's own proxy: one entry for each address."""
    targets = Targets.of(PREFIX)

    def entries(action: str) -> None:
        batch = bed.directory / "batch"
        addresses = (targets.first + number for number in range(targets.count))
        batch.write_text("".join(f"neigh {action} proxy {address} dev host\n" for address in addresses))
        bed.host.run("ip", "-batch", batch)

    bed.host.sysctl("net/ipv6/neigh/host/proxy_delay", 0)
    bed.host.sysctl("net/ipv6/conf/host/proxy_ndp", 1)
    entries("add")
    try:
        with bed.awaiting_first(targets) as answered_at:
            answered_at()
        yield Running(None, None)
    finally:
        entries("del")
        bed.host.sysctl("net/ipv6/conf/host/proxy_ndp", 0)


RESPONDERS = {"ndpresponder": ndpresponder, "ndppd": ndppd, "proxy_ndp": proxy_ndp}


# ---- one round with one responder


def measure(bed: Bed, running: Running, seconds: float) -> dict[str, float | None]:
    """Return every figure of one responder that is running."""
    pid = running.pid
    targets = Targets.of(PREFIX)

    def costing(mode: str, targets: Targets, **options: object) -> tuple[dict[str, float], float | None]:
        before = pid and cpu_seconds(pid)
        result = bed.load(mode, targets, **options)
        return result, pid and cpu_seconds(pid) - (before or 0)

    def share(rate: int) -> tuple[float, float | None]:
        # Of what was offered, not of what was sent: the kernel answers in the asker's system call, which slows it.
        result, cost = costing("flood", targets, r=rate, d=seconds)
        return result["answered"] / (rate * seconds), cost and cost / result["answered"]

    saturated, saturated_cost = costing("flood", targets, d=seconds)
    share_20k, paced_cost = share(20_000)
    share_100k, _ = share(100_000)
    light = bed.load("latency", targets, r=LIGHT_RATE, c=int(LIGHT_RATE * seconds))
    strangers, strangers_cost = costing("flood", Targets.of(STRANGERS), r=STRANGERS_RATE, c=STRANGERS_FRAMES)
    assert strangers["sent"] == STRANGERS_FRAMES, strangers
    assert not strangers["answered"], strangers
    return {
        "answers_per_second": saturated["answered_meanwhile"] / saturated["seconds"],
        "share_20k": share_20k,
        "share_100k": share_100k,
        "cpu_per_answer": saturated_cost and saturated_cost / saturated["answered"],
        "cpu_per_answer_20k": paced_cost,
        "p50": light["p50"] / 1e6,
        "p99": light["p99"] / 1e6,
        "strangers_cpu": strangers_cost,
        "resident_mib": pid and resident_mib(pid),
        "first_answer": running.first_answer,
    }


def compare(bed: Bed, rounds: int, seconds: float) -> dict[str, list[dict[str, float | None]]]:
    """Measure every responder in every round, in turn."""
    figures: dict[str, list[dict[str, float | None]]] = {name: [] for name in RESPONDERS}
    for number in range(1, rounds + 1):
        for name, responder in RESPONDERS.items():
            progress(f"round {number} of {rounds}: {name}")
            with responder(bed) as running:
                figures[name].append(measure(bed, running, seconds))
    return figures


# ---- how the cost grows


@dataclass(frozen=True)
class Size:
    """A set of prefixes to be configured, and the addresses in all of them to ask for.

    The kernel walks the list of joined groups for each frame, on the asker's core here. That is another matter than
    what an answer costs, and has a column of its own.
    """

    prefixes: list[IPv6Network]
    targets: Targets
    multicast: str = "allmulti"


def subnets(count: int) -> Size:
    """Return every other /64, for neighbours would be one range. Each is asked for its ::1000."""
    prefixes = [IPv6Network((0x20010DB8 << 96 | number << 65, 64)) for number in range(count)]
    return Size(prefixes, Targets(prefixes[0][0x1000], count, 65) if count > 1 else Targets.of(prefixes[0]))


def addresses(count: int) -> Size:
    """Return every other address of a /64, for the same reason."""
    targets = Targets(PREFIX[0x1000], count, 1)
    return Size([IPv6Network(targets.first + 2 * number) for number in range(count)], targets)


JOINED = "10,000 addresses, groups joined"
SIZES = {
    "1 prefix": subnets(1),
    "100 prefixes": subnets(100),
    "10,000 prefixes": subnets(10_000),
    "10,000 addresses": addresses(10_000),
    JOINED: replace(addresses(10_000), multicast="auto"),
}


def measure_filter(bed: Bed, size: Size) -> dict[str, float]:
    """Return how long it takes to build the address set and its filter, and to attach the filter."""
    with pinned(bed.answering_core):
        start = time.perf_counter()
        address_set = AddressSet(Rule(prefix, "static") for prefix in size.prefixes)
        built = time.perf_counter()
        program = compile_filter(address_set).instructions
        compiled = time.perf_counter()
        with bed.host.entered():
            link = Link("host")
        try:
            before = time.perf_counter()
            link.attach(program)
            attached = time.perf_counter()
        finally:
            link.close()
    return {
        "build": built - start,
        "compile": compiled - built,
        "attach": attached - before,
        "instructions": len(program),
    }


def measure_growth(bed: Bed, size: Size, seconds: float) -> dict[str, float]:
    """Return what an answer costs at saturation with this much configured, and what setting it up takes."""
    with process(bed, size.targets, *ndpresponder_command(size.prefixes, "--multicast", size.multicast)) as running:
        assert running.pid is not None
        assert running.first_answer is not None
        before = cpu_seconds(running.pid)
        result = bed.load("flood", size.targets, d=seconds)
        cost = cpu_seconds(running.pid) - before
        resident = resident_mib(running.pid)
    return {
        "answers_per_second": result["answered_meanwhile"] / result["seconds"],
        "cpu_per_answer": cost / result["answered"],
        "resident_mib": resident,
        "first_answer": running.first_answer,
        **measure_filter(bed, size),
    }


def grow(bed: Bed, rounds: int, seconds: float) -> dict[str, list[dict[str, float]]]:
    """Measure every size in every round, in turn."""
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in SIZES}
    for number in range(1, rounds + 1):
        for name, size in SIZES.items():
            progress(f"round {number} of {rounds}: {name}")
            figures[name].append(measure_growth(bed, size, seconds))
    return figures


# ---- the report


@dataclass(frozen=True)
class Column:
    """A figure's name in the results, its words on the terminal, its unit as a factor, and its decimals."""

    key: str
    words: str
    factor: float = 1
    decimals: int = 0

    def show(self, value: float | None) -> str:
        """Return the figure as text; a responder that is no process has no such thing."""
        return "-" if value is None else f"{value * self.factor:,.{self.decimals}f}"


COMPARISON = (
    Column("answers_per_second", "answers/s at saturation"),
    Column("share_20k", "answered of 20,000/s, %", 100, 1),
    Column("share_100k", "answered of 100,000/s, %", 100, 1),
    Column("cpu_per_answer", "CPU per answer at saturation, µs", 1e6, 2),
    Column("cpu_per_answer_20k", "CPU per answer at 20,000/s, µs", 1e6, 2),
    Column("p50", "latency p50, µs", 1e6, 1),
    Column("p99", "latency p99, µs", 1e6, 1),
    Column("strangers_cpu", "CPU for 100,000 strangers', ms", 1e3, 1),
    Column("resident_mib", "resident memory, MiB", 1, 1),
    Column("first_answer", "exec to first answer, ms", 1e3),
)
GROWTH = (
    Column("answers_per_second", "answers/s at saturation"),
    Column("cpu_per_answer", "CPU per answer, µs", 1e6, 2),
    Column("resident_mib", "resident memory, MiB", 1, 1),
    Column("first_answer", "exec to first answer, ms", 1e3),
    Column("build", "address set, ms", 1e3, 2),
    Column("compile", "compile filter, ms", 1e3, 2),
    Column("attach", "attach filter, ms", 1e3, 2),
    Column("instructions", "filter instructions"),
)


@dataclass(frozen=True)
class Goal:
    """What a ratio shall be: at least, or at most, `limit`."""

    words: str
    ratio: float
    limit: float
    at_least: bool = False

    def show(self) -> str:
        """Return the line for the terminal."""
        reached = self.ratio >= self.limit if self.at_least else self.ratio <= self.limit
        bound = "at least" if self.at_least else "at most"
        verdict = "reached" if reached else "missed"
        return f"{self.words:42} {self.ratio:7.3f}   goal: {bound} {self.limit:<5} {verdict}"


def medians(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the median of each figure over the rounds."""
    return {
        key: None if value is None else median(figures[key] for figures in rounds) for key, value in rounds[0].items()
    }


def goals(comparison: dict[str, dict[str, Any]], growth: dict[str, dict[str, Any]]) -> list[Goal]:
    """Return the ratios that the project wants to hold."""
    ours, theirs = comparison["ndpresponder"], comparison["ndppd"]

    def ratio(key: str) -> float:
        return float(ours[key] / theirs[key])

    costs = [figures["cpu_per_answer"] for name, figures in growth.items() if name != JOINED]
    return [
        Goal("answers/s, of ndppd's", ratio("answers_per_second"), 1.6, at_least=True),
        Goal("CPU per answer, of ndppd's", ratio("cpu_per_answer"), 0.7),
        Goal("latency p50, of ndppd's", ratio("p50"), 1.2),
        Goal("CPU for strangers', of ndppd's", ratio("strangers_cpu"), 0.05),
        Goal("CPU per answer, dearest size's of cheapest's", max(costs) / min(costs), 1.2),
    ]


def table(columns: tuple[Column, ...], figures: dict[str, dict[str, Any]]) -> str:
    """Return a Markdown table: a line for each figure, a column for each responder or size."""
    lines = [["", *figures]]
    lines += [[column.words, *(column.show(each[column.key]) for each in figures.values())] for column in columns]
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    lines.insert(1, ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
    padded = ([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])] for line in lines)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in padded)


def machine() -> str:
    """Return in general terms what the figures are from."""
    return f"{os.cpu_count()} cores, Linux {platform.release().split('-')[0]}, Python {platform.python_version()}"


def say(text: str = "") -> None:
    """Print a line of the report."""
    sys.stdout.write(f"{text}\n")


def progress(text: str) -> None:
    """Print what is being measured, away from the report."""
    sys.stderr.write(f"{text}\n")


def positive(text: str) -> float:
    """Read a positive number from the command line."""
    value = float(text)
    if not value > 0:
        raise ValueError(text)
    return value


def main() -> None:
    """Measure and report. What was missed is said, and is no error: a busy machine would make it one."""
    parser = argparse.ArgumentParser(description="Measure ndpresponder beside ndppd and the kernel's proxy_ndp.")
    parser.add_argument("--rounds", type=int, default=5, help="how many times each is measured (%(default)s)")
    parser.add_argument("--seconds", type=positive, default=2, help="the length of each measurement (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure of every round there")
    options = parser.parse_args()

    # make and timeout end a program so: what is running in the namespaces must end with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sweep()
    # As installing it does: where Python is told to write no bytecode, each start would compile it anew.
    compile_dir(Path(package.__file__).parent, quiet=1)
    with ExitStack() as stack:
        bed = Bed(stack)
        others = busy((bed.asking_core, bed.answering_core))
        alone = bed.load("flood", Targets.of(PREFIX), d=options.seconds)
        assert not alone["answered"], alone
        comparison = compare(bed, options.rounds, options.seconds)
        growth = grow(bed, options.rounds, options.seconds)

    compared = {name: medians(rounds) for name, rounds in comparison.items()}
    grown = {name: medians(rounds) for name, rounds in growth.items()}
    reached = goals(compared, grown)
    ceiling = alone["sent"] / alone["seconds"]
    say(f"{machine()}; medians of {options.rounds} rounds of {options.seconds:g} s")
    say(f"the generator alone sends {ceiling:,.0f}/s; before, other programs used {others:.0%} of the two cores")
    for text in (table(COMPARISON, compared), table(GROWTH, grown), "\n".join(goal.show() for goal in reached)):
        say()
        say(text)
    if options.json:
        everything = {
            "machine": machine(),
            "used_by_others": others,
            "generator_alone": ceiling,
            "comparison": comparison,
            "growth": growth,
            "ratios": {goal.words: goal.ratio for goal in reached},
        }
        options.json.write_text(json.dumps(everything, indent=2) + "\n")


if __name__ == "__main__":
    main()
