"""What the router sees while containers, networks and the engine itself come and go.

How soon and how completely is measured on the router's side of the anti-spoofing rule, from the moment at which the
engine says that it has done what it was asked for.
"""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from ipaddress import IPv6Network
from signal import SIGKILL
from statistics import median

import pytest
from dockerd import EXPOSED, ONLY_IPV4, OTHER, Engine, how_dockerd_ends
from lab import VPS_MAC, Lab, Printing, Program, ping, wait_until
from sidecar import Sidecar, on_the_host_and_as_a_sidecar
from solicitor import Solicitor
from wire import SNAPSHOTS, event, events

Start = Callable[..., Printing]
Record = Callable[..., None]

ANSWERED_WITHIN = 0.2
SILENT_WITHIN = 1.0
"""In seconds, after the container's start and its stop."""
ROUNDS = 10
CROWD, MANY = 12, 200

LASTING, CHANGING, THIRD = (EXPOSED.address(number) for number in (0x10, 0x11, 0x12))
NOBODYS_MAC = "52:54:00:00:00:99"
GATEWAY, NOBODY = EXPOSED.address(1), EXPOSED.address(0xFFFF)


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Record:
    """Have the summary of the test run show what was measured, in seconds, and its median."""

    def recorded(what: str, *seconds: float) -> None:
        least, middle, most = (round(1000 * each(seconds)) for each in (min, median, max))
        spread = f" ({least} to {most} ms, {len(seconds)} times)" if len(seconds) > 1 else ""
        request.node.user_properties.append((what, f"{middle} ms{spread}"))

    return recorded


def assert_answered_exactly(solicitor: Solicitor, *addresses: str, silent: tuple[str, ...]) -> None:
    """Assert that the router gets an answer for each of some addresses, and none for others."""
    solicitor.follow(*addresses, *silent)
    wait_until(lambda: all(solicitor.is_silent(each) for each in silent), f"silence about {silent}")

    assert {each: bool(solicitor.times(each).answered) for each in addresses} == dict.fromkeys(addresses, True)
    assert [each for each in silent if solicitor.times(each).answered] == []


def assert_all_are_answered(lab: Lab, daemon: Printing, addresses: list[str], record: Record) -> None:
    """Assert that a daemon that has just been started answers for all of these addresses soon, and then always."""
    with Solicitor(lab, *addresses, interval=0.1) as solicitor:
        daemon.wait_for('"event": "ready"', timeout=20)
        ready = time.monotonic()
        to_answer = [solicitor.first_answer(address) - ready for address in addresses]
        solicitor.follow(*addresses)
        wait_until(lambda: len(solicitor.times(addresses[-1]).asked) > 10, "ten solicitations for each")
        lost = solicitor.lost()

    record(*to_answer)
    assert max(to_answer) < 3
    assert lost == {}
    assert [line for line in events(daemon) if line["level"] != "info"] == []


def assert_followed(lab: Lab, record: Record, **changes: Callable[[], None]) -> None:
    """Let CHANGING come and go, by two changes; assert that this shows soon, and never in the answers for LASTING."""
    (coming, come), (going, go) = changes.items()
    to_answer, to_silence = [], []
    with Solicitor(lab, LASTING) as lasting, Solicitor(lab, CHANGING) as changing:
        lasting.first_answer(LASTING)
        lasting.follow(LASTING)
        for _ in range(ROUNDS):
            changing.follow(CHANGING)
            come()
            came = time.monotonic()
            to_answer.append(changing.first_answer(CHANGING) - came)
            go()
            went = time.monotonic()
            to_silence.append(changing.last_answer(CHANGING) - went)
        lost = lasting.lost()

    record(f"from {coming} to answer", *to_answer)
    record(f"from {going} to silence", *to_silence)
    assert max(to_answer) < ANSWERED_WITHIN
    assert max(to_silence) < SILENT_WITHIN
    assert lost == {}


def remember_elsewhere(lab: Lab, address: str, state: str) -> None:
    """Let the router know an address from where it lived before."""
    lab.router.ip(f"neighbor replace {address} lladdr {NOBODYS_MAC} nud {state} dev lan")


def points_here(lab: Lab, address: str) -> bool:
    """Whether the router knows that an address is at the vps."""
    return lab.router_neighbor(address).get("lladdr") == VPS_MAC


# Containers


