"""An AddressSet as a classic BPF program, so that a solicitation for somebody else never wakes the process.

The rules that hold here:
- The program never rejects a frame that `decide` would answer. It may accept more: what it leaves unchecked
  (checksum, options, source, destination) is checked in user space.
- A set that needs more instructions than the kernel takes is widened over its smallest gaps, never cut.

Sources: McCanne and Jacobson, "The BSD Packet Filter" (1993); linux/filter.h and bpf_common.h; for the wording of
the listing, tcpdump -d.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from .addresses import LAST_ADDRESS, AddressSet
from .packet import (
    ETHERTYPE_IPV6,
    FLAG_OVERRIDE,
    FLAG_SOLICITED,
    HOP_LIMIT,
    NEIGHBOR_ADVERTISEMENT,
    NEIGHBOR_SOLICITATION,
    NEXT_HEADER_ICMPV6,
)

MOST_INSTRUCTIONS = 4096
"""BPF_MAXINSNS of linux/bpf_common.h."""

# linux/bpf_common.h: instruction class, size, addressing mode, operation.
LOAD_WORD = 0x20
LOAD_HALF = 0x28
LOAD_BYTE = 0x30
AND = 0x54
JUMP = 0x05
JUMP_EQUAL = 0x15
JUMP_GREATER = 0x25
JUMP_GREATER_EQUAL = 0x35
RETURN = 0x06
_LONGEST_CONDITIONAL_JUMP = 255  # 8 bits; an unconditional one has 32

_PACKET_TYPE = 0xFFFFF004  # SKF_AD_OFF + SKF_AD_PKTTYPE
_PACKET_HOST = 0
_PACKET_MULTICAST = 2  # above HOST (0) and BROADCAST (1), below OTHERHOST (3) and OUTGOING (4)
_PACKET_OTHERHOST = 3
_VLAN_TAG = 0xFFFFF02C  # SKF_AD_OFF + SKF_AD_VLAN_TAG
_VLAN_ID = 0xFFF
_TARGET = 62  # offset in the frame, of a solicitation and of an advertisement alike
_DESTINATION = 38
_LAST_WORD = 0xFFFFFFFF
_WHOLE_FRAME = 0x40000

# In a run of this many elements each is compared in turn; above that, the run is halved. An address in a run
# costs one instruction, in a tree alone it would be two.
_RUN = 8
# How many instructions may lie between a run and the returns it jumps to, so that the jump stays short.
_NEAR = 200


_Ranges = Sequence[tuple[int, int]]
_Rest = tuple[tuple[int, int], ...]


class Instruction(NamedTuple):
    """struct sock_filter of linux/filter.h."""

    code: int
    if_true: int
    if_false: int
    k: int


class Filter(NamedTuple):
    """A program for the kernel. `exact` is false where the set was widened to fit."""

    instructions: tuple[Instruction, ...]
    exact: bool


class Label:
    """A place in a program that instructions can jump to before it is known where it is."""

    __slots__ = ("position",)

    def __init__(self) -> None:
        self.position = -1


class _Line(NamedTuple):
    code: int
    k: int
    if_true: Label | None  # None: the next line
    if_false: Label | None


class Assembler:
    """Collects instructions and labels; assemble() turns jumps to labels into offsets."""

    def __init__(self) -> None:
        self._lines: list[_Line] = []
        self._labels: list[tuple[int, Label]] = []

    def __len__(self) -> int:
        return len(self._lines)

    def emit(self, code: int, k: int) -> None:
        """Append an instruction that does not jump."""
        self._lines.append(_Line(code, k, None, None))

    def branch(self, code: int, k: int, if_true: Label | None, if_false: Label | None) -> None:
        """Append a conditional jump; None stands for the next instruction."""
        self._lines.append(_Line(code, k, if_true, if_false))

    def place(self, label: Label) -> None:
        """Let `label` name the next instruction."""
        self._labels.append((len(self._lines), label))

    def assemble(self) -> tuple[Instruction, ...]:
        """Return the program. A conditional jump that is too long goes by way of an unconditional one."""
        starts = self._settle()
        program: list[Instruction] = []
        for number, line in enumerate(self._lines):
            here = starts[number]
            detours: list[int] = []
            offsets = [0, 0]
            room = starts[number + 1] - here - 1
            for side, label in enumerate((line.if_true, line.if_false)):
                distance = room if label is None else label.position - here - 1
                if distance > _LONGEST_CONDITIONAL_JUMP:
                    offsets[side] = len(detours)
                    detours.append(distance - len(detours) - 1)
                else:
                    offsets[side] = distance
            program.append(Instruction(line.code, offsets[0], offsets[1], line.k))
            program += (Instruction(JUMP, 0, 0, distance) for distance in detours)
        return tuple(program)

    def _settle(self) -> list[int]:
        """Find where each line starts, and each label. Detours only ever lengthen the program, so this ends."""
        sizes = [1] * len(self._lines)
        while True:
            starts = [0]
            for size in sizes:
                starts.append(starts[-1] + size)
            for number, label in self._labels:
                label.position = starts[number]
            settled = True
            for number, line in enumerate(self._lines):
                size = 1 + sum(
                    label is not None and label.position - starts[number] - 1 > _LONGEST_CONDITIONAL_JUMP
                    for label in (line.if_true, line.if_false)
                )
                if size > sizes[number]:
                    sizes[number] = size
                    settled = False
            if settled:
                return starts


class _Element(NamedTuple):
    """Values of one 32-bit word of the target that lead to the same place."""

    first: int
    last: int
    to: Label | None  # None: accept


class _Compiler:
    def __init__(self, message: int = NEIGHBOR_SOLICITATION, mask: int = 0, flags: int = 0) -> None:
        """Accept messages of a type, of whose flags those in `mask` are `flags`."""
        self._message = message
        self._mask, self._flags = mask, flags
        self._compared = _TARGET
        self._assembler = Assembler()
        self._new_returns()

    def compile(self, ranges: _Ranges) -> tuple[Instruction, ...]:
        if not ranges:
            return (Instruction(RETURN, 0, 0, 0),)
        self._base()
        self._compare(ranges)
        return self._assembler.assemble()

    def compile_traffic(self, ranges: _Ranges) -> tuple[Instruction, ...]:
        if not ranges:
            return (Instruction(RETURN, 0, 0, 0),)
        asked, told, about, sent = Label(), Label(), Label(), Label()
        emit, branch, place = self._assembler.emit, self._assembler.branch, self._assembler.place
        emit(LOAD_HALF, _VLAN_TAG)
        emit(AND, _VLAN_ID)
        branch(JUMP_EQUAL, 0, None, self._reject)
        emit(LOAD_HALF, 12)
        branch(JUMP_EQUAL, ETHERTYPE_IPV6, None, self._reject)
        emit(LOAD_BYTE, 14)
        emit(AND, 0xF0)
        branch(JUMP_EQUAL, 6 << 4, None, self._reject)
        emit(LOAD_BYTE, 20)
        branch(JUMP_EQUAL, NEXT_HEADER_ICMPV6, None, sent)
        emit(LOAD_BYTE, 54)
        branch(JUMP_EQUAL, NEIGHBOR_SOLICITATION, asked, None)
        branch(JUMP_EQUAL, NEIGHBOR_ADVERTISEMENT, told, sent)
        place(asked)
        emit(LOAD_HALF, _PACKET_TYPE)
        branch(JUMP_GREATER, _PACKET_MULTICAST, self._reject, about)
        place(told)
        emit(LOAD_HALF, _PACKET_TYPE)
        branch(JUMP_EQUAL, _PACKET_OTHERHOST, self._reject, None)
        place(about)
        self._compare(ranges)
        place(sent)
        emit(LOAD_HALF, _PACKET_TYPE)
        branch(JUMP_EQUAL, _PACKET_HOST, None, self._reject)
        self._compared = _DESTINATION
        self._compare(ranges)
        return self._assembler.assemble()

    def _compare(self, ranges: _Ranges) -> None:
        self._word(ranges, 0)
        if self._returns_since < len(self._assembler):
            self._place_returns()

    def _base(self) -> None:
        checks: tuple[tuple[int, int, int | None, int], ...] = (
            (LOAD_HALF, 12, None, ETHERTYPE_IPV6),
            (LOAD_BYTE, 14, 0xF0, 6 << 4),
            (LOAD_HALF, 20, None, NEXT_HEADER_ICMPV6 << 8 | HOP_LIMIT),
            (LOAD_HALF, 54, None, self._message << 8),
        )
        if self._mask:
            checks += ((LOAD_BYTE, 58, self._mask, self._flags),)
        emit, branch = self._assembler.emit, self._assembler.branch
        emit(LOAD_HALF, _PACKET_TYPE)
        branch(JUMP_GREATER, _PACKET_MULTICAST, self._reject, None)
        for load, offset, mask, value in checks:
            emit(load, offset)
            if mask is not None:
                emit(AND, mask)
            branch(JUMP_EQUAL, value, None, self._reject)

    def _word(self, ranges: _Ranges, word: int) -> None:
        """Compare the target from this word (0 to 3) on with sorted disjoint ranges of what is left of it."""
        elements, deeper = _split(ranges, 96 - 32 * word)
        self._assembler.emit(LOAD_WORD, self._compared + 4 * word)
        self._tree(elements)
        for rest, label in deeper.items():
            self._assembler.place(label)
            self._word(rest, word + 1)

    def _tree(self, elements: Sequence[_Element]) -> None:
        if len(elements) <= _RUN:
            self._run(elements)
            return
        middle = len(elements) // 2
        right = Label()
        self._assembler.branch(JUMP_GREATER, elements[middle - 1].last, right, None)
        self._tree(elements[:middle])
        self._assembler.place(right)
        self._tree(elements[middle:])

    def _run(self, elements: Sequence[_Element]) -> None:
        for number, (first, last, to) in enumerate(elements, 1):
            found = to or self._accept
            beyond = self._reject if number == len(elements) else None
            if first == last:
                self._assembler.branch(JUMP_EQUAL, first, found, beyond)
            elif last == _LAST_WORD:
                self._assembler.branch(JUMP_GREATER_EQUAL, first, found, self._reject)
            else:
                following = Label()
                self._assembler.branch(JUMP_GREATER, last, beyond or following, None)
                self._assembler.branch(JUMP_GREATER_EQUAL, first, found, self._reject)
                self._assembler.place(following)
        if len(self._assembler) - self._returns_since > _NEAR:
            self._place_returns()

    def _new_returns(self) -> None:
        self._accept, self._reject = Label(), Label()
        self._returns_since = len(self._assembler)

    def _place_returns(self) -> None:
        self._assembler.place(self._accept)
        self._assembler.emit(RETURN, _WHOLE_FRAME)
        self._assembler.place(self._reject)
        self._assembler.emit(RETURN, 0)
        self._new_returns()


def _split(ranges: _Ranges, shift: int) -> tuple[list[_Element], dict[_Rest, Label]]:
    """Sort ranges by the word above the lowest `shift` bits.

    Returns the elements of that word, in order, and the labels of what must be compared further, by the ranges of the
    lower bits. Values that leave the same to compare share it: the same part of a thousand networks costs it once.
    """
    mask = (1 << shift) - 1
    whole: list[_Element] = []
    partial: dict[int, list[tuple[int, int]]] = {}
    for first, last in ranges:
        first_word, last_word = first >> shift, last >> shift
        if first_word == last_word and (first & mask, last & mask) != (0, mask):
            partial.setdefault(first_word, []).append((first & mask, last & mask))
            continue
        if first & mask:
            partial.setdefault(first_word, []).append((first & mask, mask))
            first_word += 1
        if last & mask != mask:
            partial.setdefault(last_word, []).append((0, last & mask))
            last_word -= 1
        if first_word <= last_word:
            whole.append(_Element(first_word, last_word, None))

    deeper: dict[_Rest, Label] = {}
    elements: list[_Element] = []
    singles = (_Element(word, word, deeper.setdefault(tuple(rest), Label())) for word, rest in partial.items())
    for element in sorted([*whole, *singles], key=_first):
        if elements and elements[-1].to is element.to and elements[-1].last + 1 == element.first:
            elements[-1] = elements[-1]._replace(last=element.last)
        else:
            elements.append(element)
    return elements, deeper


def _first(element: _Element) -> int:
    return element.first


def _widen(ranges: _Ranges, count: int) -> _Ranges:
    """Join ranges over the smallest gaps between them until `count` are left: they admit the fewest strangers."""
    by_gap = sorted(range(1, len(ranges)), key=lambda number: ranges[number][0] - ranges[number - 1][1])
    begins = sorted([0, *by_gap[len(ranges) - count :]])
    ends = [*begins[1:], len(ranges)]
    return [(ranges[begin][0], ranges[end - 1][1]) for begin, end in zip(begins, ends, strict=True)]


def compile_filter(addresses: AddressSet, most: int = MOST_INSTRUCTIONS) -> Filter:
    """Compile the program that accepts solicitations for `addresses`, in at most `most` instructions (64 or more).

    It is meant for a SOCK_RAW packet socket, where offset 0 is the Ethernet header: packet(7).
    """
    return _fit(lambda ranges: _Compiler().compile(ranges), addresses.ranges(), most)


def traffic_of(addresses: AddressSet, most: int = MOST_INSTRUCTIONS) -> Filter:
    """Compile the program that accepts all that shows what becomes of `addresses`, for a listener.

    That is solicitations for them, advertisements about them, by this host as well, and all else that comes for them,
    without a VLAN's tag. It is meant for a socket that hears outgoing frames, where tags are not yet taken care of.
    """
    return _fit(lambda ranges: _Compiler().compile_traffic(ranges), addresses.ranges(), most)


def _fit(compiled: Callable[[_Ranges], tuple[Instruction, ...]], ranges: _Ranges, most: int) -> Filter:
    instructions = compiled(ranges)
    exact = True
    count = len(ranges)
    while len(instructions) > most:
        # The length is nearly proportional to the number of ranges: this ends after one or two rounds.
        exact = False
        count = max(1, count * most // len(instructions))
        instructions = compiled(_widen(ranges, count))
    return Filter(instructions, exact)


def answers_of(targets: Iterable[int]) -> tuple[Instruction, ...]:
    """Compile the program that accepts the advertisements of a few addresses that say they answer a solicitation."""
    return _advertisements_of(targets, FLAG_SOLICITED, FLAG_SOLICITED)


def announcements_of(targets: Iterable[int]) -> tuple[Instruction, ...]:
    """Compile the program that accepts those that nobody has asked for, and that override what is known."""
    return _advertisements_of(targets, FLAG_SOLICITED | FLAG_OVERRIDE, FLAG_OVERRIDE)


def _advertisements_of(targets: Iterable[int], mask: int, flags: int) -> tuple[Instruction, ...]:
    return _Compiler(NEIGHBOR_ADVERTISEMENT, mask, flags).compile([(target, target) for target in sorted(targets)])


REJECT_ALL = _Compiler().compile([])
ANY_TARGET = _Compiler().compile([(0, LAST_ADDRESS)])
"""Accepts what every other program accepts."""
ANY_ADVERTISEMENT = _Compiler(NEIGHBOR_ADVERTISEMENT).compile([(0, LAST_ADDRESS)])


_WORDING = {
    LOAD_WORD: ("ld", "[{k}]"),
    LOAD_HALF: ("ldh", "[{k}]"),
    LOAD_BYTE: ("ldb", "[{k}]"),
    AND: ("and", "#{k:#x}"),
    JUMP: ("ja", "{to}"),
    JUMP_EQUAL: ("jeq", "#{k:#x}"),
    JUMP_GREATER: ("jgt", "#{k:#x}"),
    JUMP_GREATER_EQUAL: ("jge", "#{k:#x}"),
    RETURN: ("ret", "#{k}"),
}


def disassemble(instructions: Iterable[Instruction]) -> str:
    """Return the listing of a program that compile_filter() made, in the wording of tcpdump -d."""
    lines = []
    for number, (code, if_true, if_false, k) in enumerate(instructions):
        name, operand = _WORDING[code]
        operand = "[type]" if k == _PACKET_TYPE else operand.format(k=k, to=number + 1 + k)
        line = f"({number:03}) {name:8} {operand}"
        if code in (JUMP_EQUAL, JUMP_GREATER, JUMP_GREATER_EQUAL):
            line = f"{line:31} jt {number + 1 + if_true}\tjf {number + 1 + if_false}"
        lines.append(line + "\n")
    return "".join(lines)


def numbers(instructions: Sequence[Instruction]) -> str:
    """Return a program as decimal numbers after their count, as tcpdump -ddd prints it."""
    return f"{len(instructions)}\n" + "".join(f"{' '.join(map(str, each))}\n" for each in instructions)
