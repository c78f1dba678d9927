"""Whether a valid solicitation is answered, and with what: the only authority.

The kernel filter only spares this module work; it never rejects what is answered here.
"""

from .addresses import AddressSet, Rule
from .packet import (
    ALL_NODES,
    ALL_NODES_MAC,
    FLAG_OVERRIDE,
    FLAG_ROUTER,
    FLAG_SOLICITED,
    UNSPECIFIED,
    Advertisement,
    Solicitation,
)
from .policy import Override, Policy
from .verdict import Verdict

_LINK_LOCAL = 0xFE80 >> 6  # fe80::/10
_NO_MAC = bytes(6)
# Looking a member up on its class costs 50 ns in Python 3.11.
_ALWAYS, _AUTO = Override.ALWAYS, Override.AUTO
# As in `packet`.
_new = tuple.__new__


def decide(solicitation: Solicitation, addresses: AddressSet, policy: Policy) -> tuple[Advertisement, Rule] | Verdict:
    """Answer a valid solicitation, and name the rule that says so; or say why not.

    Sources: RFC 4861 sections 7.2.3, 7.2.4 and 7.2.8, RFC 4862 section 5.4.3.
    """
    ether_source, source, destination, target, link_address = solicitation
    if ether_source == policy.link_address:
        return Verdict.OWN_FRAME
    if ether_source[0] & 1:
        return Verdict.GROUP_MAC
    if target >> 118 == _LINK_LOCAL:
        return Verdict.LINK_LOCAL
    outcome = addresses.lookup(target)
    if not isinstance(outcome, Rule):
        return outcome

    flags = FLAG_ROUTER if policy.router else 0
    if source == UNSPECIFIED:
        # RFC 4862 section 5.4: the prober has no address yet, everybody hears the answer. Neither solicited
        # nor overriding: it is meant to deter a newcomer, not to displace anybody (RFC 4861 section 7.2.8).
        return Advertisement(ALL_NODES_MAC, policy.link_address, ALL_NODES, target, flags), outcome

    flags |= FLAG_SOLICITED
    if policy.override is _ALWAYS or (
        # In a prefix that is too wide, a proxy must not displace the real owner (RFC 4861 section 7.2.8); and a
        # unicast solicitation comes from somebody who has an entry already.
        policy.override is _AUTO and outcome.lives_here and destination[0] == 0xFF
    ):
        flags |= FLAG_OVERRIDE
    if link_address != ether_source and (
        link_address is None
        or len(link_address) != len(_NO_MAC)
        or link_address[0] & 1
        or link_address in (_NO_MAC, policy.link_address)
    ):
        link_address = ether_source
    return _new(Advertisement, (link_address, policy.link_address, source, target, flags)), outcome
