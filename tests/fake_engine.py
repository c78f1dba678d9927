"""A container engine that is none: enough of Docker's HTTP API for the SDK, on a Unix socket, in two dialects.

Docker tells of containers that come and go by events of their networks. Podman does it by events of the containers; an
event of a network comes with `podman network connect` only, has the container for its actor and comes before that
is done; and it fails for a filter that names a network.
"""

import json
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from socketserver import ThreadingMixIn, UnixStreamServer
from threading import Condition, Thread
from typing import Any, Literal, NamedTuple, Self
from urllib.parse import parse_qs, unquote, urlsplit

GATEWAY = "2001:db8::1"
_PATIENCE = 5.0


class Reply(NamedTuple):
    """What is said to a request."""

    status: int
    body: bytes
    pause: float = 0.0
    """Seconds between two of its octets."""

    @classmethod
    def of(cls, value: object, status: int = HTTPStatus.OK) -> "Reply":
        """Say something as JSON."""
        return cls(status, json.dumps(value).encode())


class _Subscriber(NamedTuple):
    filters: dict[str, list[str]]
    stream: SimpleQueue[bytes]


class Engine:
    """Listens on the socket `path` between start() and stop(); what it knows survives that."""

    def __init__(self, path: Path, dialect: Literal["docker", "podman"] = "docker") -> None:
        self.path = path
        self.dialect = dialect
        self.networks: dict[str, dict[str, Any]] = {}
        self.looks = 0
        """How many times networks were asked for."""
        self.subscriptions = 0
        """How many times events were asked for."""
        self.instead: dict[str, Reply] = {}
        """What to reply in place of the truth, by the last part of the path: the network's name, or events."""
        self.versions = (24, 41)
        """The least and the newest version of the API that it speaks, without their "1."."""
        self.tag = ""
        """What has to be in the header X-Tag of each request, if anything."""
        self.mute = False
        """Whether events are not told, while the stream stays open."""
        self._numbers = count(1)
        self._changed = Condition()
        self._subscribers: list[_Subscriber] = []
        self._server: _Server | None = None
        self._closing = False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def host(self) -> str:
        """The value of DOCKER_HOST."""
        return f"unix://{self.path}"

    def start(self) -> None:
        """Make the socket, anew if there is an old one, and listen on it."""
        self.path.unlink(missing_ok=True)
        self._closing = False
        self._server = _Server(self)
        self._thread = Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def stop(self, *, killed: bool = False) -> None:
        """Stop listening and close all connections. One that is killed leaves the socket's file behind."""
        if self._server is None:
            return
        with self._changed:
            self._closing = True
        self._server.shutdown()
        self._thread.join()
        self._server.hang_up()
        self._server.server_close()
        self._server = None
        if not killed:
            self.path.unlink(missing_ok=True)

    def hang_up(self) -> None:
        """Close all connections, and listen on."""
        if self._server:
            self._server.hang_up()

    def create(self, name: str) -> None:
        """Make a network; it has an id that none had before."""
        identity = f"{next(self._numbers):064x}"
        ipam = {"Driver": "default", "Config": [{"Subnet": "2001:db8::/64", "Gateway": GATEWAY}]}
        self.networks[name] = {"Name": name, "Id": identity, "Driver": "bridge", "IPAM": ipam, "Containers": {}}
        self._tell("network", "create", identity, name=name)

    def remove(self, name: str) -> None:
        """Remove a network."""
        identity = self.networks.pop(name)["Id"]
        self._tell("network", "destroy" if self.dialect == "docker" else "remove", identity, name=name)

    def run(self, network: str, container: str, address: str) -> None:
        """Start a container that holds this address, an empty one if it has IPv4 only."""
        self.hold(network, {container: address})
        if self.dialect == "docker":
            self._tell("network", "connect", self.networks[network]["Id"], name=network, container=container)
        self._tell("container", "start", container)

    def halt(self, network: str, container: str) -> None:
        """Stop a container."""
        self._tell("container", "die" if self.dialect == "docker" else "died", container)
        if self.dialect == "docker":
            self._drop(network, container)
            self._tell("network", "disconnect", self.networks[network]["Id"], name=network, container=container)
        else:
            # It stays listed for as long as there is the container.
            self.hold(network, {container: ""})
            self._tell("container", "cleanup", container)

    def connect(self, network: str, container: str, address: str) -> None:
        """Connect a container that is running already."""
        if self.dialect == "docker":
            self.hold(network, {container: address})
            self._tell("network", "connect", self.networks[network]["Id"], name=network, container=container)
        else:
            looks = self.looks
            self._tell("network", "connect", container, name=network)
            self.wait_for_looks(looks + 1)
            self.hold(network, {container: address})

    def hold(self, network: str, containers: dict[str, str]) -> None:
        """Let containers hold addresses without telling anybody."""
        held = {
            name: {"Name": name, "IPv4Address": "172.18.0.2/16", "IPv6Address": address and f"{address}/64"}
            for name, address in containers.items()
        }
        with self._changed:
            self.networks[network]["Containers"] |= held

    def _drop(self, network: str, container: str) -> None:
        with self._changed:
            self.networks[network]["Containers"].pop(container)

    def _tell(self, kind: str, action: str, actor: str, **attributes: str) -> None:
        event = {"Type": kind, "Action": action, "Actor": {"ID": actor, "Attributes": attributes}}
        if not self.mute:
            self.say(json.dumps(event).encode() + b"\n", kind, action)

    def say(self, octets: bytes, kind: str = "network", action: str = "connect") -> None:
        """Put something into the streams whose filters let it through."""
        with self._changed:
            for filters, stream in self._subscribers:
                if kind in filters.get("type", [kind]) and action in filters.get("event", [action]):
                    stream.put(octets)

    def wait_for_looks(self, number: int) -> None:
        """Wait until networks have been asked for so many times since the beginning."""
        self._wait(lambda: self.looks >= number, f"{number} looks")

    def wait_for_subscriptions(self, number: int) -> None:
        """Wait until events have been asked for so many times since the beginning."""
        self._wait(lambda: self.subscriptions >= number, f"{number} subscriptions")

    def _wait(self, condition: Any, what: str) -> None:
        with self._changed:
            if not self._changed.wait_for(condition, _PATIENCE):
                raise TimeoutError(f"{what}: not within {_PATIENCE:g} s")

    def inspect(self, name: str) -> Reply:
        """Describe a network."""
        with self._changed:
            if name in self.networks:
                return Reply.of(self.networks[name])
            return Reply.of({"message": f"network {name} not found"}, HTTPStatus.NOT_FOUND)

    def note_look(self) -> None:
        """Count a look, as soon as the reply is on its way."""
        with self._changed:
            self.looks += 1
            self._changed.notify_all()

    def subscribe(self, filters: dict[str, list[str]]) -> _Subscriber:
        """Begin to tell somebody of events."""
        with self._changed:
            subscriber = _Subscriber(filters, SimpleQueue())
            self._subscribers.append(subscriber)
            if self._closing:
                subscriber.stream.put(b"")
            self.subscriptions += 1
            self._changed.notify_all()
            return subscriber

    def unsubscribe(self, subscribers: Iterable[_Subscriber]) -> None:
        """End the streams of these."""
        with self._changed:
            for subscriber in subscribers:
                if subscriber in self._subscribers:
                    self._subscribers.remove(subscriber)
                    subscriber.stream.put(b"")

    @property
    def subscribers(self) -> list[_Subscriber]:
        """Those who are told of events at present."""
        return list(self._subscribers)


