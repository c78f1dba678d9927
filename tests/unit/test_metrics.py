"""The metrics: what a state comes to in Prometheus' format, by the conventions for names; and the dashboard."""

import json
import re
import sys
from collections import Counter
from ipaddress import IPv6Address
from pathlib import Path
from time import monotonic, time
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ndpresponder import __version__
from ndpresponder.addresses import Uses
from ndpresponder.gateway import Gateway
from ndpresponder.metrics import Figures, State, exposition
from ndpresponder.responder import Tally
from ndpresponder.uplink import Condition
from ndpresponder.verdict import Verdict

TALLY = Tally(10, Counter({Verdict.CHECKSUM: 1, Verdict.OPTIONS: 4}), Counter({"ENETDOWN": 3}), 5, 6)
GATEWAY = IPv6Address("fe80::1")
CONDITION = Condition("eth0", bytes(6), 1.0, True, 22, True, 3, 2, ((GATEWAY, Gateway()),))  # noqa: FBT003 - a row of values
ETH0 = Figures(
    *("eth0", CONDITION, TALLY, {"static": 65535, "docker:web": 2}),
    {"static": Uses(4, 100.0), "docker:web": Uses(6, 160.0)},
)
ETH1 = Figures("eth1", None, Tally(), {"static": 2**64}, {"static": Uses()})
STATE = State((ETH0, ETH1), engine_up=True, reloaded=False)
ROOT = Path(__file__).parents[2]
NOT_IN_NAMES = {"milliseconds", "minutes", "bits", "kilobytes", "gauge", "counter", "source", "reason"}
LABELS = {"interface", "source", "reason"}


def text(state: State, accepted: str = "") -> str:
    """Return what is scraped, but for what the library tells of any process."""
    _, octets = exposition(state, accepted)
    return "".join(line for line in octets.decode().splitlines(keepends=True) if "process_" not in line)


def samples(state: State) -> dict[tuple[str, str], float]:
    return {
        (sample.name, " ".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text(state))
        for sample in family.samples
    }


def test_everything_there_is_to_know() -> None:
    found = samples(STATE)
    reasons = [f"{ifname} {verdict}" for ifname in ("eth0", "eth1") for verdict in Verdict]
    zero = dict.fromkeys((("ndpresponder_refused_total", labels) for labels in reasons), 0)
    assert found == zero | {
        ("ndpresponder_build_info", __version__): 1,
        ("ndpresponder_engine_up", ""): 1,
        ("ndpresponder_reload_success", ""): 0,
        ("ndpresponder_interface_up", "eth0"): 1,
        ("ndpresponder_interface_up", "eth1"): 0,
        ("ndpresponder_solicitations_total", "eth0"): 18,
        ("ndpresponder_solicitations_total", "eth1"): 0,
        ("ndpresponder_advertisements_total", "eth0 static"): 4,
        ("ndpresponder_advertisements_total", "eth0 docker:web"): 6,
        ("ndpresponder_advertisements_total", "eth1 static"): 0,
        ("ndpresponder_last_answer_timestamp_seconds", "eth0"): pytest.approx(time() - monotonic() + 160, abs=1),
        ("ndpresponder_multicast_answered_total", "eth0"): 6,
        ("ndpresponder_multicast_answered_total", "eth1"): 0,
        ("ndpresponder_refused_total", "eth0 checksum"): 1,
        ("ndpresponder_refused_total", "eth0 options"): 4,
        ("ndpresponder_dropped_total", "eth0"): 5,
        ("ndpresponder_dropped_total", "eth1"): 0,
        ("ndpresponder_send_errors_total", "eth0 ENOBUFS"): 0,
        ("ndpresponder_send_errors_total", "eth0 ENETDOWN"): 3,
        ("ndpresponder_send_errors_total", "eth1 ENOBUFS"): 0,
        ("ndpresponder_addresses", "eth0 static"): 65535,
        ("ndpresponder_addresses", "eth0 docker:web"): 2,
        ("ndpresponder_addresses", "eth1 static"): 2**64,
        ("ndpresponder_filter_instructions", "eth0"): 22,
        ("ndpresponder_multicast_groups", "eth0"): 3,
        ("ndpresponder_conflicting_addresses", "eth0"): 2,
        ("ndpresponder_gateway_up", "eth0"): 1,
    }


def test_what_is_not_known_is_not_there() -> None:
    names = {name for name, _ in samples(State((ETH1,)))}
    unknown = {
        "last_answer_timestamp_seconds",
        "engine_up",
        "reload_success",
        "filter_instructions",
        "multicast_groups",
        "conflicting_addresses",
        "gateway_up",
    }
    assert names == {name for name, _ in samples(STATE)} - {f"ndpresponder_{name}" for name in unknown}


