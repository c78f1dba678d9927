"""The compiled filter against decide(), which it must never overrule."""

from ipaddress import IPv6Network
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import PACKET_BROADCAST, PACKET_HOST, PACKET_MULTICAST, PACKET_OTHERHOST, PACKET_OUTGOING, run_filter
from strategies import addresses, any_address, entries, frames
from vectors import POLICY, TARGET, advertise, solicit

from ndpresponder.addresses import AddressSet, Refusal, Rule
from ndpresponder.filter import (
    JUMP_EQUAL,
    JUMP_GREATER,
    LOAD_BYTE,
    MOST_INSTRUCTIONS,
    RETURN,
    Assembler,
    Label,
    announcements_of,
    answers_of,
    compile_filter,
    traffic_of,
)
from ndpresponder.responder import answer

Entries = list[Rule | Refusal]
FRAME = bytes(solicit(TARGET))


def asking_for(target: int) -> bytes:
    """A solicitation with another target; the filter does not look at the checksum."""
    return FRAME[:62] + target.to_bytes(16, "big") + FRAME[78:]


@given(frames, entries)
def test_what_is_answered_passes(frame: bytes, some_entries: Entries) -> None:
    address_set = AddressSet(some_entries)
    if isinstance(answer(frame, address_set, POLICY), tuple):
        assert run_filter(compile_filter(address_set).instructions, frame) >= len(frame)


@given(entries, st.lists(addresses | any_address, min_size=1))
def test_exactly_the_set_passes(some_entries: Entries, targets: list[int]) -> None:
    address_set = AddressSet(some_entries)
    compiled = compile_filter(address_set)
    assert compiled.exact
    edges = {edge + step for pair in address_set.ranges() for edge in pair for step in (-1, 0, 1)}
    for target in (*targets, *edges):
        if 0 <= target < 2**128:
            passes = run_filter(compiled.instructions, asking_for(target), PACKET_MULTICAST) > 0
            assert passes == isinstance(address_set.lookup(target), Rule)


@given(entries, st.sampled_from([PACKET_OTHERHOST, PACKET_OUTGOING]))
def test_frames_of_others_do_not_pass(some_entries: Entries, packet_type: int) -> None:
    program = compile_filter(AddressSet(some_entries)).instructions
    for first, _ in AddressSet(some_entries).ranges():
        assert run_filter(program, asking_for(first), packet_type) == 0
        assert run_filter(program, asking_for(first), PACKET_HOST) > 0


@settings(max_examples=20)
@given(st.integers(3000, 6000), st.integers(20, 80), st.integers(0, 2**32))
def test_a_set_that_does_not_fit_is_widened(count: int, spread: int, seed: int) -> None:
    """Never longer than the kernel takes, and never without an address of the set."""
    random = Random(seed)  # noqa: S311 - no secret
    base = int.from_bytes(FRAME[62:78], "big") >> 80 << 80
    targets = [base + random.getrandbits(spread) for _ in range(count)]
    compiled = compile_filter(AddressSet(Rule(IPv6Network((target, 128)), "static") for target in targets))
    assert len(compiled.instructions) <= MOST_INSTRUCTIONS
    for target in targets[::29]:
        assert run_filter(compiled.instructions, asking_for(target)) > 0
    if compiled.exact:
        for target in (base + random.getrandbits(spread) for _ in range(100)):
            assert (run_filter(compiled.instructions, asking_for(target)) > 0) == (target in set(targets))
    else:
        assert run_filter(compiled.instructions, asking_for(max(targets) + 1)) == 0


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 40)), min_size=1, max_size=200), st.integers(0, 40))
def test_jumps_arrive_however_long_they_are(jumps: list[tuple[bool, int]], filling: int) -> None:
    """A chain of branches on the frame's first octet to places far and near, each of which returns its own number."""
    assembler = Assembler()
    places = [Label() for _ in range(42)]
    assembler.emit(LOAD_BYTE, 0)
    for number, (on_true, place) in enumerate(jumps):
        if on_true:
            assembler.branch(JUMP_EQUAL, number, places[place], None)
        else:
            assembler.branch(JUMP_GREATER, number, None, places[place])
    assembler.branch(JUMP_GREATER, 255, places[41], places[41])
    for number, label in enumerate(places):
        for _ in range(filling):
            assembler.emit(RETURN, 1)
        assembler.place(label)
        assembler.emit(RETURN, 1000 + number)
    program = assembler.assemble()
    for value in range(256):
        taken = (
            place for number, (on_true, place) in enumerate(jumps) if (value == number if on_true else value <= number)
        )
        assert run_filter(program, bytes([value])) == 1000 + next(taken, 41)