class _Server(ThreadingMixIn, UnixStreamServer):
    request_queue_size = 128

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._connections: list[socket.socket] = []
        super().__init__(str(engine.path), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.append(request)
        super().process_request(request, client_address)

    def hang_up(self) -> None:
        self.engine.unsubscribe(self.engine.subscribers)
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._connections.clear()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: those who ask come and go as they like."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        engine = self.server.engine
        url = urlsplit(self.path)
        *_, kind, name = unquote(url.path).split("/")
        least, newest = engine.versions
        if self.headers.get("X-Tag", "") != engine.tag:
            self._reply(Reply.of({"message": "not allowed"}, HTTPStatus.FORBIDDEN))
        elif name in engine.instead:
            self._reply(engine.instead[name])
        elif name == "version":
            self._reply(Reply.of({"ApiVersion": f"1.{newest}", "MinAPIVersion": f"1.{least}"}))
        elif int(url.path.split("/")[1].removeprefix("v1.")) < least:
            self._reply(Reply.of({"message": "client version is too old"}, HTTPStatus.BAD_REQUEST))
        elif name == "events":
            filters = json.loads(parse_qs(url.query)["filters"][0])
            if engine.dialect == "podman" and "network" in filters:
                self._reply(Reply.of({"message": "network is an invalid filter"}, HTTPStatus.INTERNAL_SERVER_ERROR))
            else:
                self._stream(filters)
        elif kind == "networks":
            self._reply(engine.inspect(name))
        else:
            self._reply(Reply.of({"message": "page not found"}, HTTPStatus.NOT_FOUND))
        if kind == "networks":
            engine.note_look()

    def _reply(self, reply: Reply) -> None:
        self.send_response(reply.status)
        self.send_header("Content-Type", "application/json")
        if reply.pause:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for octet in reply.body:
                self.wfile.write(b"1\r\n%c\r\n" % octet)
                time.sleep(reply.pause)
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)

    def _stream(self, filters: dict[str, list[str]]) -> None:
        engine = self.server.engine
        subscriber = engine.subscribe(filters)
        try:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "application/json")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            while octets := subscriber.stream.get():
                self.wfile.write(b"%x\r\n%s\r\n" % (len(octets), octets))
        finally:
            engine.unsubscribe([subscriber])
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Keep standard error to the tests."""
