"""Shows what daemons see as it passes: as lines for people or programs, or as a pcap file (docs/monitor.md)."""

import json
import os
import select
import sys
from collections.abc import Callable, Mapping
from typing import Any

from .client import ClientError, Stream
from .sight import lines, read, records

Told = Mapping[str, Any]
"""What a daemon says: a sighting, or how many are `lost`."""


def for_people(told: Told) -> bytes:
    """Return lines in tcpdump's wording, with what tcpdump does not know: why there is no answer."""
    if "lost" in told:
        return f"-- {told['lost']} lost\n".encode()
    return "".join(f"{line}\n" for line in lines(read(told))).encode()


def for_programs(told: Told) -> bytes:
    """Return a line of JSON."""
    return f"{json.dumps(told)}\n".encode()


def for_file(told: Told) -> bytes:
    """Return records of a pcap file, which has no room for anything else."""
    if "lost" in told:
        sys.stderr.write(f"ndpresponder: {told['lost']} lost\n")
        return b""
    return records(read(told))


def show(streams: list[Stream], ifname: str | None, form: Callable[[Told], bytes], outlet: int) -> None:
    """Write what is seen, on one interface or on all, to the descriptor `outlet` until nobody reads it any more.

    Raises ClientError when there is no daemon left.
    """
    poll = select.poll()
    # That there is no reader any more is told in any case: poll(2).
    poll.register(outlet, 0)
    there = {stream.fileno(): stream for stream in streams}
    for stream in streams:
        poll.register(stream, select.POLLIN)
    while there:
        for descriptor, _ in poll.poll():
            if descriptor == outlet:
                return
            news = there[descriptor].more()
            if news is None:
                poll.unregister(descriptor)
                there.pop(descriptor).close()
                continue
            told = [each for each in news if ifname in {None, each.get("interface", ifname)}]
            try:
                _write(outlet, b"".join(map(form, told)))
            except BrokenPipeError:
                return
    raise ClientError("the daemon has ended, or has waited too long for this to be read")


def _write(outlet: int, octets: bytes) -> None:
    while octets:
        octets = octets[os.write(outlet, octets) :]
