"""What a daemon is at, in words for people: what `status` prints, from the documents of room state."""

from collections.abc import Iterable, Iterator
from typing import Any

from .log import some

_GATEWAY = {
    "unwatched": "not looked after",
    "kernel": "resolved by the kernel",
    "kept": "asked for in place of the kernel",
    "fixed": "fixed by hand",
    "silent": "does not answer",
}
_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
_BOLD, _GREEN, _YELLOW, _RED = "1", "1;32", "33", "31"


def narrowed(replies: Iterable[dict[str, Any]], file: str | None, ifname: str | None) -> list[dict[str, Any]]:
    """Return what there is about the daemon that reads a file, or about an interface; None stands for any."""
    found = [reply for reply in replies if file in (None, reply["file"])]
    if ifname is None:
        return found
    narrow = [
        reply
        | {"interfaces": [each for each in reply["interfaces"] if ifname in (each["interface"], each.get("ifname"))]}
        for reply in found
    ]
    return [reply for reply in narrow if reply["interfaces"]]


class Report:
    """Writes the lines about daemons, with colours or without."""

    def __init__(self, *, coloured: bool) -> None:
        self._coloured = coloured

    def lines(self, replies: Iterable[dict[str, Any]]) -> Iterator[str]:
        """Yield the lines about all of them."""
        for number, reply in enumerate(replies):
            if number:
                yield ""
            yield from self._daemon(reply)

    def _daemon(self, status: dict[str, Any]) -> Iterator[str]:
        where = f", {status['file']}" if status["file"] else ""
        yield f"ndpresponder {status['program']}, process {status['process']}, up {duration(status['uptime'])}{where}"
        if status["engine"]:
            yield f"  {self._paint(_YELLOW, 'Docker networks cannot be looked at')}: {status['engine']}"
        # A daemon of an earlier version does not tell.
        if (reload := status.get("reload")) and not reload["reloaded"]:
            begin = self._paint(_YELLOW, f"not reloaded {duration(reload['ago'])} ago, goes on as before")
            yield f"  {begin}: {reload['text']}"
        for interface in status["interfaces"]:
            yield ""
            yield from self._interface(interface)

    def _interface(self, interface: dict[str, Any]) -> Iterator[str]:
        yield f"{self._paint(_GREEN, 'interface')}: {self._paint(_GREEN, interface['interface'])}"
        rows = list(self._rows(interface))
        width = max(len(title) for title, _ in rows) + 1
        for title, text in rows:
            # Without the blanks, which would be coloured too.
            yield f"  {self._paint(_BOLD, title)}:{'':{width - len(title)}}{text}"
        sources = list(self._sources(interface))
        if sources:
            yield ""
            width = max(len(title) for title, _ in sources)
            yield from (f"  {title:{width}} {text}" for title, text in sources)

    def _rows(self, interface: dict[str, Any]) -> Iterator[tuple[str, str]]:
        yield "state", self._state(interface)
        if interface["state"] == "answering":
            engine, groups = interface["engine"], interface["groups"]
            yield "mac", interface["mac"]
            exact = "" if engine["exact"] else ", wider than the prefixes"
            yield "engine", f"{engine['kind']}, filter of {counted(engine['instructions'], 'instruction')}{exact}"
            yield "multicast", f"{interface['multicast']}, {counted(groups, 'group')} joined"
            for gateway in interface["gateways"]:
                at = f" at {gateway['mac']}" if gateway["mac"] else ""
                text = f"{gateway['address']}{at}, {_GATEWAY[gateway['state']]}"
                yield "gateway", self._paint(_RED, text) if gateway["state"] == "silent" else text
            if conflicts := interface["conflicts"]:
                text = f"{counted(conflicts, 'address', 'addresses')} that another host has, too"
                yield "conflicts", self._paint(_RED, text)
        by_multicast = f" ({interface['answered_multicast']:,} by multicast)" if interface["answered"] else ""
        yield "answered", f"{interface['answered']:,}{by_multicast}"
        yield "refused", _reasons(interface["refused"])
        yield "not sent", self._warn(_reasons(interface["unsent"]), sum(interface["unsent"].values()))
        yield "dropped", self._warn(f"{interface['dropped']:,}", interface["dropped"])

    def _state(self, interface: dict[str, Any]) -> str:
        if interface["state"] != "answering":
            reason = f": {interface['reason']}" if interface["reason"] else ""
            return self._paint(_YELLOW, f"waiting for it{reason}")
        on = f" on {interface['ifname']}" if interface["ifname"] != interface["interface"] else ""
        state = f"answering{on} for {duration(interface['since'])}"
        return state if interface["carrier"] else f"{state}, {self._paint(_YELLOW, 'no carrier')}"

    def _sources(self, interface: dict[str, Any]) -> Iterator[tuple[str, str]]:
        for prefix in interface["prefixes"]:
            yield prefix["prefix"], _used(prefix)
        for network in interface["networks"]:
            found = network["addresses"]
            held = "not there" if found is None else counted(found, "address", "addresses")
            yield f"network {network['network']} ({held})", _used(network)
        if interface["excluded"]:
            yield "but not", some(interface["excluded"])

    def _warn(self, text: str, count: int) -> str:
        return self._paint(_YELLOW, text) if count else text

    def _paint(self, colour: str, text: str) -> str:
        return f"\033[{colour}m{text}\033[0m" if self._coloured else text


def duration(seconds: float) -> str:
    """Write a time in its two largest units that are not 0: 1 d 2 h, 5 min 3 s, 0 s."""
    left = int(seconds)
    parts: list[str] = []
    for unit, size in _UNITS:
        count, left = divmod(left, size)
        if count or parts:
            parts.append(f"{count} {unit}" if count else "")
    return " ".join(filter(None, parts[:2])) or "0 s"


def counted(count: int, singular: str, plural: str = "") -> str:
    """Write how many of a thing there are."""
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"


def _used(source: dict[str, Any]) -> str:
    if not source["answered"]:
        return "never answered"
    return f"answered {source['answered']:,}, last {duration(source['last'])} ago"


def _reasons(counts: dict[str, int]) -> str:
    total = sum(counts.values())
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in counts.items())
    return f"{total:,} ({reasons})" if counts else "0"
