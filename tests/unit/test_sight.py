"""Sightings: how they are kept, and what becomes of them: tcpdump's wording, a pcap file, JSON and back."""

import json
import re
import subprocess
from pathlib import Path
from shutil import which

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.utils import PcapReader
from vectors import ROWS, TARGET, Row, advertise, solicit

from ndpresponder.sight import PCAP_HEADER, Sighting, Watch, document, lines, read, records
from ndpresponder.verdict import Verdict

AT = 1_700_000_000.123456
SOLICITED, ADVERTISED = bytes(solicit()), advertise()
WHO_HAS = f"IP6 fe80::fe > ff02::1:ff00:d003: ICMP6, neighbor solicitation, who has {TARGET}, length 32"
TARGET_IS = f"IP6 {TARGET} > fe80::fe: ICMP6, neighbor advertisement, tgt is {TARGET}, length 32"
# What is no whole solicitation has no wording of tcpdump's, which has many for it.
PLAIN = re.compile(r"IP6 \S+ > \S+: ICMP6, neighbor solicitation, who has \S+, length \d+")
NO_WORDING = re.compile(r"frame of \d+ octets")


def wording(sighting: Sighting) -> list[str]:
    """Return the lines of a sighting without the time of day, which depends on where this runs."""
    return [re.sub(r"^\d\d:\d\d:\d\d\.", "", line) for line in lines(sighting)]


@pytest.mark.parametrize(
    ("sighting", "expected"),
    [
        (
            Sighting(AT, "eth0", SOLICITED, ADVERTISED),
            [f"123456 eth0  In  {WHO_HAS}", f"123456 eth0  Out {TARGET_IS}"],
        ),
        (
            Sighting(AT, "enp1s0", SOLICITED, ADVERTISED, "ENOBUFS"),
            [f"123456 enp1s0 In  {WHO_HAS}", f"123456 enp1s0 Out {TARGET_IS} -- not sent: ENOBUFS"],
        ),
        (
            Sighting(AT, "eth0", SOLICITED, Verdict.EXCLUDED),
            [f"123456 eth0  In  {WHO_HAS} -- refused: excluded"],
        ),
        (
            Sighting(AT, "eth0", SOLICITED[:80], Verdict.TRUNCATED),
            ["123456 eth0  In  frame of 80 octets -- refused: truncated"],
        ),
    ],
)
def test_lines_for_people(sighting: Sighting, expected: list[str]) -> None:
    assert wording(sighting) == expected


def sightings(rows: tuple[Row, ...]) -> list[Sighting]:
    # tcpdump takes a frame of no octets for an error in the file.
    return [Sighting(AT, "eth0", row.frame, row.outcome) for row in rows if row.frame]


@pytest.fixture
def pcap(tmp_path: Path) -> Path:
    """A file with all frames of the table, and their answers."""
    path = tmp_path / "f.pcap"
    path.write_bytes(PCAP_HEADER + b"".join(map(records, sightings(ROWS))))
    return path


@pytest.mark.skipif(which("tcpdump") is None, reason="no tcpdump")
def test_the_wording_is_that_of_tcpdump(pcap: Path) -> None:
    command = ["tcpdump", "-n", "-t", "-r", str(pcap)]
    witness = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.splitlines()

    ours = [line for sighting in sightings(ROWS) for line in wording(sighting)]
    assert len(ours) == len(witness)
    worded = 0
    for our, theirs in zip(ours, witness, strict=True):
        told = our.removeprefix("123456 eth0  ")[4:].partition(" -- ")[0]
        if NO_WORDING.fullmatch(told):
            # Then it is no plain solicitation to tcpdump either, which passes over a VLAN tag.
            assert not PLAIN.fullmatch(theirs) or our.endswith("refused: not-ipv6")
        else:
            assert told == theirs
            worded += 1
    assert worded > 60


def test_the_file_is_read_by_others(pcap: Path) -> None:
    expected = [
        frame
        for each in sightings(ROWS)
        for frame in (each.frame, *([each.answer] if isinstance(each.answer, bytes) else []))
    ]
    with PcapReader(str(pcap)) as reader:
        found = list(reader)
    assert [bytes(packet) for packet in found] == expected
    assert {float(packet.time) for packet in found} == {AT}
    assert {type(packet).__name__ for packet in found if len(packet) == 86} == {"Ether"}


def test_what_was_not_sent_is_not_in_the_file() -> None:
    assert records(Sighting(AT, "eth0", SOLICITED, ADVERTISED, "ENOBUFS")) == records(
        Sighting(AT, "eth0", SOLICITED, Verdict.EXCLUDED)
    )


def test_a_time_at_the_end_of_a_second() -> None:
    assert records(Sighting(1.9999999, "eth0", b"", Verdict.TRUNCATED))[:8] == bytes([2, 0, 0, 0, 0, 0, 0, 0])


TIMES = st.integers(0, 2**32 * 10**6).map(lambda microseconds: round(microseconds / 1e6, 6))
FRAMES = st.binary(max_size=200) | st.sampled_from([row.frame for row in ROWS])
SIGHTINGS = st.builds(Sighting, TIMES, st.text(min_size=1), FRAMES, st.sampled_from(Verdict), st.just("")) | st.builds(
    Sighting, TIMES, st.text(min_size=1), FRAMES, FRAMES, st.sampled_from(["", "ENOBUFS"])
)


@given(SIGHTINGS)
def test_a_sighting_survives_the_way_to_who_watches(sighting: Sighting) -> None:
    assert read(json.loads(json.dumps(document(sighting)))) == sighting
    # And any bytes have a line of their own for each frame.
    assert len(lines(sighting)) == (1 if isinstance(sighting.answer, Verdict) else 2)
    assert not any("\n" in line.replace(sighting.interface, "") for line in lines(sighting))


def test_what_is_told_for_programs() -> None:
    told = {"time": AT, "interface": "eth0", "frame": SOLICITED.hex()}
    answered = told | {"answer": ADVERTISED.hex()}
    assert document(Sighting(AT, "eth0", SOLICITED, ADVERTISED)) == answered | {"verdict": "answered"}
    assert document(Sighting(AT, "eth0", SOLICITED, ADVERTISED, "EAGAIN")) == answered | {
        "verdict": "unsent",
        "reason": "EAGAIN",
    }
    assert document(Sighting(AT, "eth0", SOLICITED, Verdict.GATEWAY)) == told | {
        "verdict": "refused",
        "reason": "gateway",
    }


def test_nobody_waits_for_who_watches() -> None:
    watch = Watch()
    assert watch.take() == ([], 0)
    for number in range(1100):
        watch.see("eth0", number.to_bytes(2), Verdict.OPTIONS, "")

    taken, lost = watch.take()
    assert [each.frame for each in taken] == [number.to_bytes(2) for number in range(200)]
    assert lost == 1100 - 1024
    # There is room again, and what was lost is told once.
    watch.see("eth0", b"more", Verdict.OPTIONS, "")
    rest: list[Sighting] = []
    for _ in range(5):
        more, lost = watch.take()
        rest += more
        assert lost == 0
    assert [each.frame for each in rest] == [*(number.to_bytes(2) for number in range(200, 1024)), b"more"]
