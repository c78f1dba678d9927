"""The Watcher against an engine that is none, in both dialects: what it knows after what has happened there.

Its times are short here; those that a test is not about are so long that they cannot be what helped.
"""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import IPv6Address
from pathlib import Path
from threading import Condition
from threading import enumerate as all_threads
from typing import Literal, Protocol

import pytest
from fake_engine import Engine, Reply
from lab import wait_until

from ndpresponder.containers import Held, Network, State
from ndpresponder.docker import Timing, Watcher

# The SDK leaves a socket that could not connect to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

NEVER = 1000.0
# What is tested is not whether this is quick.
PATIENCE = 10.0
FIRST, SECOND = "2001:db8::2", "2001:db8::3"


class Follower:
    """Takes what a Watcher hands over."""

    def __init__(self) -> None:
        self.states = [State()]
        self._changed = Condition()

    def take(self, state: State) -> None:
        with self._changed:
            self.states.append(state)
            self._changed.notify_all()

    def wait(self, condition: Callable[[State], bool]) -> State:
        """Wait until the last state is such."""
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self.states[-1]), PATIENCE), self.states[-1]
            return self.states[-1]

    def wait_for(self, *addresses: str, network: str = "web") -> State:
        """Wait until it is known that just these addresses are held, and that all is well."""
        expected = State({network: Network(Held(frozenset(map(IPv6Address, addresses))))})
        return self.wait(lambda state: state == expected)


class Follow(Protocol):
    """Makes a Watcher with these times follow networks of an engine."""

    def __call__(self, engine: Engine, *names: str, **times: float) -> Follower: ...


