"""places_of(): the lines that it names, against the keys that the standard library's reader finds."""

import tomllib
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ndpresponder.places import Place, places_of


def paths(value: Any, above: Place = ()) -> Iterator[Place]:
    """Yield the path of everything that a document has."""
    inside: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        inside = list(value.items())
    elif isinstance(value, list):
        inside = list(enumerate(value))
    for name, item in inside:
        yield (*above, name)
        yield from paths(item, (*above, name))


WRITTEN = """\
# A comment with = and [ and "
top = "level" # and one behind

"quoted.key" = 1
a.b . 'c d' = [ 1.5, # in a list
  [ '#', "]" ],
  { x = 1, y.z = "}" }, 1979-05-27 07:32:00 ]
text = \"\"\"
[no] "" = 1 \\\"\"\" \"\"\"\"\"
raw = '''
x = [ '' '''''
[[interface]]
ifname = "eth0"
exclude = [

    "one",
    "two"
    # nothing
    ,
]
  [ interface . more ]
  key = 1
[[ interface ]]
[interface.more]
"\\u006bey" = {}
"""


def test_a_document() -> None:
    assert places_of(WRITTEN) == {
        ("top",): 2,
        ("quoted.key",): 4,
        ("a",): 5,
        ("a", "b"): 5,
        ("a", "b", "c d"): 5,
        ("a", "b", "c d", 0): 5,
        ("a", "b", "c d", 1): 6,
        ("a", "b", "c d", 1, 0): 6,
        ("a", "b", "c d", 1, 1): 6,
        ("a", "b", "c d", 2): 7,
        ("a", "b", "c d", 2, "x"): 7,
        ("a", "b", "c d", 2, "y"): 7,
        ("a", "b", "c d", 2, "y", "z"): 7,
        ("a", "b", "c d", 3): 7,
        ("text",): 8,
        ("raw",): 10,
        ("interface",): 12,
        ("interface", 0): 12,
        ("interface", 0, "ifname"): 13,
        ("interface", 0, "exclude"): 14,
        ("interface", 0, "exclude", 0): 16,
        ("interface", 0, "exclude", 1): 17,
        ("interface", 0, "more"): 21,
        ("interface", 0, "more", "key"): 22,
        ("interface", 1): 23,
        ("interface", 1, "more"): 24,
        ("interface", 1, "more", "key"): 25,
    }
    assert set(places_of(WRITTEN)) == set(paths(tomllib.loads(WRITTEN)))


blanks = st.sampled_from(["", " ", "\t"])
fillers = st.sampled_from(["", "\n", " # [[x]] = ' \"\n", "\n\n  # {\n"])
line_ends = st.sampled_from(["\n", " # ] = \"'\n", "\r\n", "\n# '''\n\n"])
bare_keys = st.sampled_from(["a", "b", "c-1", "_", "7", "true"])
keys = bare_keys | st.sampled_from(["'a'", '"b"', '"c\\"1"', "'='", '"]"', '"\\u0061"', "''", "' # '"])
dotted = st.lists(keys, min_size=1, max_size=3).flatmap(lambda parts: blanks.map(lambda blank: f"{blank}.".join(parts)))
scalars = st.sampled_from(
    [
        *("1", "-1.5e3", "true", "inf", "0x1F", "1979-05-27T07:32:00.5Z", "07:32:00", '"["', "'#'", '""', "''"),
        *(
            '"\\\\"',
            '"\\""',
            '"""\n[a]\n"""',
            '"""a"b""c\\""""',
            '"""x"""""',
            "'''\n'a''\n'''''",
            "'''[\n,'''",
            '""""""',
        ),
    ]
)


def containers(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    items = st.lists(st.tuples(fillers, values, fillers), max_size=3)
    lists = items.map(lambda found: "[" + ",".join("".join(item) for item in found) + "]")
    pairs = st.lists(st.tuples(dotted, values.filter(lambda value: "\n" not in value)), max_size=3)
    tables = pairs.map(lambda found: "{" + ", ".join(f"{key} = {value}" for key, value in found) + "}")
    return lists | tables


values = st.recursive(scalars, containers, max_leaves=6)
assignments = st.builds("{}{} = {}{}".format, blanks, dotted, values, line_ends)
headers = st.builds("[{}{}{}]{}".format, blanks, dotted, blanks, line_ends)
lists_of_tables = st.builds("[[{}{}{}]]{}".format, blanks, dotted, blanks, line_ends)
statements = st.lists(assignments | headers | lists_of_tables, max_size=8)


@given(statements)
def test_the_keys_are_those_of_the_reader(made: list[str]) -> None:
    # What says something twice is left out, statement by statement; the rest is valid.
    text = ""
    for statement in made:
        try:
            tomllib.loads(text + statement)
        except tomllib.TOMLDecodeError:
            continue
        text += statement

    places = places_of(text)

    assert set(places) == set(paths(tomllib.loads(text)))
    # A line that is cut off before a key takes the key with it; one behind it has it.
    lines = text.split("\n")
    for path, line in places.items():
        assert 1 <= line <= len(lines)
        if len(path) == 1:
            before = "".join(f"{each}\n" for each in lines[: line - 1])
            assert path not in set(paths(tomllib.loads(before)))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=20))
def test_the_line_of_each_item(gaps: list[int]) -> None:
    """A long list, an item in each line that is not empty."""
    text, expected, line = "list = [\n", [], 2
    for gap in gaps:
        text += "# [\n" * gap + '"""\n]""",\n'
        line += gap
        expected.append(line)
        line += 2

    places = places_of(text + "]\n")

    assert [places["list", number] for number in range(len(gaps))] == expected