@on_the_host_and_as_a_sidecar
def test_containers_that_are_there_at_the_start(lab: Lab, engine: Engine, start: Start) -> None:
    engine.create_network(OTHER)
    engine.create_network(ONLY_IPV4)
    for name, address in ("one", LASTING), ("two", CHANGING):
        engine.run(name, EXPOSED.name, address)
    engine.run("automatic", EXPOSED.name)
    engine.run("elsewhere", OTHER.name)
    engine.run("only-ipv4", ONLY_IPV4.name)
    engine.create("not-started", EXPOSED.name, THIRD)
    automatic, elsewhere = engine.address("automatic", EXPOSED.name), engine.address("elsewhere", OTHER.name)
    dropped = lab.dropped("advertisements")
    with Solicitor(lab, automatic) as solicitor:
        daemon = start("-N", EXPOSED.name, "-N", ONLY_IPV4.name)
        solicitor.first_answer(automatic)

        assert_answered_exactly(solicitor, LASTING, CHANGING, automatic, silent=(THIRD, elsewhere, GATEWAY, NOBODY))

    lab.forget()
    for address in LASTING, CHANGING, automatic:
        assert ping(lab.internet, address).received == 1
    assert lab.dropped("advertisements") == dropped
    assert [line for line in events(daemon) if line["level"] != "info"] == []


@on_the_host_and_as_a_sidecar
def test_a_container_that_starts_and_stops(lab: Lab, engine: Engine, start: Start, record: Record) -> None:
    engine.run("lasting", EXPOSED.name, LASTING)
    engine.create("changing", EXPOSED.name, CHANGING)
    start("-N", EXPOSED.name)
    assert_followed(lab, record, start=lambda: engine.start("changing"), stop=lambda: engine.stop("changing"))


@on_the_host_and_as_a_sidecar
def test_a_container_made_anew_with_the_same_address(lab: Lab, engine: Engine, start: Start, record: Record) -> None:
    engine.run("changing", EXPOSED.name, CHANGING)
    to_answer = []
    start("-N", EXPOSED.name)
    with Solicitor(lab, CHANGING) as changing:
        changing.first_answer(CHANGING)
        assert ping(lab.internet, CHANGING).received == 1
        for _ in range(ROUNDS):
            engine.remove("changing")
            changing.last_answer(CHANGING)
            changing.follow(CHANGING)
            engine.run("changing", EXPOSED.name, CHANGING)
            started = time.monotonic()
            to_answer.append(changing.first_answer(CHANGING) - started)
            assert ping(lab.internet, CHANGING).received == 1

    record("from start to answer", *to_answer)
    assert max(to_answer) < ANSWERED_WITHIN


@pytest.mark.parametrize("state", ["reachable", "stale", "failed"])
def test_an_address_that_the_router_knows_from_elsewhere(
    lab: Lab, engine: Engine, start: Start, record: Record, state: str
) -> None:
    engine.run("lasting", EXPOSED.name, LASTING)
    daemon = start("-N", EXPOSED.name)
    wait_until(lambda: points_here(lab, LASTING), "the router's entry for what was there")
    to_mend = []
    # The same one again would have to wait: none is announced twice within a second.
    for changing in (EXPOSED.address(number) for number in range(0x20, 0x25)):
        remember_elsewhere(lab, changing, state)
        engine.run("changing", EXPOSED.name, changing)
        started = time.monotonic()
        wait_until(partial(points_here, lab, changing), "the router's entry", 1)
        to_mend.append(time.monotonic() - started)
        assert ping(lab.internet, changing, wait=0.5).received == 1
        engine.remove("changing")
        wait_until(lambda: events(daemon, "network")[-1]["addresses"] == 1, "the address gone")

    record("from start to the router's knowing", *to_mend)
    assert max(to_mend) < ANSWERED_WITHIN


def test_what_the_router_knows_from_elsewhere_at_the_start(lab: Lab, engine: Engine, start: Start) -> None:
    engine.run("lasting", EXPOSED.name, LASTING)
    remember_elsewhere(lab, LASTING, "reachable")
    start("-N", EXPOSED.name)

    # Announced as soon as the first snapshot tells to whom.
    wait_until(lambda: points_here(lab, LASTING), "the router's entry", SNAPSHOTS)
    assert ping(lab.internet, LASTING, wait=0.5).received == 1


@on_the_host_and_as_a_sidecar
def test_a_container_that_is_connected_and_disconnected(lab: Lab, engine: Engine, start: Start, record: Record) -> None:
    engine.create_network(ONLY_IPV4)
    engine.run("lasting", EXPOSED.name, LASTING)
    engine.run("changing", ONLY_IPV4.name)
    daemon = start("-N", EXPOSED.name, "-N", ONLY_IPV4.name)
    assert_followed(
        lab,
        record,
        connect=lambda: engine.connect(EXPOSED.name, "changing", CHANGING),
        disconnect=lambda: engine.disconnect(EXPOSED.name, "changing"),
    )
    assert [line for line in events(daemon) if line["level"] != "info"] == []