def test_names_follow_the_conventions() -> None:
    """What `promtool check metrics` says, and https://prometheus.io/docs/practices/naming/ beyond it."""
    families = list(text_string_to_metric_families(text(STATE)))
    lines = text(STATE).splitlines()
    for family in families:
        written = family.name + ("_total" if family.type == "counter" else "")
        assert re.fullmatch(r"ndpresponder_[a-z]+(_[a-z]+)*", written)
        # In this order, and once.
        at = lines.index(f"# TYPE {written} {family.type}")
        assert lines[at - 1].startswith(f"# HELP {written} ")
        assert [line for line in lines if line.startswith(f"# HELP {written} ")] == [lines[at - 1]]
        assert family.documentation.endswith(".")
        assert family.type in {"counter", "gauge"}
        assert written.endswith("_total") == (family.type == "counter")
        # Base units, and neither types nor labels.
        assert not set(written.split("_")) & NOT_IN_NAMES
        labels = {label for sample in family.samples for label in sample.labels}
        assert labels <= ({"version"} if written == "ndpresponder_build_info" else LABELS)


@pytest.mark.parametrize(
    ("gateways", "up"),
    [
        ((), None),
        (((GATEWAY, None),), None),
        (((GATEWAY, Gateway(silent=True)),), 0),
        (((GATEWAY, Gateway(silent=True)), (IPv6Address("fe80::2"), Gateway(link_address=bytes(6)))), 1),
    ],
)
def test_gateways(gateways: tuple[tuple[IPv6Address, Gateway | None], ...], up: float | None) -> None:
    figures = ETH0._replace(condition=CONDITION._replace(gateways=gateways))
    assert samples(State((figures,))).get(("ndpresponder_gateway_up", "eth0")) == up


def test_both_formats_say_the_same() -> None:
    content_type, octets = exposition(STATE, "application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text; version=")
    plain = {line for line in text(STATE).splitlines() if not line.startswith("#")}
    assert plain <= set(octets.decode().splitlines())
    assert exposition(STATE, "")[0].startswith("text/plain; version=")


def test_a_library_that_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ImportError):
        exposition(STATE, "")


# What is made from the names


def names(text: str) -> set[str]:
    """Return the metrics that a text names; a word that only begins like one is a package, a file, an image."""
    return set(re.findall(r"\bndpresponder_[a-z_]*[a-z]", text))


def written() -> dict[str, set[str]]:
    """Return the labels of each metric."""
    families = text_string_to_metric_families(text(STATE))
    return {sample.name: set(sample.labels) for family in families for sample in family.samples}


def test_the_document_has_every_metric_with_its_labels() -> None:
    rows = re.findall(r"^\| `(ndpresponder_\w+)` \| (.*?) \|", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE)
    assert {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows} == written()


def test_the_document_names_no_other() -> None:
    assert names((ROOT / "docs/metrics.md").read_text()) <= written().keys()


def dashboard() -> Any:
    return json.loads((ROOT / "packaging/grafana/ndpresponder.json").read_text())


def expressions() -> list[tuple[str, str]]:
    """Return what the panels ask for, and how they name what they get."""
    return [(each["expr"], each["legendFormat"]) for panel in dashboard()["panels"] for each in panel["targets"]]


def test_the_dashboard_asks_for_what_there_is() -> None:
    for expression, legend in expressions():
        [name] = names(expression)
        assert name in written()
        # A target has the name of the host beside what this program says.
        labels = written()[name] | {"instance"}
        assert set(re.findall(r"[{,]\s*(\w+)\s*=~?", expression)) <= labels
        assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= labels
        # A counter by itself is a line that only rises.
        assert name.endswith("_total") == expression.startswith("rate(")
    variables = " ".join(each["query"] for each in dashboard()["templating"]["list"])
    assert names(variables) <= written().keys()


def test_the_dashboard_has_all_but_a_few() -> None:
    shown = {name for expression, _ in expressions() for name in names(expression)}
    assert written().keys() - shown == {
        f"ndpresponder_{name}" for name in ("build_info", "engine_up", "reload_success")
    }


def test_no_panel_lies_upon_another() -> None:
    taken = [
        (x, y)
        for at in (panel["gridPos"] for panel in dashboard()["panels"])
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) < 24
    numbers = [panel["id"] for panel in dashboard()["panels"]]
    assert len(numbers) == len(set(numbers))
