"""Independent judges: a classic-BPF machine, tcpdump's compiler, a set of addresses that is merely right."""

import subprocess
from collections.abc import Iterable, Sequence
from ipaddress import IPv6Address, IPv6Network

from ndpresponder.addresses import Refusal, Rule
from ndpresponder.filter import Instruction
from ndpresponder.verdict import Verdict

PACKET_HOST, PACKET_BROADCAST, PACKET_MULTICAST, PACKET_OTHERHOST, PACKET_OUTGOING = range(5)
_PACKET_TYPE = 0xFFFFF004
_VLAN_TAG = 0xFFFFF02C


def run_filter(program: Sequence[Instruction], frame: bytes, packet_type: int = PACKET_HOST, vlan: int = 0) -> int:
    """Execute a classic BPF program, as linux/net/core/filter.c describes it; how many octets it accepts."""
    accumulator = 0
    at = 0
    while True:
        code, if_true, if_false, k = program[at]
        at += 1
        if code in (0x20, 0x28, 0x30):  # ld, ldh, ldb at a fixed offset
            size = {0x20: 4, 0x28: 2, 0x30: 1}[code]
            if k == _PACKET_TYPE:
                accumulator = packet_type
            elif k == _VLAN_TAG:
                accumulator = vlan
            elif k + size > len(frame):
                return 0
            else:
                accumulator = int.from_bytes(frame[k : k + size], "big")
        elif code == 0x54:
            accumulator &= k
        elif code == 0x05:
            at += k
        elif code in (0x15, 0x25, 0x35):
            holds = {0x15: accumulator == k, 0x25: accumulator > k, 0x35: accumulator >= k}[code]
            at += if_true if holds else if_false
        elif code == 0x06:
            return k
        else:
            raise ValueError(f"instruction {at - 1}: code {code:#x}")


def tcpdump_filter(expression: str) -> list[Instruction]:
    """Let tcpdump compile an expression for Ethernet."""
    command = ["tcpdump", "-y", "EN10MB", "-ddd", expression]
    output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
    count, *lines = output.splitlines()
    program = [Instruction(*map(int, line.split())) for line in lines]
    assert len(program) == int(count)
    return program


def longest_match(entries: Iterable[Rule | Refusal], address: int) -> Rule | Verdict:
    """Look an address up in the plainest way there is.

    The longest prefix decides. Between entries for the same prefix: own before gateway before exclusion before
    rule before anycast; between rules, the one that knows the address to live here, then the later name. Each rule
    but a /128 makes its first address anycast.
    """
    entries = list(entries)
    anycast = [
        Refusal(IPv6Network(entry.prefix.network_address), Verdict.ANYCAST)
        for entry in entries
        if isinstance(entry, Rule) and entry.prefix.prefixlen != 128
    ]
    matching = [entry for entry in (*entries, *anycast) if IPv6Address(address) in entry.prefix]
    longest = max((entry.prefix.prefixlen for entry in matching), default=0)
    candidates = [entry for entry in matching if entry.prefix.prefixlen == longest]
    refused = {entry.verdict for entry in candidates if isinstance(entry, Refusal)}
    for verdict in (Verdict.OWN_ADDRESS, Verdict.GATEWAY, Verdict.EXCLUDED):
        if verdict in refused:
            return verdict
    rules = [entry for entry in candidates if isinstance(entry, Rule)]
    if rules:
        return max(rules, key=lambda rule: (rule.lives_here, rule.source))
    return Verdict.ANYCAST if refused else Verdict.NOT_CONFIGURED
