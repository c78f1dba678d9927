"""The path of a frame: received, parsed, decided on, answered; and what is counted on the way."""

from collections import Counter
from dataclasses import dataclass, field
from errno import ENOMEM, errorcode
from ipaddress import IPv6Address
from time import monotonic
from typing import TYPE_CHECKING

from . import log
from .addresses import AddressSet, Rule
from .decide import decide
from .filter import ANY_TARGET, Filter, compile_filter
from .link import Link
from .packet import Solicitation, build, parse
from .policy import Policy
from .verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .sight import Watch

# Below this many instructions a widened filter tells hardly more than one for any target.
_SMALLEST_FILTER = 64


def answer(frame: bytes, addresses: AddressSet, policy: Policy) -> tuple[bytes, Rule] | Verdict:
    """Return the frame that answers `frame` and the rule by which, or why there is none. Any bytes give a value."""
    solicitation = parse(frame)
    if not isinstance(solicitation, Solicitation):
        return solicitation
    decision = decide(solicitation, addresses, policy)
    if not isinstance(decision, tuple):
        return decision
    advertisement, rule = decision
    return build(advertisement), rule


@dataclass(slots=True)
class Tally:
    """What happened to the frames so far: how many, by outcome."""

    answered: int = 0
    refused: Counter[Verdict] = field(default_factory=Counter)
    unsent: Counter[str] = field(default_factory=Counter)
    """Answers that the kernel did not take, by the name of its error: ENOBUFS, ENETDOWN."""
    dropped: int = 0
    """Frames that the kernel dropped because the queue was full."""
    multicast: int = 0
    """How many of those answered had come by multicast."""

    def copy(self) -> "Tally":
        """Return a copy that stays as it is, also while another thread counts on."""
        return Tally(self.answered, Counter(self.refused), Counter(self.unsent), self.dropped, self.multicast)

    def since(self, earlier: "Tally") -> "Tally":
        """Return what has been added to `earlier`, an older copy."""
        return Tally(
            self.answered - earlier.answered,
            self.refused - earlier.refused,
            self.unsent - earlier.unsent,
            self.dropped - earlier.dropped,
            self.multicast - earlier.multicast,
        )

    def plus(self, other: "Tally") -> "Tally":
        """Return the sum of both."""
        return Tally(
            self.answered + other.answered,
            self.refused + other.refused,
            self.unsent + other.unsent,
            self.dropped + other.dropped,
            self.multicast + other.multicast,
        )

    def received(self) -> int:
        """Return how many frames there were, answered or not; those that the kernel dropped are not among them."""
        return self.answered + self.refused.total() + self.unsent.total()

    def as_dict(self) -> dict[str, object]:
        """Return the counts for a log line."""
        return {
            "answered": self.answered,
            "refused": dict(self.refused),
            "unsent": dict(self.unsent),
            "dropped": self.dropped,
        }

    def __str__(self) -> str:
        parts = [f"answered {self.answered}"]
        for name, counts in (("refused", self.refused), ("could not send", self.unsent)):
            if counts:
                reasons = ", ".join(f"{count} {reason}" for reason, count in counts.most_common())
                parts.append(f"{name} {counts.total()} ({reasons})")
        if self.dropped:
            parts.append(f"dropped {self.dropped} (queue full)")
        return ", ".join(parts)


def deaf_minutes(so_far: int, minute: Tally, whole: Tally) -> int:
    """Return how many minutes have brought solicitations, but by unicast only since the start.

    `so_far` is the same before the last minute, `minute` what it brought, and `whole` all since the start.
    """
    return 0 if whole.multicast else so_far + bool(minute.answered)


class Responder:
    """Answers what arrives on a link, for the addresses and with the policy that it has at that moment.

    Whoever is in `watches` at that moment sees what becomes of it.
    """

    def __init__(self, link: Link, policy: Policy, tally: Tally, watches: "Sequence[Watch]") -> None:
        self.policy = policy
        self.verbose = log.verbose()
        """Whether there is a log line for each frame."""
        self.turns = 0
        """How often run() has looked for a frame: it grows at least every link.PATIENCE seconds."""
        self._link = link
        self._ifname, _ = link.identity()
        self._tally = tally
        self._watches = watches
        self._addresses = AddressSet()
        self._stopping = False

    def update(self, addresses: AddressSet) -> Filter:
        """Answer for `addresses` from now on. Returns the filter that was put in place for them."""
        compiled = compile_filter(addresses)
        self._addresses = addresses
        while True:
            try:
                self._link.attach(compiled.instructions)
            except OSError as error:
                half = len(compiled.instructions) // 2
                if error.errno != ENOMEM:
                    raise
                if half < _SMALLEST_FILTER:
                    return Filter(ANY_TARGET, exact=False)
                compiled = compile_filter(addresses, half)
            else:
                return compiled

    def run(self) -> None:
        """Answer until stop() is called. Raises OSError when the interface went down or away."""
        tally, watches = self._tally, self._watches
        receive, send = self._link.receive, self._link.send
        while not self._stopping:
            self.turns += 1
            try:
                frame = receive()
            except OSError:
                if self._has_to_stop():
                    return  # the link was closed on purpose
                raise
            if frame is None:
                continue
            reply = answer(frame, self._addresses, self.policy)
            if self.verbose:
                _trace(frame, reply)
            error = ""
            if isinstance(reply, tuple):
                octets, rule = reply
                try:
                    send(octets)
                except OSError as unsent:
                    if self._has_to_stop():
                        return
                    # A full queue, an interface that is going down. The asker asks again (RFC 4861 section 7.2.2).
                    error = errorcode.get(unsent.errno or 0, "unknown")
                    tally.unsent[error] += 1
                else:
                    # The Ethernet destination: what switches look at.
                    if frame[0] & 1:
                        tally.multicast += 1
                    tally.answered += 1
                    uses = rule.uses
                    uses.last = monotonic()
                    uses.answered += 1
            else:
                tally.refused[reply] += 1
            # After the answer: it waits for nobody.
            if watches:
                # A copy, since the loop adds to it and takes from it.
                for watch in tuple(watches):
                    watch.see(self._ifname, frame, reply[0] if isinstance(reply, tuple) else reply, error)

    def stop(self) -> None:
        """Let run() return, after the frame that it waits for or is at; the link can be closed at once."""
        self._stopping = True

    def _has_to_stop(self) -> bool:
        """Whether stop() was called meanwhile, by another thread."""
        return self._stopping


def _trace(frame: bytes, reply: tuple[bytes, Rule] | Verdict) -> None:
    """Log the fate of one frame, which need not even be a solicitation."""
    source, target = (str(IPv6Address(frame[at : at + 16].ljust(16, b"\0"))) for at in (22, 62))
    if isinstance(reply, Verdict):
        log.debug("refused", f"no answer for {target} to {source}: {reply}", target=target, source=source, reason=reply)
    else:
        log.debug("answered", f"answered for {target} to {source}", target=target, source=source)