def test_a_container_without_ipv6_on_a_network_that_has_it(lab: Lab, engine: Engine, start: Start) -> None:
    """What the engine says counts: older ones give it an address, newer ones do not."""
    engine.run("lasting", EXPOSED.name, LASTING)
    engine.run("without", EXPOSED.name, Sysctls={"net.ipv6.conf.all.disable_ipv6": "1"})
    address = engine.address("without", EXPOSED.name)
    daemon = start("-N", EXPOSED.name)
    with Solicitor(lab, LASTING) as solicitor:
        solicitor.first_answer(LASTING)

        assert_answered_exactly(solicitor, *filter(None, [LASTING, address]), silent=(THIRD, GATEWAY, NOBODY))

    assert [line for line in events(daemon) if line["level"] != "info"] == []


# The engine


@how_dockerd_ends
def test_no_answer_is_lost_while_dockerd_is_down(
    lab: Lab, engine: Engine, start: Start, record: Record, end: Callable[[Engine], None]
) -> None:
    for name, address in ("one", LASTING), ("two", THIRD):
        engine.run(name, EXPOSED.name, address)
    engine.create("changing", EXPOSED.name, CHANGING)
    start("-N", EXPOSED.name)
    with Solicitor(lab, LASTING, THIRD, interval=0.05) as lasting, Solicitor(lab, CHANGING) as changing:
        for address in LASTING, THIRD:
            lasting.first_answer(address)
        lasting.follow(LASTING, THIRD)

        end(engine)
        # Three seconds: more than one vain attempt to reach it.
        wait_until(lambda: len(lasting.times(LASTING).asked) > 60, "sixty solicitations")
        engine.start_engine()
        up = time.monotonic()
        engine.start("changing")
        found = changing.first_answer(CHANGING) - up
        asked = len(lasting.times(LASTING).asked)
        lost = lasting.lost()

    record("from dockerd's answering to a new container's answer", found)
    assert asked > 60
    assert lost == {}
    assert found < 10


def test_what_ends_while_dockerd_is_down_is_silent_after(
    lab: Lab, engine: Engine, start: Start, record: Record
) -> None:
    engine.run("lasting", EXPOSED.name, LASTING)
    engine.run("changing", EXPOSED.name, CHANGING)
    start("-N", EXPOSED.name)
    with Solicitor(lab, LASTING, CHANGING) as solicitor:
        for address in LASTING, CHANGING:
            solicitor.first_answer(address)
        process = engine.process("changing")
        engine.stop_engine()
        os.kill(process, SIGKILL)
        engine.start_engine()
        up = time.monotonic()
        silent = solicitor.last_answer(CHANGING) - up
        solicitor.follow(LASTING)
        wait_until(lambda: len(solicitor.times(LASTING).asked) > 20, "twenty solicitations")

        assert solicitor.lost() == {}

    record("from dockerd's answering to silence", silent)
    assert silent < 5


def test_dockerd_that_comes_after_ndpresponder(lab: Lab, engine: Engine, start: Start, record: Record) -> None:
    engine.run("lasting", EXPOSED.name, LASTING)
    engine.stop_engine()
    daemon = start("-N", EXPOSED.name)
    with Solicitor(lab, LASTING) as lasting:
        wait_until(lambda: lasting.is_silent(LASTING), "silence")
        event(daemon, "engine")
        engine.start_engine()
        up = time.monotonic()
        found = lasting.first_answer(LASTING) - up
        answered_before = [each for each in lasting.times(LASTING).answered if each < up]

    record("from dockerd's answering to answer", found)
    assert answered_before == []
    assert found < 5


@pytest.mark.usefixtures("running_engine")
def test_containers_that_end_and_come_back_with_dockerd(record: Record) -> None:
    """Without live-restore, which is Docker's default, and with a restart policy."""
    with Lab() as lab, Engine(lab.vps, live_restore=False) as engine:
        engine.create_network(EXPOSED)
        engine.run("one", EXPOSED.name, LASTING, RestartPolicy={"Name": "always"})
        lab.start(lab.vps, *engine.ndpresponder("-N", EXPOSED.name))
        with Solicitor(lab, LASTING, CHANGING) as solicitor:
            solicitor.first_answer(LASTING)
            # From an engine that ends, nobody hears who was not listening before.
            engine.run("two", EXPOSED.name, CHANGING)
            solicitor.first_answer(CHANGING)
            engine.stop_engine()
            stopped = time.monotonic()
            silent = solicitor.last_answer(LASTING) - stopped

            solicitor.follow(LASTING)
            engine.start_engine()
            up = time.monotonic()
            found = solicitor.first_answer(LASTING) - up
        assert ping(lab.internet, LASTING).received == 1

    record("from dockerd's end to silence", silent)
    record("from dockerd's answering to answer", found)
    assert silent < SILENT_WITHIN
    assert found < 5


