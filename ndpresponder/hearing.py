"""What passes on a link about some addresses, and what follows from it: on-link, routed, or filtered.

The rules that hold here:
- No I/O: frames in, counts out, and one conclusion from them.
- Any bytes are taken, and what is kept is bounded, whoever sends them.
- A solicitation proves that somebody takes the address for on-link. A packet alone proves nothing while something here
  answers: the router may have asked before.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv6Address

from .addresses import AddressSet, Rule
from .packet import ETHERTYPE_IPV6, UNSPECIFIED, Solicitation, parse, read_advertisement

_MOST_ADDRESSES = 1024
"""How many addresses are told apart: a scan of the prefix takes no more memory than that."""
_MOST_ASKERS = 8
"""How many are remembered who asked; more than a link has routers is a flood of made-up sources."""

_SOURCE, _DESTINATION, _END = 22, 38, 54  # of IPv6 addresses in the frame


@dataclass(slots=True)
class About:
    """What was heard about one address."""

    multicast: int = 0
    """Solicitations to its group."""
    unicast: int = 0
    """Solicitations to itself: the asker knew it before, and checks."""
    answered: int = 0
    """Advertisements by this host."""
    from_elsewhere: int = 0
    """Those among them that came from another address than itself, as ndppd and the kernel send them."""
    again: int = 0
    """Solicitations from somebody who had been answered."""
    packets: int = 0
    """Packets to it."""
    told: set[bytes] = field(default_factory=set)
    """Who was answered."""

    @property
    def asked(self) -> int:
        """All solicitations."""
        return self.multicast + self.unicast


@dataclass(slots=True)
class Heard:
    """All that was heard so far about the addresses of a set, on an interface with the MAC `link_address`."""

    addresses: AddressSet
    link_address: bytes
    about: dict[int, About] = field(default_factory=dict)
    askers: dict[IPv6Address, bytes] = field(default_factory=dict)
    """Who asked, from which MAC."""
    claims: dict[int, bytes] = field(default_factory=dict)
    """Addresses that somebody else on the link advertises, and the MAC."""

    def take(self, frame: bytes) -> None:
        """Take note of a frame."""
        message = parse(frame)
        if isinstance(message, Solicitation):
            self._take_solicitation(message)
        elif advertised := read_advertisement(frame):
            source = frame[6:12]
            target = int.from_bytes(advertised.target)
            if source == self.link_address:
                if about := self._about(target):
                    about.answered += 1
                    about.from_elsewhere += frame[_SOURCE:_DESTINATION] != advertised.target
                    if len(about.told) < _MOST_ASKERS:
                        about.told.add(frame[_DESTINATION:_END])
            elif self.is_meant(target) and (target in self.claims or len(self.claims) < _MOST_ADDRESSES):
                self.claims[target] = advertised.link_address or source
        elif (
            len(frame) >= _END
            and frame[12:14] == ETHERTYPE_IPV6.to_bytes(2)
            and frame[6:12] != self.link_address
            and (about := self._about(int.from_bytes(frame[_DESTINATION:_END])))
        ):
            about.packets += 1

    def _take_solicitation(self, message: Solicitation) -> None:
        # Of ourselves; and of somebody who is about to take the address, and sends nothing to it.
        if message.ether_source == self.link_address or message.source == UNSPECIFIED:
            return
        about = self._about(message.target)
        if about is None:
            return
        if message.destination[0] == 0xFF:
            about.multicast += 1
        else:
            about.unicast += 1
        about.again += message.source in about.told
        asker = IPv6Address(message.source)
        if asker in self.askers or len(self.askers) < _MOST_ASKERS:
            self.askers[asker] = message.ether_source

    def is_meant(self, address: int) -> bool:
        """Whether this is about the address."""
        return isinstance(self.addresses.lookup(address), Rule)

    def _about(self, address: int) -> About | None:
        if not self.is_meant(address):
            return None
        if address not in self.about and len(self.about) >= _MOST_ADDRESSES:
            return None
        return self.about.setdefault(address, About())

    def those(self, condition: Callable[[About], object]) -> list[IPv6Address]:
        """Return the addresses about which something holds, in the order in which they were heard of."""
        return [IPv6Address(address) for address, about in self.about.items() if condition(about)]


class Conclusion(Enum):
    """How the provider brings packets for the addresses here."""

    ANSWERED = "answered"
    """The router asks, this host answers, and that is enough for it."""
    ON_LINK = "on-link"
    """The router asks, and nobody here answers."""
    FILTERED = "filtered"
    """The router asks, this host answers, and the router asks again: the answer does not arrive."""
    ROUTED = "routed"
    """Packets come without a question."""
    UNCLEAR = "unclear"
    """Packets come, but the router may have asked before."""
    NOTHING = "nothing"
    """Nothing was heard."""


def conclude(heard: Heard, fresh: IPv6Address | None, *, answering: bool) -> Conclusion:
    """Conclude from what was heard.

    `fresh` is an address that nobody has used before, so that the router cannot know it. `answering` is whether
    something on this host answers solicitations.
    """
    asked = heard.those(lambda about: about.asked)
    with_packets = heard.those(lambda about: about.packets)
    if fresh in with_packets and fresh not in asked:
        # Whoever asks for others is no router.
        return Conclusion.ROUTED
    if asked:
        answered = [about for about in heard.about.values() if about.asked and about.answered]
        if not answered:
            return Conclusion.ON_LINK
        lost = any(about.again for about in answered) and not any(about.packets for about in answered)
        return Conclusion.FILTERED if lost else Conclusion.ANSWERED
    if not with_packets:
        return Conclusion.NOTHING
    return Conclusion.UNCLEAR if answering else Conclusion.ROUTED