@pytest.fixture(params=["docker", "podman"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """A running engine with the network web, on which the container first runs."""
    dialect: Literal["docker", "podman"] = request.param
    with Engine(tmp_path / "docker.sock", dialect) as engine:
        engine.create("web")
        engine.hold("web", {"first": FIRST})
        yield engine


@pytest.fixture
def follow(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Follow]:
    """What makes a Watcher follow networks, by default web; its threads end with the test."""
    with ExitStack() as undo:

        def watch(engine: Engine, *names: str, **times: float) -> Follower:
            monkeypatch.setenv("DOCKER_HOST", engine.host)
            follower = Follower()
            quick = {"retry": 0.01, "longest_retry": 0.02, "resync": NEVER, "silence": NEVER, "settle": 0.001}
            timing = Timing(**{**quick, **times})
            watcher = Watcher(dict.fromkeys(names or ("web",), False), follower.take, timing=timing)
            undo.callback(watcher.stop)
            watcher.start()
            return follower

        yield watch
    engine.stop()
    wait_until(lambda: not any(thread.name.startswith("docker") for thread in all_threads()), "the threads' end")
    gc.collect()


def test_containers_come_and_go(engine: Engine, follow: Follow) -> None:
    follower = follow(engine)
    follower.wait_for(FIRST)
    engine.run("web", "second", SECOND)
    follower.wait_for(FIRST, SECOND)
    engine.run("web", "third", "")
    engine.halt("web", "first")
    follower.wait_for(SECOND)


def test_a_running_container_is_connected(engine: Engine, follow: Follow) -> None:
    follower = follow(engine)
    follower.wait_for(FIRST)
    engine.connect("web", "second", SECOND)
    follower.wait_for(FIRST, SECOND)


def test_nothing_new_is_handed_over_once(engine: Engine, follow: Follow) -> None:
    follower = follow(engine)
    follower.wait_for(FIRST)
    engine.run("web", "second", "")
    engine.wait_for_looks(engine.looks + 2)
    engine.run("web", "third", SECOND)
    follower.wait_for(FIRST, SECOND)
    assert len(follower.states) == 3


def test_a_network_that_is_made_later(engine: Engine, follow: Follow) -> None:
    follower = follow(engine, "mail")
    assert follower.wait(lambda state: "mail" in state.networks) == State({"mail": Network(None)})
    engine.create("mail")
    follower.wait_for(network="mail")
    engine.run("mail", "first", FIRST)
    follower.wait_for(FIRST, network="mail")


def test_a_network_that_is_removed_and_made_again(engine: Engine, follow: Follow) -> None:
    follower = follow(engine)
    follower.wait_for(FIRST)
    before = engine.networks["web"]["Id"]
    engine.remove("web")
    follower.wait(lambda state: state == State({"web": Network(None)}))
    engine.create("web")
    engine.run("web", "second", SECOND)
    follower.wait_for(SECOND)
    assert engine.networks["web"]["Id"] != before


def test_the_beginning_of_an_id_is_no_name(engine: Engine, follow: Follow) -> None:
    engine.instead["we"] = engine.inspect("web")
    follower = follow(engine, "we")
    assert follower.wait(lambda state: "we" in state.networks) == State({"we": Network(None)})


def test_several_networks(engine: Engine, follow: Follow) -> None:
    engine.create("mail")
    engine.hold("mail", {"second": SECOND})
    follower = follow(engine, "web", "mail", "absent")
    state = follower.wait(lambda state: len(state.networks) == 3)
    assert [network.held and network.held.addresses for network in state.networks.values()] == [
        {IPv6Address(FIRST)},
        {IPv6Address(SECOND)},
        None,
    ]


@pytest.mark.parametrize("killed", [False, True])
def test_an_engine_that_is_away(engine: Engine, follow: Follow, *, killed: bool) -> None:
    follower = follow(engine)
    known = follower.wait_for(FIRST)
    engine.stop(killed=killed)
    reason = f"nobody listens on {engine.path}" if killed else f"no socket at {engine.path}"
    state = follower.wait(lambda state: state.obstacle.startswith(reason))
    assert state.networks == known.networks

    engine.hold("web", {"second": SECOND})
    engine.start()
    follower.wait_for(FIRST, SECOND)
    engine.run("web", "third", "2001:db8::4")
    follower.wait_for(FIRST, SECOND, "2001:db8::4")


def test_an_engine_that_comes_late(engine: Engine, follow: Follow) -> None:
    engine.stop()
    follower = follow(engine)
    assert follower.wait(lambda state: state.obstacle != "").networks == {}
    engine.start()
    follower.wait_for(FIRST)


def test_an_engine_that_was_upgraded(engine: Engine, follow: Follow) -> None:
    follower = follow(engine)
    follower.wait_for(FIRST)
    engine.wait_for_subscriptions(1)
    # As where systemd keeps the socket: it is always listened on.
    engine.versions = (44, 51)
    engine.hang_up()
    engine.wait_for_subscriptions(2)
    engine.run("web", "second", SECOND)
    follower.wait_for(FIRST, SECOND)
    assert not any(state.deaf for state in follower.states)


def test_connections_that_break(engine: Engine, follow: Follow) -> None:
    follower = follow(engine)
    follower.wait_for(FIRST)
    for number in range(3):
        engine.wait_for_subscriptions(number + 1)
        engine.hang_up()
    engine.wait_for_subscriptions(4)
    engine.run("web", "second", SECOND)
    follower.wait_for(FIRST, SECOND)


def test_a_stream_that_has_died_silently_is_opened_anew(engine: Engine, follow: Follow) -> None:
    engine.mute = True
    follower = follow(engine, silence=0.3)
    follower.wait_for(FIRST)
    engine.run("web", "second", SECOND)
    engine.wait_for_subscriptions(2)
    follower.wait_for(FIRST, SECOND)


def test_what_no_event_told_is_seen_all_the_same(engine: Engine, follow: Follow) -> None:
    engine.mute = True
    follower = follow(engine, resync=0.2)
    follower.wait_for(FIRST)
    engine.run("web", "second", SECOND)
    follower.wait_for(FIRST, SECOND)
    assert engine.subscriptions == 1


@pytest.mark.parametrize("octets", [b"nonsense", b"\xff\x00", b"[]\n", b'{"Type": 5}\n', b"{" * 100_000], ids=len)
def test_whatever_an_event_says(engine: Engine, follow: Follow, octets: bytes) -> None:
    follower = follow(engine)
    follower.wait_for(FIRST)
    engine.hold("web", {"second": SECOND})
    engine.say(octets)
    follower.wait_for(FIRST, SECOND)
    assert engine.subscriptions == 1


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply.of({"message": "network web is ambiguous"}, 400), "network web is ambiguous"),
        (Reply.of({"message": "not allowed\nhere"}, 403), "not allowed here"),
        (Reply.of({"message": "broken"}, 500), "broken"),
        (Reply.of({"message": "\x1b[2J\x9bgone\u202e\ud800"}, 500), "\ufffd[2J\ufffdgone\ufffd\ufffd"),
        (Reply.of([]), "the engine's answer is no network"),
        (Reply.of({"Name": "web", "Containers": [FIRST]}), "the engine's answer is no network"),
        (Reply(200, b"<html>"), "Expecting value: line 1 column 1 (char 0)"),
        (Reply(200, b""), "Expecting value: line 1 column 1 (char 0)"),
    ],
    ids=["ambiguous", "forbidden", "broken", "controls", "list", "containers", "html", "empty"],
)
def test_a_network_that_cannot_be_read_stays_as_it_was(
    engine: Engine, follow: Follow, reply: Reply, reason: str
) -> None:
    follower = follow(engine)
    follower.wait_for(FIRST)
    engine.instead["web"] = reply
    engine.run("web", "second", SECOND)
    held = Held(frozenset({IPv6Address(FIRST)}))
    assert follower.wait(lambda state: state.networks["web"].obstacle != "") == State({"web": Network(held, reason)})

    del engine.instead["web"]
    engine.run("web", "third", "")
    follower.wait_for(FIRST, SECOND)


