"""The control socket: those who are allowed to ask the daemon what it is at, in lines of JSON (docs/control.md).

It is in the daemon's loop; the threads that answer solicitations do not wait for it. Whoever connects gets no more than
its bounds allow: hostile bytes get a line that says what is wrong, and too much of anything an end.
"""

import asyncio
import json
import os
import select
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, closing, suppress
from pathlib import Path
from socket import AF_UNIX, SOCK_STREAM, socket
from typing import Any

from . import log

VERSION = 1
"""Of the protocol: it grows when what worked before no longer does."""
SUFFIX = ".sock"

LONGEST_REQUEST = 4096
"""Octets. A line without an end would fill the memory."""
MOST_CLIENTS = 16
"""At a time. Connections without number would take all the descriptors that a packet socket or a snapshot needs."""
MOST_WATCHERS = 8
"""Of those. A stream has no end: those who watch and do not read would leave no place for others."""
_MOST_WAITING = 16
"""Connections that the kernel holds until they are accepted."""
_PATIENCE = 30.0
"""Seconds for the next request, or for taking a reply or a part of a stream. Idle clients would keep the others out,
and one that does not read would keep its reply, of which there is one at a time, in our memory."""
_NEW = ".new"
_UNFINISHED = 60.0
"""Seconds after which a socket that is not listening yet never will be."""

Request = Mapping[str, Any]
Reply = Mapping[str, Any]


class RequestError(Exception):
    """A request that cannot be answered. The message says why."""


class Server:
    """Answers requests on a socket in `directory`; `answers` has what is done for each kind of them, by its name.

    `streams` has those whose reply is followed by more of it, batch by batch, for as long as the client listens.
    Who may ask: this user and root, and `group`, a name or a number, unless it is empty.
    """

    def __init__(
        self,
        answers: Mapping[str, Callable[[Request], Reply]],
        directory: Path,
        group: str,
        streams: Mapping[str, Callable[[], AsyncGenerator[list[Reply], None]]] | None = None,
    ) -> None:
        self._answers = answers
        self._streams = streams or {}
        self._directory = directory
        self._group = group
        self._path: Path | None = None
        self._clients: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._watchers = 0

    async def serve(self) -> None:
        """Answer until cancelled. Without a place for the socket, says so and returns: nothing else depends on it."""
        try:
            listener, self._path = _listen(self._directory)
        except OSError as error:
            reason = error.strerror or str(error)
            log.warning(
                "control",
                f"no control socket in {self._directory} ({reason}): `ndpresponder status` does not find this process",
                reason=reason,
            )
            return
        try:
            self._admit()
            server = await asyncio.start_unix_server(
                self._receive, sock=listener, limit=LONGEST_REQUEST, backlog=_MOST_WAITING
            )
            with closing(server):
                await asyncio.Event().wait()
        finally:
            listener.close()
            with suppress(OSError):
                self._path.unlink()
            for client in self._clients:
                client.cancel()

    def admit(self, group: str) -> None:
        """Let this group ask from now on, and no other."""
        if group != self._group:
            self._group = group
            self._admit()

    def _admit(self) -> None:
        if self._path is None:
            return
        try:
            # First of all, so that the group before is out whatever becomes of this one.
            self._path.chmod(0o600)
            if not self._group:
                return
            number = group_of(self._group)
            # Not allowed to all, and not needed where the service manager has set the group.
            if self._path.stat().st_gid != number:
                os.chown(self._path, -1, number)
            # To connect is to write: unix(7).
            self._path.chmod(0o660)
        except OSError as error:
            why = f"{error.strerror}; see docs/control.md"
            log.warning(
                "control",
                f"group {self._group} cannot use the control socket ({why}): {self._path}",
                reason=error.strerror,
                group=self._group,
            )

    def reply(self, line: bytes) -> Reply:
        """Return what a request is answered with. Any bytes give a value."""
        try:
            return {"version": VERSION, **self._reply(line)}
        except RequestError as error:
            return {"version": VERSION, "error": str(error)}

    def _reply(self, line: bytes) -> Reply:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise RequestError("not a line of JSON") from error
        if not isinstance(request, dict):
            raise RequestError("not a JSON object")
        if type(request.get("version")) is not int or request["version"] != VERSION:
            raise RequestError(f"the version of the protocol is {VERSION}: the request must have it")
        name = request.get("request")
        if not isinstance(name, str) or name not in self._answers:
            raise RequestError(f"unknown request; there are: {', '.join(sorted(self._answers))}")
        return self._answers[name](request)

    async def _receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task  # noqa: S101 - this is one
        # Those that have left already, and are not through with that, are in nobody's way.
        if sum(not _has_left(client) for client in self._clients.values()) >= MOST_CLIENTS:
            _write(writer, {"version": VERSION, "error": f"{MOST_CLIENTS} clients already; try again later"})
            writer.close()
            return
        self._clients[task] = writer
        # So that drain() waits until there is nothing left: one reply at a time.
        writer.transport.set_write_buffer_limits(0)
        try:
            # To somebody who has left, a reply of thousands of prefixes would be for nothing.
            while (line := await self._line(reader)) and not _has_left(writer):
                reply = self.reply(line)
                if "error" not in reply and (begin := self._streams.get(json.loads(line)["request"])):
                    if self._watchers < MOST_WATCHERS:
                        await self._watched(_stream(reply, begin(), reader, writer))
                        break
                    error = f"{MOST_WATCHERS} clients watch already; try again later"
                    reply = {"version": VERSION, "error": error}
                _write(writer, reply)
                async with asyncio.timeout(_PATIENCE):
                    await writer.drain()
        except ValueError:
            _write(writer, {"version": VERSION, "error": f"a request has at most {LONGEST_REQUEST} octets"})
        except OSError:
            # Gone, or (TimeoutError) too slow.
            writer.transport.abort()
        except asyncio.CancelledError:
            # The daemon ends. To Python 3.11, a connection's task that was cancelled is an error to be shown.
            writer.transport.abort()
        finally:
            del self._clients[task]
            writer.close()

    async def _watched(self, streaming: Awaitable[None]) -> None:
        self._watchers += 1
        try:
            await streaming
        finally:
            self._watchers -= 1

    @staticmethod
    async def _line(reader: asyncio.StreamReader) -> bytes:
        """Return the next request; nothing at the end, or when none comes. Raises ValueError for one too long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                return await reader.readline()
        return b""


def _write(writer: asyncio.StreamWriter, reply: Reply) -> None:
    # In pieces: json.dumps() would keep the interpreter from answering until it is through with thousands of prefixes.
    writer.write("".join([*json.JSONEncoder().iterencode(reply), "\n"]).encode())


async def _stream(
    reply: Reply,
    batches: AsyncGenerator[list[Reply], None],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    """Write a reply and what follows until the client ends; TimeoutError when it does not read.

    What it does not read in time is for the source to deal with.
    """
    gone = asyncio.ensure_future(_hear_out(reader))
    try:
        async with aclosing(batches):
            # What has its reply has begun.
            batch = [reply, *await anext(batches)]
            while not gone.done():
                writer.write("".join(f"{json.dumps(each)}\n" for each in batch).encode())
                async with asyncio.timeout(_PATIENCE):
                    await writer.drain()
                batch = await anext(batches)
    finally:
        gone.cancel()


def _has_left(writer: asyncio.StreamWriter) -> bool:
    """Whether the client reads no more; one that has no more to say may do so."""
    descriptor = writer.get_extra_info("socket").fileno()
    if descriptor < 0:
        return True
    poll = select.poll()
    # The end of both directions is told in any case: poll(2).
    poll.register(descriptor, 0)
    return bool(poll.poll(0))


async def _hear_out(reader: asyncio.StreamReader) -> None:
    """Throw away what a client still says, up to its end."""
    while await reader.read(LONGEST_REQUEST):
        pass


def group_of(name: str) -> int:
    """Return a group's number. Raises OSError for a name that nobody has."""
    import grp  # noqa: PLC0415 - most have no use for it

    if name.isdecimal():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError as error:
        raise OSError(None, "there is no such group") from error


