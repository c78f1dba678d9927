"""What passed on an interface, for those who watch: from the thread that answers to the loop, to a line or to a file.

The rules that hold here:
- Nobody waits for those who watch. What they do not take in time is lost, and counted.
- A line has tcpdump's wording (`tcpdump -n -i any`), so that it can be compared with what is seen elsewhere.
- Any bytes give a line: they are a neighbor's.
"""

import time
from collections import deque
from collections.abc import Mapping
from datetime import datetime
from socket import AF_INET6, inet_ntop
from struct import Struct
from typing import Any, NamedTuple

from .packet import ETHERTYPE_IPV6, NEIGHBOR_ADVERTISEMENT, NEIGHBOR_SOLICITATION, NEXT_HEADER_ICMPV6
from .verdict import Verdict

_MOST = 1024
"""Sightings that wait for one who watches, some 300 kB of them: a flood would fill the memory."""
_AT_ONCE = 200
"""How many are taken at once. Each costs the loop as much as an answer does; in a flood most of them are lost."""

# Ethernet type; IPv6 (RFC 8200 section 3), all of it; ICMPv6 (RFC 4861 section 4.3): type, target.
_FRAME = Struct("!12xHIHBB16s16sB7x16s")
_MESSAGE = 54
_SHORTEST = 24
_WHAT = {
    NEIGHBOR_SOLICITATION: "neighbor solicitation, who has",
    NEIGHBOR_ADVERTISEMENT: "neighbor advertisement, tgt is",
}

# https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap: magic number for microseconds, version 2.4, two fields that
# nobody uses, the longest frame, LINKTYPE_ETHERNET; and before each frame seconds, microseconds, its length twice.
_LONGEST = 65536
PCAP_HEADER = Struct("<IHHiIII").pack(0xA1B2C3D4, 2, 4, 0, 0, _LONGEST, 1)
_PCAP_RECORD = Struct("<IIII")


class Sighting(NamedTuple):
    """A frame that came in, and what became of it."""

    time: float
    """Seconds since 1970."""
    interface: str
    frame: bytes
    answer: bytes | Verdict
    """What was sent, or why nothing was."""
    error: str = ""
    """Why the kernel did not take the answer: the name of its error."""


class Watch:
    """Sightings for one who watches: see() is for the thread that answers, take() for whoever passes them on."""

    def __init__(self) -> None:
        self._waiting: deque[Sighting] = deque()
        self._seen_lost = self._told_lost = 0

    def see(self, interface: str, frame: bytes, answer: bytes | Verdict, error: str) -> None:
        """Take note of a frame, unless there is too much to be taken already."""
        if len(self._waiting) < _MOST:
            self._waiting.append(Sighting(time.time(), interface, frame, answer, error))
        else:
            self._seen_lost += 1

    def take(self) -> tuple[list[Sighting], int]:
        """Return what has been seen, not too much of it, and how much has been lost since the last time."""
        # Of both ends of the deque, one is the other thread's.
        taken = [self._waiting.popleft() for _ in range(min(len(self._waiting), _AT_ONCE))]
        lost, self._told_lost = self._seen_lost - self._told_lost, self._seen_lost
        return taken, lost


def lines(sighting: Sighting) -> list[str]:
    """Return a sighting for people: a line for what came in, and one for what went out, if anything did."""
    _, _, frame, answer, error = sighting
    if isinstance(answer, Verdict):
        return [f"{_begin(sighting, 'In')} {_wording(frame)} -- refused: {answer}"]
    came, went = f"{_begin(sighting, 'In')} {_wording(frame)}", f"{_begin(sighting, 'Out')} {_wording(answer)}"
    return [came, f"{went} -- not sent: {error}" if error else went]


def _begin(sighting: Sighting, direction: str) -> str:
    at = datetime.fromtimestamp(sighting.time).astimezone()
    return f"{at:%H:%M:%S.%f} {sighting.interface:<5} {direction:<3}"


def _wording(frame: bytes) -> str:
    """Return what tcpdump has to say about a solicitation or an advertisement; of another frame its length alone."""
    if len(frame) < _FRAME.size:
        return f"frame of {len(frame)} octets"
    ethertype, first_word, length, next_header, _, source, destination, kind, target = _FRAME.unpack_from(frame)
    if (
        (ethertype, first_word >> 28, next_header) != (ETHERTYPE_IPV6, 6, NEXT_HEADER_ICMPV6)
        or kind not in _WHAT
        or not _SHORTEST <= length <= len(frame) - _MESSAGE
    ):
        return f"frame of {len(frame)} octets"
    return (
        f"IP6 {inet_ntop(AF_INET6, source)} > {inet_ntop(AF_INET6, destination)}: "
        f"ICMP6, {_WHAT[kind]} {inet_ntop(AF_INET6, target)}, length {length}"
    )


def records(sighting: Sighting) -> bytes:
    """Return a sighting as records of a pcap file, whose beginning is PCAP_HEADER: what came in, and what went out."""
    sent = [] if sighting.error or isinstance(sighting.answer, Verdict) else [sighting.answer]
    seconds, microseconds = divmod(round(sighting.time * 1e6), 1_000_000)
    return b"".join(
        _PCAP_RECORD.pack(seconds, microseconds, min(len(frame), _LONGEST), len(frame)) + frame[:_LONGEST]
        for frame in [sighting.frame, *sent]
    )


def document(sighting: Sighting) -> dict[str, object]:
    """Return a sighting for programs; read() makes a sighting of it again."""
    at, interface, frame, answer, error = sighting
    told: dict[str, object] = {"time": round(at, 6), "interface": interface, "frame": frame.hex()}
    if isinstance(answer, Verdict):
        return told | {"verdict": "refused", "reason": answer.value}
    told["answer"] = answer.hex()
    return told | ({"verdict": "unsent", "reason": error} if error else {"verdict": "answered"})


def read(told: Mapping[str, Any]) -> Sighting:
    """Return the sighting that document() has told of."""
    at, interface, frame = told["time"], told["interface"], bytes.fromhex(told["frame"])
    if told["verdict"] == "refused":
        return Sighting(at, interface, frame, Verdict(told["reason"]))
    return Sighting(at, interface, frame, bytes.fromhex(told["answer"]), told.get("reason", ""))