# Networks


@on_the_host_and_as_a_sidecar
def test_a_network_that_comes_later_goes_and_is_made_anew(
    lab: Lab, engine: Engine, start: Start, record: Record
) -> None:
    engine.run("lasting", EXPOSED.name, LASTING)
    to_answer, to_silence = [], []
    start("-N", EXPOSED.name, "-N", OTHER.name)
    # Of one name, and with another id and other addresses each time.
    networks = [OTHER, OTHER, OTHER._replace(subnet=IPv6Network("2001:db8:1::e:3:0/112"))]
    with Solicitor(lab, LASTING) as lasting, Solicitor(lab) as changing:
        lasting.first_answer(LASTING)
        lasting.follow(LASTING)
        for network in networks:
            address = network.address(5)
            changing.follow(address)
            engine.create_network(network)
            engine.run("changing", network.name, address)
            started = time.monotonic()
            to_answer.append(changing.first_answer(address) - started)
            assert ping(lab.internet, address).received == 1

            engine.remove("changing")
            engine.remove_network(network.name)
            removed = time.monotonic()
            to_silence.append(changing.last_answer(address) - removed)
        lost = lasting.lost()

    record("from start to answer", *to_answer)
    record("from removal to silence", *to_silence)
    assert max(to_answer) < ANSWERED_WITHIN
    assert max(to_silence) < SILENT_WITHIN
    assert lost == {}


# Many


def test_nothing_is_lost_or_left_while_many_come_and_go(lab: Lab, engine: Engine, start: Start) -> None:
    engine.run("lasting", EXPOSED.name, LASTING)
    names = {f"c-{number}": EXPOSED.address(0x100 + number) for number in range(CROWD)}
    daemon = start("-N", EXPOSED.name)

    def come_and_go(name: str) -> None:
        """End stopped if the number is odd, and running if it is even."""
        engine.create(name, EXPOSED.name, names[name])
        engine.start(name)
        engine.stop(name)
        engine.start(name)
        engine.disconnect(EXPOSED.name, name)
        engine.connect(EXPOSED.name, name, names[name])
        if int(name.removeprefix("c-")) % 2:
            engine.stop(name)

    with Solicitor(lab, LASTING) as lasting, Solicitor(lab) as crowd:
        lasting.first_answer(LASTING)
        lasting.follow(LASTING)
        with ThreadPoolExecutor(4) as threads:
            doing = [threads.submit(come_and_go, name) for name in names]
        for each in doing:
            each.result()
        lost = lasting.lost()
        numbered = list(names.values())
        wait_until(lambda: events(daemon, "network")[-1]["addresses"] == 1 + CROWD // 2, "the last change", 1)
        assert_answered_exactly(crowd, *numbered[::2], silent=(*numbered[1::2], GATEWAY, NOBODY))

    assert lost == {}
    assert [line for line in events(daemon) if line["level"] != "info"] == []


@pytest.mark.minutes
@pytest.mark.usefixtures("running_engine")
def test_two_hundred_containers_at_the_start(record: Record) -> None:
    # An engine of its own: its end is quick, where two hundred containers are slow to remove.
    with Lab() as lab, Engine(lab.vps) as engine:
        engine.create_network(EXPOSED)
        addresses = [EXPOSED.address(0x100 + number) for number in range(MANY)]
        with ThreadPoolExecutor(4) as threads:
            each = [
                threads.submit(engine.run, f"c-{number}", EXPOSED.name, address)
                for number, address in enumerate(addresses)
            ]
        for running in each:
            running.result()
        words = engine.ndpresponder("-N", EXPOSED.name)
        with Program(lab.vps, *words) as daemon:
            assert_all_are_answered(lab, daemon, addresses, partial(record, "on the host, from ready to answer"))
        sidecar = Sidecar(engine, "-i", "eth0", "-N", EXPOSED.name)
        assert_all_are_answered(lab, sidecar, addresses, partial(record, "as a sidecar, from ready to answer"))
