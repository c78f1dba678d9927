"""control: the replies to what is asked, who is let in, and what the bounds are worth. No root, no namespace."""

import asyncio
import grp
import json
import os
import select
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import pytest

from ndpresponder import control
from ndpresponder.client import ClientError, NoDaemonError, ask
from ndpresponder.control import LONGEST_REQUEST, MOST_CLIENTS, MOST_WATCHERS, RequestError, Server, group_of

STATUS = {"version": 1, "request": "status"}


def refuse(_: control.Request) -> control.Reply:
    raise RequestError("cannot be")


def server(directory: Path, group: str = "", text: str = "well") -> Server:
    return Server({"status": lambda request: {"is": text, **request}, "refused": refuse}, directory, group)


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"status\n", "not a line of JSON"),
        (b"\xff\n", "not a line of JSON"),
        (b"\n", "not a line of JSON"),
        (b"[" * 4000, "not a line of JSON"),
        (b"1" * 5000, "not a line of JSON"),
        (b'"status"', "not a JSON object"),
        (b'{"request": "status"}', "the version of the protocol is 1: the request must have it"),
        (b'{"request": "status", "version": 2}', "the version of the protocol is 1: the request must have it"),
        (b'{"request": "status", "version": true}', "the version of the protocol is 1: the request must have it"),
        (b'{"request": "status", "version": 1.0}', "the version of the protocol is 1: the request must have it"),
        (b'{"version": 1}', "unknown request; there are: refused, status"),
        (b'{"version": 1, "request": ["status"]}', "unknown request; there are: refused, status"),
        (b'{"version": 1, "request": "stop"}', "unknown request; there are: refused, status"),
        (b'{"version": 1, "request": "refused"}', "cannot be"),
    ],
)
def test_what_is_no_request_gets_an_error(line: bytes, error: str, tmp_path: Path) -> None:
    assert server(tmp_path).reply(line) == {"version": 1, "error": error}


def test_a_request(tmp_path: Path) -> None:
    reply = server(tmp_path).reply(b' {"request": "status", "more": [1], "version": 1}\r\n')
    assert reply == {"version": 1, "is": "well", "request": "status", "more": [1]}


def test_groups() -> None:
    assert group_of(grp.getgrgid(0).gr_name) == 0
    assert group_of("12345") == 12345
    with pytest.raises(OSError, match="there is no such group"):
        group_of("no such group")


# The socket


def sockets(directory: Path) -> set[Path]:
    return set(directory.glob("*.sock"))


def may(path: Path) -> tuple[int, int]:
    """A file's mode and its group."""
    status = path.stat()
    return status.st_mode & 0o777, status.st_gid


