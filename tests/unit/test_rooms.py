"""The rooms of the program: who may import whom, and each library's one door."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ndpresponder

PACKAGE = Path(__file__).parents[2] / "ndpresponder"
ROOMS = re.findall(r"^    (\w+) ", ndpresponder.__doc__ or "", re.MULTILINE)
TABLE = re.findall(r"^\| (\d) \| `(\w+)` \|", (PACKAGE.parent / "docs/architecture.md").read_text(), re.MULTILINE)
# A module imports only from lower layers.
LAYERS = {room: int(layer) for layer, room in TABLE}
LAYERS["__main__"] = LAYERS["cli"]
# Within a layer, and in this direction only.
BESIDE = {
    ("addresses", "verdict"),
    ("filter", "packet"),
    ("link", "filter"),
    ("link", "packet"),
    ("config", "log"),
    ("docker", "config"),
    ("docker", "containers"),
    ("docker", "log"),
    ("netlink", "rtnetlink"),
    ("control", "log"),
    ("status", "log"),
    ("announce", "gateway"),
    ("metrics", "station"),
    ("explain", "doctor"),
    ("__main__", "cli"),
}
DOORS = {"pyroute2": {"netlink"}, "click": {"cli"}, "docker": {"docker"}, "prometheus_client": {"metrics"}}
MODULES = sorted(PACKAGE.glob("*.py"))


def imports(path: Path) -> set[tuple[int, str]]:
    """Each imported module: how many dots stand before it, and its first name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {(0, alias.name.partition(".")[0]) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add((node.level, node.module.partition(".")[0]))
        elif isinstance(node, ast.ImportFrom):
            found |= {(node.level, alias.name) for alias in node.names}
    return found


def test_both_maps_have_each_room_once() -> None:
    rooms = sorted(path.stem for path in MODULES if not path.stem.startswith("__"))
    assert sorted(ROOMS) == rooms
    assert sorted(room for _, room in TABLE) == rooms


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_imports_go_down(path: Path) -> None:
    for dots, name in imports(path):
        if dots and name != "__version__":
            assert LAYERS[name] < LAYERS[path.stem] or (path.stem, name) in BESIDE, name


@pytest.mark.parametrize("number", range(len(ROOMS)), ids=ROOMS.__getitem__)
def test_a_room_imports_only_from_those_above_it_in_the_map(number: int) -> None:
    inside = {name for dots, name in imports(PACKAGE / f"{ROOMS[number]}.py") if dots} - {"__version__"}
    assert inside <= set(ROOMS[:number])


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_each_library_has_one_door(path: Path) -> None:
    outside = {name for dots, name in imports(path) if not dots} - set(sys.stdlib_module_names)
    assert all(path.stem in DOORS[name] for name in outside), outside


def test_answering_does_not_wait_for_slow_imports() -> None:
    script = "import sys, ndpresponder.cli, ndpresponder.daemon; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    imported = set(done.stdout.split())
    assert "ndpresponder.uplink" in imported
    assert not imported & {
        *(DOORS.keys() - {"click"}),
        "tomllib",
        *(f"ndpresponder.{room}" for room in ("docker", "file", "metrics", "sight", "client", "doctor")),
    }
