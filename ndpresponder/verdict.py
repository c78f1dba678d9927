"""Why a frame was not answered.

The value of each member is the word in the log and the label of the metric, so it is stable: rename a
member freely, its value never.
"""

from enum import StrEnum


class Verdict(StrEnum):
    """A reason for silence, in the order in which a frame can meet it."""

    # The frame
    TRUNCATED = "truncated"
    """Shorter than a solicitation, or than the payload length in its IPv6 header says."""
    NOT_IPV6 = "not-ipv6"
    """Another ethertype, a VLAN tag among them."""
    VERSION = "version"
    """The ethertype says IPv6, the version field does not."""
    FRAGMENT = "fragment"
    """A Fragment header, even an atomic one (RFC 6980 section 5)."""
    EXTENSION_HEADER = "extension-header"
    """ICMPv6 may follow, but not directly; routers never solicit like that, attackers do (RFC 6980 section 2)."""
    NOT_ICMPV6 = "not-icmpv6"
    """Another upper-layer protocol."""

    # The message: RFC 4861 section 7.1.1
    HOP_LIMIT = "hop-limit"
    """Not 255: the frame may have been forwarded by a router, so its sender need not be on the link."""
    NOT_SOLICITATION = "not-solicitation"
    """Another ICMPv6 type."""
    CODE = "code"
    """An ICMPv6 code other than 0."""
    LENGTH = "length"
    """A payload shorter than 24 octets."""
    CHECKSUM = "checksum"
    """Over the length that the IPv6 header states (RFC 4443 section 2.3)."""
    OPTIONS = "options"
    """An option of length 0, one that ends outside the message, or leftover octets."""
    TARGET = "target"
    """Multicast, loopback, unspecified or IPv4-mapped: nobody's neighbor."""
    SOURCE = "source"
    """Multicast, loopback, or the target itself."""
    DESTINATION = "destination"
    """Neither the target nor a multicast address of link scope."""
    PROBE_DESTINATION = "probe-destination"
    """Source unspecified, but the destination is no solicited-node address."""
    PROBE_LINK_ADDRESS = "probe-link-address"
    """Source unspecified, but a source link-layer address option is there."""

    # The link
    OWN_FRAME = "own-frame"
    """Our own MAC as the Ethernet source: a reflected frame, the host's own probe, a macvlan child's."""
    GROUP_MAC = "group-mac"
    """A group address as the Ethernet source: nobody to answer to."""

    # The target
    LINK_LOCAL = "link-local"
    """A link-local target belongs to the host that made it up."""
    NOT_CONFIGURED = "not-configured"
    """In no configured set."""
    EXCLUDED = "excluded"
    """The longest match is an exclusion."""
    ANYCAST = "anycast"
    """A prefix's subnet-router anycast address (RFC 4291 section 2.6.1) belongs to its routers."""
    GATEWAY = "gateway"
    """The gateway answers for itself; a false answer would cut everybody off."""
    OWN_ADDRESS = "own-address"
    """Assigned to the uplink: the kernel answers."""