@given(st.sets(addresses | any_address, max_size=5), st.lists(addresses | any_address, max_size=5))
def test_exactly_the_advertisements_of_some_pass(some: set[int], others: list[int]) -> None:
    answers, announcements = answers_of(some), announcements_of(some)
    for target in (*some, *others):
        for flags in ("", "R", "S", "O", "RS", "RO", "SO", "RSO"):
            frame = advertise(flags=flags)
            about = frame[:62] + target.to_bytes(16) + frame[78:]
            assert (run_filter(answers, about, PACKET_HOST) > 0) == (target in some and "S" in flags)
            assert (run_filter(announcements, about, PACKET_HOST) > 0) == (target in some and flags in {"O", "RO"})
            assert run_filter(answers, about, PACKET_OTHERHOST) == 0
            assert run_filter(announcements, about, PACKET_OTHERHOST) == 0
        assert run_filter(answers, asking_for(target), PACKET_HOST) == 0
        assert run_filter(announcements, asking_for(target), PACKET_HOST) == 0


def sent_to(target: int, *, next_header: int = 17) -> bytes:
    """A packet for an address; of its content only the first octets matter."""
    return FRAME[:20] + bytes([next_header]) + FRAME[21:38] + target.to_bytes(16, "big") + b"\x80" + bytes(63)


@given(entries, st.lists(addresses | any_address, min_size=1))
def test_exactly_the_traffic_of_a_set_passes(some_entries: Entries, targets: list[int]) -> None:
    address_set = AddressSet(some_entries)
    program = traffic_of(address_set)
    assert program.exact
    edges = {edge + step for pair in address_set.ranges() for edge in pair for step in (-1, 0, 1)}
    advertisement = advertise()
    outside = (1 << 128) - 1
    for target in (*targets, *edges):
        if not 0 <= target < outside:
            continue
        about = advertisement[:62] + target.to_bytes(16, "big") + advertisement[78:]
        hears = {
            "solicitation": (asking_for(target), {PACKET_HOST, PACKET_MULTICAST, PACKET_BROADCAST}),
            "advertisement": (about, {PACKET_HOST, PACKET_MULTICAST, PACKET_BROADCAST, PACKET_OUTGOING}),
            "packet": (sent_to(target), {PACKET_HOST}),
            "echo request": (sent_to(target, next_header=58), {PACKET_HOST}),
        }
        meant = isinstance(address_set.lookup(target), Rule)
        for name, (frame, types) in hears.items():
            for packet_type in range(5):
                passes = run_filter(program.instructions, frame, packet_type) >= len(frame)
                assert passes == (meant and packet_type in types), name
            assert run_filter(program.instructions, frame, PACKET_HOST, vlan=5) == 0
            ipv4 = frame[:12] + b"\x08\x00" + frame[14:]
            assert run_filter(program.instructions, ipv4, PACKET_HOST) == 0


def test_traffic_of_a_set_that_does_not_fit_is_widened() -> None:
    base = int.from_bytes(FRAME[62:78], "big") >> 80 << 80
    targets = [base + 1000 * number for number in range(1, 3000)]
    compiled = traffic_of(AddressSet(Rule(IPv6Network((target, 128)), "static") for target in targets))
    assert not compiled.exact
    assert len(compiled.instructions) <= MOST_INSTRUCTIONS
    for target in targets[::29]:
        assert run_filter(compiled.instructions, asking_for(target), PACKET_HOST) > 0
        assert run_filter(compiled.instructions, sent_to(target), PACKET_HOST) > 0
    assert run_filter(compiled.instructions, sent_to(targets[-1] + 1), PACKET_HOST) == 0