def test_an_obstacle_that_comes_and_goes_is_told_now_and_then(engine: Engine, follow: Follow) -> None:
    follower = follow(engine, calm=1.0, echo=0.01)
    follower.wait_for(FIRST)
    begun, count = time.monotonic(), 0
    while time.monotonic() - begun < 2.5:
        for text in (f"request {count} failed", f"request {count + 1} failed"):
            engine.instead["web"] = Reply.of({"message": text}, 500)
            engine.say(b"{}\n")
            engine.wait_for_looks(engine.looks + 2)
        del engine.instead["web"]
        engine.hold("web", {"last": f"2001:db8::1:{count:x}"})
        engine.say(b"{}\n")
        follower.wait_for(FIRST, f"2001:db8::1:{count:x}")
        count += 1
    # In the order in which they were handed over.
    obstacles = dict.fromkeys(state.networks["web"].obstacle for state in follower.states if state.networks)
    assert list(obstacles)[:2] == ["", "request 0 failed"]
    assert 3 <= len(obstacles) <= 4 < count


def test_an_obstacle_that_stays_is_told_in_the_end(engine: Engine, follow: Follow) -> None:
    follower = follow(engine, calm=0.5, resync=0.05)
    follower.wait_for(FIRST)
    for _ in range(2):
        engine.instead["web"] = Reply.of({"message": "broken"}, 500)
        follower.wait(lambda state: state.networks["web"].obstacle == "broken")
        del engine.instead["web"]
        follower.wait_for(FIRST)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(200, b" " * 1000, pause=0.05), "no reply from {}"),
        (Reply(200, b" " * (17 << 20)), "the engine's answer to /networks/web is longer than 16 MiB"),
        (Reply(500, b"x" * (17 << 20)), "the engine's answer to /networks/web is longer than 16 MiB"),
    ],
    ids=["dripping", "long", "long-refusal"],
)
def test_a_reply_without_end(engine: Engine, follow: Follow, reply: Reply, reason: str) -> None:
    follower = follow(engine, reply=0.5)
    known = follower.wait_for(FIRST)
    engine.instead["web"] = reply
    engine.run("web", "second", SECOND)
    state = follower.wait(lambda state: state.obstacle != "")
    assert (state.obstacle, state.networks) == (reason.format(engine.path), known.networks)

    del engine.instead["web"]
    follower.wait_for(FIRST, SECOND)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(200, b" " * 1000, pause=0.05), "no reply from {}"),
        (Reply(200, b" " * (17 << 20)), "the engine's answer to /version is longer than 16 MiB"),
        (Reply.of({"message": "not allowed"}, 403), "not allowed"),
        (Reply.of({"message": "page not found"}, 404), "the engine tells no version of its API"),
        (Reply.of({"Version": "29"}), "the engine tells no version of its API"),
        (Reply.of({"ApiVersion": 1.51}), "the engine tells no version of its API"),
        (Reply.of([]), "the engine tells no version of its API"),
        (Reply(200, b"<html>"), "Expecting value: line 1 column 1 (char 0)"),
    ],
    ids=["dripping", "long", "forbidden", "not-there", "missing", "number", "list", "html"],
)
def test_an_engine_without_a_version(engine: Engine, follow: Follow, reply: Reply, reason: str) -> None:
    engine.instead["version"] = reply
    follower = follow(engine, reply=0.5)
    assert follower.wait(lambda state: state.obstacle != "") == State(obstacle=reason.format(engine.path))

    del engine.instead["version"]
    follower.wait_for(FIRST)