def has_group(name: str) -> bool:
    """Whether this host has a group; nothing is as good as one, since none is needed."""
    try:
        return not name or group_of(name) >= 0
    except OSError:
        return False


def _listen(directory: Path) -> tuple[socket, Path]:
    """Return a socket that is listening, and where. Raises OSError."""
    directory.mkdir(exist_ok=True)
    _sweep(directory)
    # Processes in containers can have the same number, and the same directory.
    path = directory / f"{os.getpid()}-{os.urandom(4).hex()}{SUFFIX}"
    new = path.with_suffix(_NEW)
    listener = socket(AF_UNIX, SOCK_STREAM)
    try:
        # Linux makes the file with the mode of the socket: there is no moment at which others could connect.
        os.fchmod(listener.fileno(), 0o600)
        listener.bind(str(new))
        listener.listen(_MOST_WAITING)
        # One that does not listen yet looks like one whose process was killed.
        new.rename(path)
    except BaseException:
        listener.close()
        raise
    return listener, path


def _sweep(directory: Path) -> None:
    """Remove the sockets of processes that were killed."""
    for path in directory.glob(f"*{SUFFIX}"):
        if _is_dead(path):
            with suppress(OSError):
                path.unlink()
    for path in directory.glob(f"*{_NEW}"):
        with suppress(OSError):
            if time.time() - path.lstat().st_mtime > _UNFINISHED:
                path.unlink()


def _is_dead(path: Path) -> bool:
    with socket(AF_UNIX, SOCK_STREAM) as probe:
        probe.settimeout(0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False
