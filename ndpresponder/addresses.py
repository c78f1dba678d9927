"""Which addresses are answered for.

An AddressSet is an immutable snapshot: built once, looked up for every frame, swapped whole. Each source of
addresses (the command line, containers, the uplink's own configuration) keeps one page of an AddressBook
and publishes that page whole.

All prefixes of all pages are flattened into consecutive ranges when the set is built, so that one bisection
finds the longest match whatever the number of prefixes and of different prefix lengths, and so that the
kernel filter can be compiled from the same ranges.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv6Network

from .verdict import Verdict

LAST_ADDRESS = 2**128 - 1


@dataclass(slots=True)
class Uses:
    """How often rules have been answered by, and when last: seconds of the monotonic clock, 0 for never."""

    answered: int = 0
    last: float = 0.0


@dataclass(frozen=True, slots=True)
class Rule:
    """Answer for a prefix.

    `source` says where the rule comes from ("static", "docker:web"). `lives_here` is true for an address that is known
    to be held by something behind this host, as opposed to a prefix that is answered for whether or not anybody is
    there. `uses` is where its answers are counted, together with those of other rules or not.
    """

    prefix: IPv6Network
    source: str
    lives_here: bool = False
    uses: Uses = field(default_factory=Uses, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Do not answer for a prefix, and call the reason `verdict`."""

    prefix: IPv6Network
    verdict: Verdict


# What wins between entries for the very same prefix: the highest rank. An address that was configured as a /128 is
# answered although it is some prefix's anycast address; an exclusion beats a rule.
_RANK_OF_RULE = 1
_RANK_OF_REFUSAL = {Verdict.ANYCAST: 0, Verdict.EXCLUDED: 2, Verdict.GATEWAY: 3, Verdict.OWN_ADDRESS: 4}


def _order(entry: Rule | Refusal) -> tuple[int, int, int, bool, str]:
    """Sort what contains before what is contained, and between equals the winner last."""
    prefix = entry.prefix
    if isinstance(entry, Rule):
        return int(prefix.network_address), prefix.prefixlen, _RANK_OF_RULE, entry.lives_here, entry.source
    return int(prefix.network_address), prefix.prefixlen, _RANK_OF_REFUSAL[entry.verdict], False, ""


class AddressSet:
    """An immutable map from every IPv6 address to a Rule or to the Verdict that refuses it.

    The longest matching prefix decides. Each rule's prefix other than a /128 implies a refusal of its
    subnet-router anycast address.
    """

    __slots__ = ("_outcomes", "_starts")

    def __init__(self, entries: Iterable[Rule | Refusal] = ()) -> None:
        entries = set(entries)
        entries |= {
            Refusal(IPv6Network((int(entry.prefix.network_address), 128)), Verdict.ANYCAST)
            for entry in entries
            if isinstance(entry, Rule) and entry.prefix.prefixlen < 128
        }
        starts = [0]
        outcomes: list[Rule | Verdict] = [Verdict.NOT_CONFIGURED]

        def begin(start: int, outcome: Rule | Verdict) -> None:
            if starts[-1] == start:
                outcomes[-1] = outcome
            else:
                starts.append(start)
                outcomes.append(outcome)

        # Prefixes nest or are disjoint: a stack of those that are open at the current address is enough.
        opened: list[tuple[int, Rule | Verdict]] = [(LAST_ADDRESS, Verdict.NOT_CONFIGURED)]
        for entry in sorted(entries, key=_order):
            first = int(entry.prefix.network_address)
            while opened[-1][0] < first:
                last, _ = opened.pop()
                begin(last + 1, opened[-1][1])
            outcome = entry if isinstance(entry, Rule) else entry.verdict
            opened.append((int(entry.prefix.broadcast_address), outcome))
            begin(first, outcome)
        while len(opened) > 1:
            last, _ = opened.pop()
            if last < LAST_ADDRESS:
                begin(last + 1, opened[-1][1])
        self._starts = tuple(starts)
        self._outcomes = tuple(outcomes)

    def lookup(self, address: int) -> Rule | Verdict:
        """Return the rule that answers for `address` (128 bits, as an integer), or why none does."""
        return self._outcomes[bisect_right(self._starts, address) - 1]

    def ranges(self) -> list[tuple[int, int]]:
        """Return the answered addresses as sorted, disjoint, non-adjacent (first, last) pairs of integers."""
        ranges: list[tuple[int, int]] = []
        for first, last, _ in self.decided():
            if ranges and ranges[-1][1] == first - 1:
                ranges[-1] = ranges[-1][0], last
            else:
                ranges.append((first, last))
        return ranges

    def decided(self) -> Iterator[tuple[int, int, Rule]]:
        """Yield the answered addresses, sorted, as first and last of a run and the rule that decides there."""
        ends = (*(start - 1 for start in self._starts[1:]), LAST_ADDRESS)
        for first, last, outcome in zip(self._starts, ends, self._outcomes, strict=True):
            if isinstance(outcome, Rule):
                yield first, last, outcome

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AddressSet):
            return NotImplemented
        return (self._starts, self._outcomes) == (other._starts, other._outcomes)

    def __hash__(self) -> int:
        return hash((self._starts, self._outcomes))


class AddressBook:
    """Where each source of addresses keeps its page. `addresses` is the set that all pages together make."""

    def __init__(self) -> None:
        self._pages: dict[str, frozenset[Rule | Refusal]] = {}
        self.addresses = AddressSet()

    def page(self, source: str) -> frozenset[Rule | Refusal]:
        """Return the page of `source` as it is now."""
        return self._pages.get(source, frozenset())

    def publish(self, source: str, entries: Iterable[Rule | Refusal]) -> bool:
        """Replace the whole page of `source`. Returns whether `addresses` is another set now."""
        self._pages[source] = frozenset(entries)
        before = self.addresses
        self.addresses = AddressSet(entry for page in self._pages.values() for entry in page)
        return self.addresses != before
