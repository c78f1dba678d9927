"""The compiled filter: listings, limits, and tcpdump's compiler as a second opinion."""

import shutil
import subprocess
from ipaddress import IPv6Network

import pytest
from golden import GOLDEN, Golden
from oracle import PACKET_BROADCAST, PACKET_HOST, PACKET_MULTICAST, PACKET_OTHERHOST, run_filter, tcpdump_filter
from vectors import ADDRESSES, ROWS, Row, solicit

from ndpresponder.addresses import AddressSet, Rule
from ndpresponder.filter import MOST_INSTRUCTIONS, Instruction, compile_filter, disassemble, numbers
from ndpresponder.verdict import Verdict

needs_tcpdump = pytest.mark.skipif(shutil.which("tcpdump") is None, reason="tcpdump is not installed")

# What the filter decides by itself; the rest it leaves to answer().
DECIDED_IN_KERNEL = {
    Verdict.NOT_IPV6,
    Verdict.VERSION,
    Verdict.FRAGMENT,
    Verdict.EXTENSION_HEADER,
    Verdict.NOT_ICMPV6,
    Verdict.HOP_LIMIT,
    Verdict.NOT_SOLICITATION,
    Verdict.CODE,
    Verdict.LINK_LOCAL,
    Verdict.NOT_CONFIGURED,
    Verdict.EXCLUDED,
    Verdict.ANYCAST,
    Verdict.GATEWAY,
    Verdict.OWN_ADDRESS,
    Verdict.TARGET,
}


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.name)
def test_listing(golden: Golden) -> None:
    assert disassemble(compile_filter(golden.addresses).instructions) == golden.listing


def test_there_are_listings() -> None:
    assert len(GOLDEN) >= 5
    # A program whose conditional jumps do not reach, and one with prefixes of several lengths.
    assert any(" ja " in golden.listing for golden in GOLDEN)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_frame(row: Row) -> None:
    accepted = run_filter(compile_filter(ADDRESSES).instructions, row.frame, PACKET_MULTICAST)
    if isinstance(row.outcome, bytes):
        assert accepted >= len(row.frame)
    elif row.outcome in DECIDED_IN_KERNEL:
        assert accepted == 0


@pytest.mark.parametrize(
    ("packet_type", "passes"),
    [(PACKET_HOST, True), (PACKET_BROADCAST, True), (PACKET_MULTICAST, True), (PACKET_OTHERHOST, False), (4, False)],
)
def test_packet_type(packet_type: int, passes: bool) -> None:  # noqa: FBT001 - a parameter of the test
    program = compile_filter(ADDRESSES).instructions
    assert (run_filter(program, bytes(solicit()), packet_type) > 0) == passes


def test_the_empty_set_accepts_nothing() -> None:
    assert compile_filter(AddressSet()) == ((Instruction(0x06, 0, 0, 0),), True)


def many(count: int, step: int) -> list[IPv6Network]:
    first = int(IPv6Network("2001:db8::/32").network_address)
    return [IPv6Network((first + step * number, 128)) for number in range(1, count + 1)]


@pytest.mark.parametrize(
    ("count", "step", "exact"),
    [
        (3000, 3, True),
        (10_000, 3, False),
        # The same address in each of many networks, and another one in each.
        (10_000, 1 << 64, True),
        (500, (1 << 64) + 5, True),
        (10_000, (1 << 64) + 5, False),
    ],
)
def test_the_limit_widens_and_never_cuts(count: int, step: int, exact: bool) -> None:  # noqa: FBT001 - a parameter
    prefixes = many(count, step)
    compiled = compile_filter(AddressSet(Rule(prefix, "docker") for prefix in prefixes))
    assert compiled.exact is exact
    assert len(compiled.instructions) <= MOST_INSTRUCTIONS
    for prefix in prefixes:
        frame = bytes(solicit())
        frame = frame[:62] + prefix.network_address.packed + frame[78:]
        assert run_filter(compiled.instructions, frame) > 0


def test_widening_starts_at_the_smallest_gaps() -> None:
    """Crowded addresses are joined; the lonely one far away keeps the gap before it."""
    crowd = many(6000, 2)
    lonely = Rule(IPv6Network("2001:db8:ffff::1"), "docker")
    program = compile_filter(AddressSet([lonely, *(Rule(prefix, "docker") for prefix in crowd)])).instructions
    frame = bytes(solicit())
    far = IPv6Network("2001:db8:8000::1").network_address.packed
    assert run_filter(program, frame[:62] + far + frame[78:]) == 0
    assert run_filter(program, frame[:62] + lonely.prefix.network_address.packed + frame[78:]) > 0


def test_numbers_are_those_of_the_program() -> None:
    count, *lines = numbers(compile_filter(ADDRESSES).instructions).splitlines()
    program = [Instruction(*map(int, line.split())) for line in lines]
    assert int(count) == len(program)
    assert tuple(program) == compile_filter(ADDRESSES).instructions


BASE = "ip6[0] & 0xf0 == 0x60 and ip6[6:2] == 0x3aff and ip6[40:2] == 0x8700"


@needs_tcpdump
def test_tcpdump_compiles_the_same_base() -> None:
    """Instruction for instruction, but for the packet type, which tcpdump does not ask for."""
    ours = compile_filter(AddressSet([Rule(IPv6Network("2001:db8::/32"), "static")])).instructions
    theirs = tcpdump_filter(f"ip6 and {BASE} and ip6[48:4] == 0x20010db8 and ip6[52:4] >= 0")
    checks = [(instruction.code, instruction.k) for instruction in theirs]
    assert [(instruction.code, instruction.k) for instruction in ours[2:12]] == checks[:10]


@needs_tcpdump
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_tcpdump_accepts_the_same_frames(row: Row) -> None:
    prefix = IPv6Network("2001:db8::/112")
    # Without the anycast address, which the set refuses.
    expression = (
        f"ip6 and {BASE} and ip6[48:4] == 0x20010db8 and ip6[52:4] == 0 and ip6[56:4] == 0 "
        "and ip6[60:4] >= 1 and ip6[60:4] <= 0xffff"
    )
    ours = compile_filter(AddressSet([Rule(prefix, "static")])).instructions
    assert run_filter(ours, row.frame) == run_filter(_program(expression), row.frame)


_programs: dict[str, list[Instruction]] = {}


def _program(expression: str) -> list[Instruction]:
    if expression not in _programs:
        _programs[expression] = tcpdump_filter(expression)
    return _programs[expression]


@needs_tcpdump
@pytest.mark.parametrize("dump", ["-d", "-ddd"])
def test_a_listing_is_worded_as_by_tcpdump(dump: str) -> None:
    expression = f"ip6 and {BASE} and ip6[48:4] > 0x20010db8 and ip6[52:4] >= 7"
    command = ["tcpdump", "-y", "EN10MB", dump, expression]
    theirs = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    ours = disassemble if dump == "-d" else numbers
    assert [line.rstrip() for line in ours(tcpdump_filter(expression)).splitlines()] == [
        line.rstrip() for line in theirs.splitlines()
    ]
