"""The reference listings in bpf/: for each, the addresses it stands for and the program."""

from pathlib import Path
from typing import NamedTuple

from ndpresponder.addresses import AddressSet
from ndpresponder.config import parse_addresses

_COMMAND = ["ndpresponder", "filter"]


class Golden(NamedTuple):
    """A listing, and the command line that prints it."""

    name: str
    arguments: list[str]
    listing: str

    @property
    def addresses(self) -> AddressSet:
        """The set that the command line names."""
        pairs = list(zip(self.arguments[::2], self.arguments[1::2], strict=True))
        subnets = [value for flag, value in pairs if flag == "-n"]
        exclusions = [value for flag, value in pairs if flag == "-x"]
        assert len(subnets) + len(exclusions) == len(pairs)
        entries, _ = parse_addresses(subnets, exclusions)
        return AddressSet(entries)


def _read(path: Path) -> Golden:
    command, _, listing = path.read_text().partition("\n")
    words = command.split()
    assert words[:2] == _COMMAND
    return Golden(path.stem, words[2:], listing)


GOLDEN = [_read(path) for path in sorted((Path(__file__).parents[1] / "bpf").glob("*.txt"))]
