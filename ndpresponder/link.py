"""One packet socket on one interface: packet(7).

Everything that this socket changes about the system (the filter, reception of all multicast) is owned by its
file descriptor, so that the kernel undoes it however the process ends.
"""

import os
from array import array
from collections.abc import Iterator, Sequence
from errno import ENODEV
from socket import AF_PACKET, SO_ERROR, SO_RCVBUF, SOCK_RAW, SOL_SOCKET, if_nametoindex, socket
from struct import Struct

from .filter import Instruction
from .packet import ETHERTYPE_IPV6

# linux/if_packet.h, linux/if_arp.h, asm-generic/socket.h: what Python's socket module does not name.
_SOL_PACKET = 263
_PACKET_ADD_MEMBERSHIP = 1
_PACKET_STATISTICS = 6
_PACKET_IGNORE_OUTGOING = 23
_PACKET_MR_ALLMULTI = 2
_ARPHRD_ETHER = 1
_SO_ATTACH_FILTER = 26

_PACKET_MREQ = Struct("iHH8s")
_TPACKET_STATS = Struct("II")
_SOCK_FILTER = Struct("HBBI")
_SOCK_FPROG = Struct("HP")

_LONGEST_FRAME = 65536
# About 2,000 waiting solicitations, a flood's worth of a few milliseconds. The kernel cuts it to net.core.rmem_max.
# More would only make the answers late: a router asks again after a second (RFC 4861 section 10).
_RECEIVE_BUFFER = 1 << 21


class NotEthernetError(Exception):
    """The interface has no Ethernet header: a tunnel, the loopback interface."""


class Link:
    """A packet socket that is bound to the interface `ifname` and receives what the filter accepts.

    `mac` is the interface's address, 6 octets, at the time of opening.

    Raises PermissionError without CAP_NET_RAW, NotEthernetError, and OSError with errno ENODEV when there is no
    such interface, ENETDOWN when it is down.
    """

    def __init__(self, ifname: str, instructions: Sequence[Instruction]) -> None:
        # With protocol 0 nothing is received before bind(): no frame passes unfiltered (packet(7)).
        self._socket = socket(AF_PACKET, SOCK_RAW, 0)
        try:
            self._socket.setblocking(False)  # noqa: FBT003 - the standard library's signature
            self._socket.setsockopt(SOL_SOCKET, SO_RCVBUF, _RECEIVE_BUFFER)
            self._socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
            self.attach(instructions)
            index = _index(ifname)
            # The solicited-node groups of addresses that are not the host's own: without this the interface's
            # own filter drops them.
            membership = _PACKET_MREQ.pack(index, _PACKET_MR_ALLMULTI, 0, b"")
            self._socket.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, membership)
            self._socket.bind((ifname, ETHERTYPE_IPV6))
            *_, hardware_type, self.mac = self._socket.getsockname()
            error = self._socket.getsockopt(SOL_SOCKET, SO_ERROR)
        except BaseException:
            self._socket.close()
            raise
        if hardware_type != _ARPHRD_ETHER:
            self._socket.close()
            raise NotEthernetError(ifname)
        if error:
            self._socket.close()
            raise OSError(error, os.strerror(error), ifname)

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when a frame has arrived."""
        return self._socket.fileno()

    def close(self) -> None:
        """Leave the interface as it was."""
        self._socket.close()

    def attach(self, instructions: Sequence[Instruction]) -> None:
        """Replace the filter, atomically: each frame meets the old program or the new one."""
        program = array("B", b"".join(_SOCK_FILTER.pack(*instruction) for instruction in instructions))
        address, _ = program.buffer_info()
        self._socket.setsockopt(SOL_SOCKET, _SO_ATTACH_FILTER, _SOCK_FPROG.pack(len(instructions), address))

    def receive(self, most: int) -> Iterator[bytes]:
        """Yield the frames that are waiting, at most `most`.

        Raises OSError when the interface went down or away; the kernel reports that once.
        """
        receive = self._socket.recv
        try:
            for _ in range(most):
                yield receive(_LONGEST_FRAME)
        except BlockingIOError:
            return

    def send(self, frame: bytes) -> None:
        """Send a whole Ethernet frame. Raises OSError when it cannot be queued."""
        self._socket.send(frame)

    def drops(self) -> int:
        """Return how many frames the kernel had to drop since the last call, because the queue was full."""
        size = _TPACKET_STATS.size
        _, drops = _TPACKET_STATS.unpack(self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, size))
        return int(drops)


def _index(ifname: str) -> int:
    try:
        return if_nametoindex(ifname)
    except OSError as error:
        # Python does not always set errno here.
        raise OSError(ENODEV, os.strerror(ENODEV), ifname) from error
