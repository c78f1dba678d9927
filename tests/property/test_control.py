"""The control protocol: any bytes get one reply that is a line of JSON, and never an exception."""

import json
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ndpresponder.control import Server

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
nearly = st.fixed_dictionaries(
    {}, optional={"version": st.just(1) | json_values, "request": st.just("status") | json_values, "x": json_values}
)
SERVER = Server({"status": lambda _: {"well": True}}, Path("/nowhere"), "")


@given(st.binary(max_size=4096))
def test_any_bytes(line: bytes) -> None:
    reply = SERVER.reply(line)
    assert set(reply) == {"version", "error"}


@given(json_values | nearly)
def test_any_json(request: Any) -> None:
    reply = SERVER.reply(json.dumps(request).encode())
    wanted = isinstance(request, dict) and (request.get("request"), request.get("version")) == ("status", 1)
    # True and 1.0 equal 1 in Python, and are no version.
    if wanted and type(request["version"]) is int:
        assert reply == {"version": 1, "well": True}
    else:
        assert set(reply) == {"version", "error"}
    assert json.loads(json.dumps(reply)) == reply