@asynccontextmanager
async def serving(server: Server, directory: Path) -> AsyncIterator[Path]:
    """Have it serve, and yield where."""
    before = sockets(directory)
    task = asyncio.ensure_future(server.serve())
    try:
        async with asyncio.timeout(5):
            while not (new := sockets(directory) - before):
                assert not task.done()
                await asyncio.sleep(0.001)
        [path] = new
        yield path
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def run_with(server: Server, directory: Path, test: Callable[[Path], Awaitable[None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(20), serving(server, directory) as path:
            await test(path)

    asyncio.run(run())
    assert list(directory.iterdir()) == []


async def connected(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_unix_connection(path)


async def reply_to(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: bytes) -> Any:
    writer.write(line)
    return json.loads(await reader.readline())


async def as_many_as_may(path: Path) -> list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect as many clients as there can be, each of which gets a reply."""
    clients = [await connected(path) for _ in range(MOST_CLIENTS)]
    for client in clients:
        assert (await reply_to(*client, json.dumps(STATUS).encode() + b"\n"))["is"] == "well"
    return clients


def test_one_client_and_many_requests(tmp_path: Path) -> None:
    async def test(path: Path) -> None:
        reader, writer = await connected(path)
        for _ in range(100):
            assert (await reply_to(reader, writer, json.dumps(STATUS).encode() + b"\n"))["is"] == "well"
        # Several at once, and an error between them, are answered in order.
        writer.write(
            b'{"version": 1, "request": "status", "n": 1}\nnonsense\n{"version": 1, "request": "status", "n": 2}\n'
        )
        replies = [json.loads(await reader.readline()) for _ in range(3)]
        assert [reply.get("n", reply.get("error")) for reply in replies] == [1, "not a line of JSON", 2]
        # What comes before the end is answered, with the line's end or without.
        writer.write(b'{"version": 1, "request": "status", "n": 3}')
        writer.write_eof()
        assert json.loads(await reader.readline())["n"] == 3
        assert await reader.read() == b""
        writer.close()

    run_with(server(tmp_path), tmp_path, test)


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_request_without_end(tmp_path: Path, end: bytes) -> None:
    async def test(path: Path) -> None:
        reader, writer = await connected(path)
        reply = await reply_to(reader, writer, b" " * (3 * LONGEST_REQUEST) + end)
        assert reply == {"version": 1, "error": "a request has at most 4096 octets"}
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()

    run_with(server(tmp_path), tmp_path, test)


def test_many_clients(tmp_path: Path) -> None:
    async def test(path: Path) -> None:
        clients = await as_many_as_may(path)
        for _ in range(50):
            reader, writer = await connected(path)
            assert json.loads(await reader.readline()) == {
                "version": 1,
                "error": "16 clients already; try again later",
            }
            assert await reader.read() == b""
            writer.close()
        # One that ends makes room for another.
        reader, writer = clients.pop()
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        clients.append(await connected(path))
        assert (await reply_to(*clients[-1], json.dumps(STATUS).encode() + b"\n"))["is"] == "well"
        for _, writer in clients:
            writer.close()

    run_with(server(tmp_path), tmp_path, test)


def test_a_client_that_does_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs one reply, however much it asks; and a while later it is thrown out."""
    monkeypatch.setattr(control, "_PATIENCE", 0.5)
    asked = 0

    def large(_: control.Request) -> control.Reply:
        nonlocal asked
        asked += 1
        return {"text": "x" * 1_000_000}

    async def test(path: Path) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as slow:
            slow.connect(str(path))
            slow.sendall(b'{"version": 1, "request": "status"}\n' * 50)
            # Others are answered meanwhile.
            for _ in range(3):
                reader, writer = await asyncio.open_unix_connection(path, limit=1 << 21)
                assert (
                    len((await reply_to(reader, writer, b'{"version": 1, "request": "status"}\n'))["text"]) == 1_000_000
                )
                writer.close()
            given_up = select.poll()
            given_up.register(slow, select.POLLHUP)
            assert await asyncio.to_thread(given_up.poll, 5000)
            assert asked == 4
            slow.settimeout(5)
            left = 0
            with suppress(ConnectionResetError):
                while octets := slow.recv(1 << 20):
                    left += len(octets)
            assert left < 1_000_000

    run_with(Server({"status": large}, tmp_path, ""), tmp_path, test)


def test_those_who_watch_and_do_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They leave places for others, and a while later they are thrown out."""
    monkeypatch.setattr(control, "_PATIENCE", 0.5)

    async def flood() -> AsyncGenerator[list[control.Reply], None]:
        while True:
            yield [{"text": "x" * 1_000_000}]
            await asyncio.sleep(0)

    watch = b'{"version": 1, "request": "watch"}\n'

    async def test(path: Path) -> None:
        with ExitStack() as slow:
            watching = [slow.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(MOST_WATCHERS)]
            for each in watching:
                each.connect(str(path))
                each.sendall(watch)
                # It is there as soon as there is something to read.
                assert await asyncio.to_thread(select.select, [each], [], [], 5) == ([each], [], [])
            reader, writer = await connected(path)
            error = f"{MOST_WATCHERS} clients watch already; try again later"
            assert await reply_to(reader, writer, watch) == {"version": 1, "error": error}
            assert (await reply_to(reader, writer, json.dumps(STATUS).encode() + b"\n"))["is"] == "well"
            for each in watching:
                given_up = select.poll()
                given_up.register(each, select.POLLHUP)
                assert await asyncio.to_thread(given_up.poll, 5000)
            writer.close()
            reader, writer = await connected(path)
            assert await reply_to(reader, writer, watch) == {"version": 1, "watching": True}
            writer.close()

    def tell(request: control.Request) -> control.Reply:
        return {"is": "well"} if request["request"] == "status" else {"watching": True}

    run_with(Server({"status": tell, "watch": tell}, tmp_path, "", {"watch": flood}), tmp_path, test)


def test_those_who_ask_and_leave(tmp_path: Path) -> None:
    """They keep nobody out, and have no reply made for them."""
    asked = 0

    def count(_: control.Request) -> control.Reply:
        nonlocal asked
        asked += 1
        return {"is": "well"}

    async def test(path: Path) -> None:
        for _ in range(MOST_CLIENTS):
            with socket.socket(socket.AF_UNIX) as gone:
                gone.connect(str(path))
                gone.sendall(b'{"version": 1, "request": "status"}\n')
        assert [reply["is"] for reply in await asyncio.to_thread(ask, "status", print, tmp_path)] == ["well"]
        assert asked == 1

    run_with(Server({"status": count}, tmp_path, ""), tmp_path, test)


def test_one_that_is_refused_is_told_why(tmp_path: Path) -> None:
    async def test(path: Path) -> None:
        clients = await as_many_as_may(path)
        for _ in range(20):
            with pytest.raises(ClientError, match=r"16 clients already; try again later$"):
                await asyncio.to_thread(ask, "status", print, tmp_path)
        for _, writer in clients:
            writer.close()

    run_with(server(tmp_path), tmp_path, test)


def test_an_idle_client_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_PATIENCE", 0.1)

    async def test(path: Path) -> None:
        reader, writer = await connected(path)
        assert await reader.read() == b""
        writer.close()

    run_with(server(tmp_path), tmp_path, test)


def test_who_may_ask(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("giving a file to a group one is not in needs root")
    one = server(tmp_path)

    async def test(path: Path) -> None:
        assert may(path) == (0o600, os.getegid())
        one.admit("12345")
        assert may(path) == (0o660, 12345)
        one.admit("no-such-group")
        assert may(path) == (0o600, 12345)
        one.admit("12345")
        assert may(path) == (0o660, 12345)
        one.admit("")
        assert may(path) == (0o600, 12345)

    run_with(one, tmp_path, test)

    async def of_group(path: Path) -> None:
        assert may(path) == (0o660, 54321)

    run_with(server(tmp_path, "54321"), tmp_path, of_group)


def test_a_group_that_is_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def test(path: Path) -> None:
        assert may(path) == (0o600, os.getegid())

    run_with(server(tmp_path, "no-such-group"), tmp_path, test)
    [line] = [record.getMessage() for record in caplog.records if record.name == "ndpresponder"]
    assert line.startswith(
        "group no-such-group cannot use the control socket (there is no such group; see docs/control.md): "
    )


def test_without_a_place(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory = tmp_path / "not there" / "either"
    asyncio.run(server(directory).serve())
    [line] = [record.getMessage() for record in caplog.records if record.name == "ndpresponder"]
    no_place = f"no control socket in {directory} (No such file or directory)"
    assert line == f"{no_place}: `ndpresponder status` does not find this process"


def test_a_place_with_too_long_a_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory = tmp_path / ("x" * 100)
    asyncio.run(server(directory).serve())
    assert [record.getMessage() for record in caplog.records if record.name == "ndpresponder"] == [
        f"no control socket in {directory} (AF_UNIX path too long): `ndpresponder status` does not find this process"
    ]
    assert list(directory.iterdir()) == []


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    stale, unfinished, beginning, other = (tmp_path / name for name in ("1-a.sock", "2-b.new", "3-c.new", "file"))
    for path in (stale, unfinished, beginning):
        with closing(socket.socket(socket.AF_UNIX)) as bound:
            bound.bind(str(path))
    os.utime(unfinished, (0, 0))
    other.write_text("")

    def there() -> set[Path]:
        return set(tmp_path.iterdir())

    async def run() -> None:
        async with serving(server(tmp_path), tmp_path) as first, serving(server(tmp_path), tmp_path) as second:
            # One that answers is left alone.
            assert there() == {first, second, beginning, other}

    asyncio.run(run())
    assert there() == {beginning, other}


# The client


def test_no_daemon(tmp_path: Path) -> None:
    told: list[str] = []
    for directory in (tmp_path, tmp_path / "none"):
        with pytest.raises(NoDaemonError, match=f"^no daemon was found: no control socket in {directory} answers$"):
            ask("status", told.append, directory)


def test_all_daemons_are_asked(tmp_path: Path) -> None:
    told: list[str] = []

    async def run() -> list[dict[str, Any]]:
        first, second = server(tmp_path, text="first"), server(tmp_path, text="second")
        async with serving(first, tmp_path), serving(second, tmp_path):
            with closing(socket.socket(socket.AF_UNIX)) as killed:
                killed.bind(str(tmp_path / "0-a.sock"))
            return await asyncio.to_thread(ask, "status", told.append, tmp_path, n=7)

    replies = asyncio.run(run())
    assert sorted(reply["is"] for reply in replies) == ["first", "second"]
    assert all((reply["request"], reply["n"]) == ("status", 7) for reply in replies)
    assert told == []


def test_one_that_hangs_does_not_hide_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ndpresponder.client._PATIENCE", 0.2)
    hung, odd = tmp_path / "1-a.sock", tmp_path / "2-b.sock"
    told: list[str] = []

    async def say_something(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"[]\n")
        writer.close()

    async def run() -> None:
        with closing(socket.socket(socket.AF_UNIX)) as listener:
            listener.bind(str(hung))
            listener.listen()
            async with await asyncio.start_unix_server(say_something, odd):
                async with serving(server(tmp_path, text="well"), tmp_path):
                    replies = await asyncio.to_thread(ask, "status", told.append, tmp_path)
                assert [reply["is"] for reply in replies] == ["well"]
                assert told == [f"{hung}: no reply", f"{odd}: an unexpected reply"]
                # Where nobody is left, it is an error, but not that there is nobody.
                with pytest.raises(ClientError) as caught:
                    await asyncio.to_thread(ask, "status", told.append, tmp_path)
                assert str(caught.value) == f"{hung}: no reply; {odd}: an unexpected reply"
                assert not isinstance(caught.value, NoDaemonError)

    asyncio.run(run())


def test_an_error_has_the_socket(tmp_path: Path) -> None:
    async def test(path: Path) -> None:
        with pytest.raises(ClientError) as caught:
            await asyncio.to_thread(ask, "refused", print, tmp_path)
        assert str(caught.value) == f"{path}: cannot be"

    run_with(server(tmp_path), tmp_path, test)
