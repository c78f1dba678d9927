"""The metrics of a daemon that answers, as Prometheus gets them: over HTTP, inside the namespace."""

import socket
import time
from contextlib import ExitStack
from pathlib import Path
from signal import SIGHUP

from lab import Program, wait_until
from prometheus_client.parser import text_string_to_metric_families
from vectors import TARGET, advertise, solicit
from wire import PREFIX, Wire, event, events

PORT = 9108
LOOPBACK = "[::1]:9108"
ETH0 = f'[[interface]]\nifname = "eth0"\nsubnet = "{PREFIX}"\n'
IN_USE = (
    "cannot listen for Prometheus on 127.0.0.1:9108: Address already in use; "
    "give metrics an address of this host and a port that nobody uses"
)
Samples = dict[tuple[str, str], float]


def connect(wire: Wire, host: str = "::1", port: int = PORT) -> socket.socket:
    """Return a connection from ndpresponder's own host."""
    with wire.host.entered():
        return socket.create_connection((host, port), 5)


def fetch(wire: Wire, request: str, host: str = "::1", port: int = PORT) -> tuple[str, dict[str, str], str]:
    """Send a request and return the status line, the fields by their names, and the body of what is replied."""
    with connect(wire, host, port) as connection:
        connection.sendall(request.encode())
        with connection.makefile("rb") as file:
            head, _, body = file.read().decode().partition("\r\n\r\n")
    status, *fields = head.split("\r\n")
    return status, dict(field.split(": ", 1) for field in fields), body


