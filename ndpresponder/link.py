"""One packet socket on one interface: packet(7).

Everything that this socket changes about the system (the filter, reception of all multicast) is owned by its
file descriptor, so that the kernel undoes it however the process ends.
"""

import os
from array import array
from collections.abc import Sequence
from errno import ENODEV, EOPNOTSUPP
from fcntl import ioctl
from socket import (
    AF_PACKET,
    AF_UNIX,
    MSG_DONTWAIT,
    SO_ERROR,
    SO_RCVBUF,
    SOCK_DGRAM,
    SOCK_RAW,
    SOL_SOCKET,
    if_nametoindex,
    socket,
)
from struct import Struct

from .filter import ANY_TARGET, REJECT_ALL, Instruction
from .packet import ETHERTYPE_IPV6

# What Python's socket module does not name of linux/if_packet.h, linux/if_arp.h, linux/if.h, linux/sockios.h,
# linux/ethtool.h and asm-generic/socket.h.
_SOL_PACKET = 263
_PACKET_ADD_MEMBERSHIP = 1
_PACKET_DROP_MEMBERSHIP = 2
_PACKET_STATISTICS = 6
_PACKET_IGNORE_OUTGOING = 23
_PACKET_MR_ALLMULTI = 2
_ARPHRD_ETHER = 1
_ETH_P_ALL = 3  # linux/if_ether.h
_SO_ATTACH_FILTER = 26
_SO_RCVTIMEO = 20
_SIOCGIFFLAGS = 0x8913
_IFF_UP = 0x1
_SIOCETHTOOL = 0x8946
_ETHTOOL_GLINK = 0xA

_PACKET_MREQ = Struct("iHH8s")
_TPACKET_STATS = Struct("II")
_SOCK_FILTER = Struct("HBBI")
_SOCK_FPROG = Struct("HP")
_TIMEVAL = Struct("ll")
_IFREQ_FLAGS = Struct("16sH14x")
_IFREQ_DATA = Struct("16sP16x")

_LONGEST_FRAME = 65536
# About 2,000 waiting solicitations, a flood's worth of a few milliseconds. The kernel cuts it to net.core.rmem_max.
# More would only make the answers late: a router asks again after a second (RFC 4861 section 10).
_RECEIVE_BUFFER = 1 << 21
PATIENCE = 0.5
"""Seconds that receive() waits."""


class NotEthernetError(Exception):
    """The interface has no Ethernet header: a tunnel, the loopback interface."""


