"""What is said on a netlink socket: requests of some 60 octets, made by hand, and the messages of the replies.

The kernel writes a reply within microseconds of the request, or page by page as it is read (netlink(7)). It is walked
from header to header, and only what is asked for is kept: of a full routing table, a few routes.
"""

import os
import sys
from collections.abc import Callable, Iterator
from errno import EBADMSG, EMSGSIZE
from socket import AF_NETLINK, MSG_TRUNC, SOCK_RAW, socket
from struct import Struct

NETLINK_ROUTE = 0
LONGEST_MESSAGES = 1 << 16
"""Octets that are read at once. What does not fit is lost; the kernel's pages have 32 kB at most."""

# linux/netlink.h
_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_NLMSG_MIN_TYPE = 16
_NLM_F_REQUEST = 0x1
_NLM_F_ACK = 0x4
_NLM_F_DUMP_INTR = 0x10
NLM_F_DUMP = 0x300
NLM_F_CREATE_OR_REPLACE = 0x500

HEADER = Struct("=IHHII")
"""struct nlmsghdr: length, type, flags, sequence number, port."""

_ATTRIBUTE = Struct("=HH")  # struct nlattr: length, type
_PATIENCE = 1.0
"""Seconds that a reply may take; it is there when sending the request returns."""

_ATTEMPTS = 3
"""How often a table is read at most that changes meanwhile. The kernel tells of addresses, not of IPv6 routes."""


def messages(datagram: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Yield the type, flags and sequence number of each message, and the whole of it, its header too.

    Raises OSError (EBADMSG) where the rest is none.
    """
    at = 0
    while at < len(datagram):
        left = len(datagram) - at
        length, kind, flags, number, _ = HEADER.unpack_from(datagram, at) if left >= HEADER.size else (0,) * 5
        if not HEADER.size <= length <= left:
            raise OSError(EBADMSG, os.strerror(EBADMSG))
        yield kind, flags, number, datagram[at : at + length]
        # netlink(7): each message begins at a multiple of 4.
        at += (length + 3) & ~3


def attribute(kind: int, value: bytes) -> bytes:
    """Return an attribute as it is written, padded."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def attributes(message: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    """Yield the type and the value of each attribute from `at` on. Any bytes give some."""
    while at + _ATTRIBUTE.size <= len(message):
        length, kind = _ATTRIBUTE.unpack_from(message, at)
        yield kind, message[at + _ATTRIBUTE.size : at + length]
        at += max(_ATTRIBUTE.size, (length + 3) & ~3)


def _everything(_: bytes) -> bool:
    """Keep each message of a reply."""
    return True


class Kernel:
    """The kernel as it is asked: one request after another."""

    def __init__(self) -> None:
        self._number = 0
        self._socket = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE)
        self._socket.settimeout(_PATIENCE)
        self._socket.bind((0, 0))

    def close(self) -> None:
        """Ask no more."""
        self._socket.close()

    def request(
        self,
        kind: int,
        flags: int,
        body: bytes,
        *values: tuple[int, bytes],
        keep: Callable[[bytes], bool] = _everything,
    ) -> list[bytes]:
        """Send a request with these attributes, and return those messages of the reply that `keep` is true for.

        Of a table that changes without end, this is what the last attempt gave. Raises OSError where the kernel
        refuses.
        """
        body += b"".join(attribute(*each) for each in values)
        for _ in range(_ATTEMPTS):
            self._number += 1
            header = HEADER.pack(HEADER.size + len(body), kind, flags | _NLM_F_REQUEST | _NLM_F_ACK, self._number, 0)
            self._socket.send(header + body)
            consistent, kept = self._reply(keep)
            if consistent:
                break
        return kept

    def _reply(self, keep: Callable[[bytes], bool]) -> tuple[bool, list[bytes]]:
        """Read until the end of the reply, which is an acknowledgment. Returns whether nothing changed meanwhile."""
        consistent = True
        kept = []
        while True:
            datagram, _, received, _ = self._socket.recvmsg(LONGEST_MESSAGES)
            if received & MSG_TRUNC:
                raise OSError(EMSGSIZE, os.strerror(EMSGSIZE))
            for kind, flags, number, message in messages(datagram):
                if number != self._number:
                    continue  # the end of an earlier reply that did not come in time
                if flags & _NLM_F_DUMP_INTR:
                    consistent = False
                if kind >= _NLMSG_MIN_TYPE:
                    if keep(message):
                        kept.append(message)
                elif kind in (_NLMSG_ERROR, _NLMSG_DONE):
                    error = -int.from_bytes(message[HEADER.size : HEADER.size + 4], sys.byteorder, signed=True)
                    if error:
                        raise OSError(error, os.strerror(error))
                    return consistent, kept