def scrape(wire: Wire, host: str = "::1", port: int = PORT) -> Samples:
    """Return this program's samples, by their names and the values of their labels."""
    status, _, body = fetch(wire, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", host, port)
    assert status == "HTTP/1.1 200 OK"
    return {
        (sample.name, " ".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(body)
        for sample in family.samples
        if family.name.startswith("ndpresponder")
    }


def counted(wire: Wire, answers: int) -> Samples:
    """Return the samples once they count this many answers: each is sent first and counted then."""
    wait_until(lambda: scrape(wire)["ndpresponder_advertisements_total", "eth0 static"] == answers, "the last count")
    return scrape(wire)


def of(samples: Samples, *names: str) -> list[float]:
    """Return what these samples of eth0 are, of which each is the only one."""
    return [samples[f"ndpresponder_{name}", "eth0"] for name in names]


def test_what_is_answered_refused_and_dropped(wire: Wire) -> None:
    program = wire.answering("-n", f"{PREFIX},2001:db8:1::5", "--metrics", LOOPBACK)
    assert event(program, "metrics")["message"] == "metrics are at http://[::1]:9108/metrics"
    frame = bytes(solicit(TARGET))
    wire.send(frame[:57] + bytes([frame[57] ^ 1]) + frame[58:])
    wire.ask(TARGET, TARGET)

    samples = counted(wire, 2)

    names = "interface_up", "solicitations_total", "multicast_answered_total", "dropped_total"
    assert of(samples, *names) == [1, 3, 2, 0]
    assert samples["ndpresponder_advertisements_total", "eth0 static"] == 2
    assert abs(time.time() - of(samples, "last_answer_timestamp_seconds")[0]) < 5
    refused = {labels: value for (name, labels), value in samples.items() if name == "ndpresponder_refused_total"}
    assert {labels for labels, value in refused.items() if value} == {"eth0 checksum"}
    assert samples["ndpresponder_addresses", "eth0 static"] == 65536
    assert of(samples, "filter_instructions", "multicast_groups") == [event(program, "ready")["instructions"], 1]
    assert program.stop() == 0


def test_counters_go_on_when_the_interface_is_made_again(wire: Wire) -> None:
    program = wire.answering("-n", PREFIX, "--metrics", LOOPBACK)
    wire.ask(TARGET)
    wire.unplug()
    event(program, "waiting")
    gone = scrape(wire)
    assert of(gone, "interface_up", "solicitations_total") == [0, 1]
    assert ("ndpresponder_filter_instructions", "eth0") not in gone

    wire.plug()
    event(program, "ready", 2)
    wire.ask(TARGET)

    assert of(counted(wire, 2), "interface_up", "solicitations_total") == [1, 2]
    assert program.stop() == 0
    assert events(program)[-1]["message"] == "stopped: answered 2"


def test_it_is_for_scraping_and_nothing_else(wire: Wire) -> None:
    program = wire.answering("-n", PREFIX, "--metrics", LOOPBACK)

    def reply(request: str) -> tuple[str, dict[str, str], str]:
        return fetch(wire, f"{request}\r\n\r\n")

    assert reply("GET / HTTP/1.1")[::2] == ("HTTP/1.1 404 Not Found", "metrics are at /metrics\n")
    assert reply("POST /metrics HTTP/1.1") == (
        "HTTP/1.1 405 Method Not Allowed",
        {
            "Allow": "GET, HEAD",
            "Content-Type": "text/plain; charset=utf-8",
            "Content-Length": "0",
            "Connection": "close",
        },
        "",
    )
    assert reply("GET /metrics")[0] == "HTTP/1.1 400 Bad Request"
    assert reply("\0\xff")[0] == "HTTP/1.1 400 Bad Request"
    status, fields, body = reply("HEAD /metrics?name=value HTTP/1.0")
    assert (status, fields["Connection"], body) == ("HTTP/1.1 200 OK", "close", "")
    assert int(fields["Content-Length"]) > 1000
    # What Prometheus itself asks for first.
    asked = "GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5"
    _, fields, body = reply(asked)
    assert fields["Content-Type"].startswith("application/openmetrics-text; version=")
    assert body.endswith("\n# EOF\n")
    assert program.stop() == 0


def test_a_port_in_use(wire: Wire) -> None:
    with wire.host.entered():
        taken = socket.create_server(("127.0.0.1", PORT))
    with taken:
        program = wire.start("-i", "eth0", "-n", PREFIX, "--metrics", "127.0.0.1:9108")
        assert program.wait() == 1
    [line] = events(program)
    assert (line["event"], line["message"]) == ("failed", IN_USE)


def test_who_scrapes_slowly_or_without_end_is_no_harm(wire: Wire) -> None:
    program = wire.answering("-n", PREFIX, "--metrics", LOOPBACK)
    with ExitStack() as undo:
        for _ in range(12):
            undo.enter_context(connect(wire)).sendall(b"GET /metrics HTTP/1.1\r\n")
        begun = time.monotonic()
        # While all places are taken there are answers as always, and no more descriptors than places.
        assert wire.ask(TARGET) == [advertise()]
        assert time.monotonic() - begun < 0.5
        assert descriptors(program) < 30
        # A whole request waits in the kernel until the slow ones have had their two seconds.
        assert of(scrape(wire), "solicitations_total") == [1]
        assert 1 < time.monotonic() - begun < 4
    # What is no request at all.
    with connect(wire) as endless:
        endless.sendall(b"G" * 8193)
        assert endless.recv(1) == b""
    assert program.stop() == 0


def descriptors(program: Program) -> int:
    return len(list(Path(f"/proc/{program.process.pid}/fd").iterdir()))


# Reloading


def test_a_reload_moves_it_and_keeps_the_counts(wire: Wire, tmp_path: Path) -> None:
    path = tmp_path / "f.toml"
    here = 'metrics = "[::1]:9108"\n'
    path.write_text(here + ETH0)
    program = wire.start("--config", str(path))
    event(program, "ready")
    wire.ask(TARGET)
    assert ("ndpresponder_reload_success", "") not in scrape(wire)

    def reload(text: str) -> str:
        path.write_text(text)
        before = len(events(program, "reloaded", "not-reloaded"))
        program.process.send_signal(SIGHUP)
        wait_until(lambda: len(events(program, "reloaded", "not-reloaded")) > before, "a reload")
        message: str = events(program, "reloaded", "not-reloaded")[-1]["message"]
        return message

    # To another address; the one before is given up.
    reload('metrics = "127.0.0.1:9109"\n' + ETH0)
    assert scrape(wire, "127.0.0.1", 9109)["ndpresponder_reload_success", ""] == 1
    assert is_refused(wire)
    # What cannot be had changes nothing.
    with taken(wire):
        told = reload(here + ETH0.replace("eth0", "eth7"))
    assert told == f"not reloaded, going on as before: {IN_USE.replace('127.0.0.1', '[::1]')}"
    samples = scrape(wire, "127.0.0.1", 9109)
    assert (samples["ndpresponder_reload_success", ""], *of(samples, "solicitations_total")) == (0, 1)
    # A prefix that goes, and comes back.
    elsewhere = ETH0.replace(PREFIX, "2001:db8:1::/112")
    for subnet in (elsewhere, ETH0):
        reload('metrics = "127.0.0.1:9109"\n' + subnet)
        assert scrape(wire, "127.0.0.1", 9109)["ndpresponder_advertisements_total", "eth0 static"] == 1
    # An interface.
    reload(here + ETH0.replace("eth0", "eth7"))
    assert {labels for name, labels in scrape(wire) if name == "ndpresponder_interface_up"} == {"eth7"}
    reload(here + ETH0)
    event(program, "ready", 2)
    wire.ask(TARGET)
    samples = counted(wire, 2)
    assert (samples["ndpresponder_advertisements_total", "eth0 static"], *of(samples, "solicitations_total")) == (2, 2)

    reload(ETH0)
    wait_until(lambda: is_refused(wire), "an end")
    assert program.stop() == 0
    assert events(program)[-1]["message"] == "stopped: answered 2"


def taken(wire: Wire) -> socket.socket:
    """Take the port on ndpresponder's host."""
    with wire.host.entered():
        return socket.create_server(("::1", PORT), family=socket.AF_INET6)


def is_refused(wire: Wire) -> bool:
    try:
        connect(wire).close()
    except ConnectionRefusedError:
        return True
    return False