def test_one_network_that_cannot_be_read_does_not_hide_another(engine: Engine, follow: Follow) -> None:
    engine.instead["mail"] = Reply.of({"message": "broken"}, 500)
    follower = follow(engine, "mail", "web")
    state = follower.wait(lambda state: len(state.networks) == 2)
    assert state.networks["mail"] == Network(None, "broken")
    assert state.networks["web"] == Network(Held(frozenset({IPv6Address(FIRST)})))


def test_an_engine_that_does_not_tell_of_events(engine: Engine, follow: Follow) -> None:
    engine.instead["events"] = Reply.of({"message": "forbidden"}, 403)
    follower = follow(engine)
    assert follower.wait(lambda state: state.deaf != "").deaf == "403 Forbidden"
    engine.run("web", "second", SECOND)
    follower.wait(lambda state: state.networks["web"] == Network(held_of(FIRST, SECOND)))
    del engine.instead["events"]
    follower.wait_for(FIRST, SECOND)


def held_of(*addresses: str) -> Held:
    return Held(frozenset(map(IPv6Address, addresses)))


def test_the_headers_of_dockers_own_configuration(
    engine: Engine, follow: Follow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (tmp_path / "config.json").write_text('{"HttpHeaders": {"X-Tag": "5"}}')
    engine.tag = "5"
    follower = follow(engine)
    follower.wait_for(FIRST)
    engine.wait_for_subscriptions(1)


def test_a_storm_of_events_leads_to_few_looks(engine: Engine, follow: Follow) -> None:
    follower = follow(engine, settle=0.1)
    follower.wait_for(FIRST)
    engine.wait_for_subscriptions(1)
    looks, begun = engine.looks, time.monotonic()
    for number in range(2000):
        engine.run("web", f"many{number}", f"2001:db8::1:{number:x}")
    follower.wait_for(FIRST, *(f"2001:db8::1:{number:x}" for number in range(2000)))
    # Before each of them there is a pause; and a few for the two streams, and what was under way.
    assert engine.looks - looks <= (time.monotonic() - begun) / 0.1 + 3


def test_five_thousand_containers(engine: Engine, follow: Follow) -> None:
    many = [f"2001:db8::1:{number:x}" for number in range(5000)]
    engine.hold("web", {f"many{number}": address for number, address in enumerate(many)})
    follower = follow(engine)
    follower.wait_for(FIRST, *many)
    engine.run("web", "last", SECOND)
    follower.wait_for(FIRST, SECOND, *many)