class Link:
    """A packet socket that is bound to the interface `ifname`; it receives nothing until a filter is attached.

    `allmulti` asks the interface for all multicast, whether or not somebody here has joined the group. `outgoing` is
    whether what this host itself sends is heard too.

    `index` is the interface's number, which it keeps until it is deleted.

    Raises PermissionError without CAP_NET_RAW, NotEthernetError, and OSError with errno ENODEV when there is no
    such interface, ENETDOWN when it is down.
    """

    def __init__(self, ifname: str, *, allmulti: bool = True, outgoing: bool = False) -> None:
        # With protocol 0 nothing is received before bind(): no frame passes unfiltered (packet(7)).
        self._socket = socket(AF_PACKET, SOCK_RAW, 0)
        try:
            self._attach(REJECT_ALL)
            self._socket.setsockopt(SOL_SOCKET, _SO_RCVTIMEO, _TIMEVAL.pack(0, int(PATIENCE * 1e6)))
            self._socket.setsockopt(SOL_SOCKET, SO_RCVBUF, _RECEIVE_BUFFER)
            self._socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, not outgoing)
            self.index = _index(ifname)
            self._allmulti = False
            self.receive_all_multicast(wanted=allmulti)
            # Bound to one protocol, a packet socket hears incoming frames only.
            self._socket.bind((ifname, _ETH_P_ALL if outgoing else ETHERTYPE_IPV6))
            *_, hardware_type, _ = self._socket.getsockname()
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

    def close(self) -> None:
        """Leave the interface as it was."""
        self._socket.close()

    def receive_all_multicast(self, *, wanted: bool) -> None:
        """Ask the interface for all multicast from now on, or no more. Raises OSError (ENODEV) when it is no more."""
        if wanted == self._allmulti:
            return
        # The solicited-node groups of addresses that are not the host's own: without this the interface's own filter
        # drops them.
        membership = _PACKET_MREQ.pack(self.index, _PACKET_MR_ALLMULTI, 0, b"")
        action = _PACKET_ADD_MEMBERSHIP if wanted else _PACKET_DROP_MEMBERSHIP
        self._socket.setsockopt(_SOL_PACKET, action, membership)
        self._allmulti = wanted

    def fileno(self) -> int:
        """Return the file descriptor, for an event loop."""
        return self._socket.fileno()

    def identity(self) -> tuple[str, bytes]:
        """Return the interface's name and its address, 6 octets, as they are now; no name, when it is no more."""
        ifname, *_, mac = self._socket.getsockname()
        return ifname, mac

    def is_up(self) -> bool:
        """Whether the operator has it up (IFF_UP of netdevice(7)). Raises OSError (ENODEV) when it is no more."""
        ifname, _ = self.identity()
        return _is_up(self._socket, ifname)

    def has_carrier(self) -> bool:
        """Whether it has a carrier, or is up and does not tell. Raises OSError (ENODEV) when it is no more.

        Source: ETHTOOL_GLINK of linux/ethtool.h. The flag IFF_RUNNING says the same up to a second later, when the
        kernel's link watch comes to it.
        """
        ifname, _ = self.identity()
        value = array("I", [_ETHTOOL_GLINK, 0])
        try:
            ioctl(self._socket, _SIOCETHTOOL, _IFREQ_DATA.pack(ifname.encode(), value.buffer_info()[0]))
        except OSError as error:
            if error.errno != EOPNOTSUPP:
                raise
            return True
        return bool(value[1])

    def attach(self, instructions: Sequence[Instruction]) -> None:
        """Replace the filter. No frame that the old and the new program both accept is lost.

        Raises OSError with errno ENOMEM for a program that is too large for net.core.optmem_max; ANY_TARGET is in place
        then.
        """
        # The kernel charges the new program before it frees the old one. By way of a small one there is always room
        # for that small one, so the next replacement cannot fail for what is in place now.
        self._attach(ANY_TARGET)
        self._attach(instructions)

    def _attach(self, instructions: Sequence[Instruction]) -> None:
        program = array("B", b"".join(_SOCK_FILTER.pack(*instruction) for instruction in instructions))
        address, _ = program.buffer_info()
        self._socket.setsockopt(SOL_SOCKET, _SO_ATTACH_FILTER, _SOCK_FPROG.pack(len(instructions), address))

    def receive(self) -> bytes | None:
        """Wait for a frame and return it, or None when none came within PATIENCE.

        Raises OSError when the interface went down or away; the kernel reports that once.
        """
        try:
            return self._socket.recv(_LONGEST_FRAME)
        except BlockingIOError:
            return None

    def send(self, frame: bytes) -> None:
        """Send a whole Ethernet frame. Raises OSError when it cannot be queued at once, EAGAIN among others."""
        # A stuck interface must not keep the thread from reading.
        self._socket.send(frame, MSG_DONTWAIT)

    def drops(self) -> int:
        """Return how many frames the kernel had to drop since the last call, because the queue was full."""
        size = _TPACKET_STATS.size
        _, drops = _TPACKET_STATS.unpack(self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, size))
        return int(drops)


def is_up(ifname: str) -> bool:
    """Whether the operator has an interface up, for who has no Link of it. Raises OSError when there is none."""
    with socket(AF_UNIX, SOCK_DGRAM) as of_any_family:
        return _is_up(of_any_family, ifname)


def _is_up(of_any_family: socket, ifname: str) -> bool:
    request = _IFREQ_FLAGS.pack(os.fsencode(ifname), 0)
    _, flags = _IFREQ_FLAGS.unpack(ioctl(of_any_family, _SIOCGIFFLAGS, request))
    return bool(flags & _IFF_UP)


def _index(ifname: str) -> int:
    try:
        return if_nametoindex(ifname)
    except OSError as error:
        # Python does not always set errno here.
        raise OSError(ENODEV, os.strerror(ENODEV), ifname) from error
