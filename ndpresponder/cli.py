"""The commands. Usage errors end with status 2, run time errors with 1, each in one line."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from io import BufferedWriter, FileIO, TextIOWrapper
from ipaddress import IPv6Address
from pathlib import Path
from socket import if_nameindex
from typing import TYPE_CHECKING, Any, NoReturn

import click

from . import __version__, log
from .addresses import AddressSet
from .config import (
    DEFAULT_FILE,
    DOCKER_SDK,
    FEW_GROUPS,
    PROMETHEUS_CLIENT,
    Config,
    ConfigError,
    Interface,
    Multicast,
    may_be_group,
    may_be_ifname,
    parse_addresses,
    parse_endpoint,
    parse_networks,
)
from .filter import compile_filter, disassemble, numbers
from .policy import Override

if TYPE_CHECKING:
    from . import explain

_PREFIX_HELP = "IPv6 prefix or address to answer for; repeat it, or separate several with commas."
_EXCLUDE_HELP = "Prefix or address inside of those that is not answered; the longest match decides."
_LONGEST_SHOWN = 60
"""Characters of a wrong value that an error repeats."""
_ENDING = {signal.SIGINT, signal.SIGTERM}


def _ifname_of(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """Return the value of -i. Raises ConfigError for what no interface can be called: one would wait for it in vain."""
    if value and not may_be_ifname(value):
        raise ConfigError(f"-i {value[:_LONGEST_SHOWN]}: not the name of an interface")
    return value


def _completed(_context: click.Context, _option: click.Parameter, begun: str) -> list[str]:
    return [name for _, name in if_nameindex() if name.startswith(begun)]


def _ifname(text: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option("-i", "--ifname", metavar="NAME", callback=_ifname_of, shell_complete=_completed, help=text)


# Who may read it is for the one that does: its error has more to say.
_FILE = click.Path(readable=False)
_uplink = _ifname("The uplink: the interface where the router asks; auto: that of the default route.")
_subnets = click.option("-n", "--subnet", "subnets", multiple=True, metavar="PREFIX", help=_PREFIX_HELP)
_exclusions = click.option("-x", "--exclude", "exclusions", multiple=True, metavar="PREFIX", help=_EXCLUDE_HELP)
_json = click.option("-j", "--json", "as_json", is_flag=True, help="JSON objects, one on each line.")
_file = click.option(
    "-c",
    "--config",
    "path",
    type=_FILE,
    default=DEFAULT_FILE,
    show_default=True,
    metavar="FILE",
    help="The configuration file.",
)


def _choices(values: type[Override | Multicast | log.Format]) -> "click.Choice[str]":
    return click.Choice([member.value for member in values])


class _LevelOption(click.Option):
    """Names the environment variable in its errors too, as newer releases of click do by themselves."""

    def get_error_hint(self, _context: click.Context | None) -> str:
        """Return the names of this option."""
        return f"'{self.opts[0]}' (env var: '{self.envvar}')"


@click.group(
    invoke_without_command=True,
    # Older releases of click take the command for required.
    subcommand_metavar="[COMMAND] [ARGS]...",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Without a command it answers until it is stopped. Example: ndpresponder -i eth0 -n 2001:db8::/112",
)
@click.version_option(__version__)
@click.option(
    "-c",
    "--config",
    "path",
    type=_FILE,
    metavar="FILE",
    help="Read all of this, for several interfaces, from a configuration file; of the options below only those for "
    "the log go with it.",
)
@_uplink
@_subnets
@_exclusions
@click.option(
    "-N",
    "--docker-network",
    "docker_networks",
    multiple=True,
    metavar="NAME",
    help="Docker network whose containers to answer for, exactly, as they come and go; repeat it for several.",
)
@click.option(
    "--docker-unique-local",
    is_flag=True,
    help="Answer for the unique-local addresses (fc00::/7) of those containers, too.",
)
@click.option(
    "--router/--no-router",
    default=True,
    show_default=True,
    help="Whether answers have the Router flag: this host forwards to what it answers for.",
)
@click.option(
    "--override",
    type=_choices(Override),
    default=Override.AUTO.value,
    show_default=True,
    help="Whether answers have the Override flag, which displaces what the asker knew before.",
)
@click.option(
    "--multicast",
    type=_choices(Multicast),
    default=Multicast.AUTO.value,
    show_default=True,
    help="How multicast solicitations get here: all that arrives, joined groups, both (auto), or both and posing as a "
    "multicast router (mrd).",
)
@click.option(
    "--multicast-groups",
    "few_groups",
    type=click.IntRange(1, 65536),
    default=FEW_GROUPS,
    show_default=True,
    metavar="N",
    help="Join the groups of prefixes of up to so many addresses.",
)
@click.option(
    "--wait/--no-wait",
    default=True,
    show_default=True,
    help="Whether to wait for an interface that is missing or down, or to fail.",
)
@click.option(
    "--gateway",
    type=click.Choice(["auto", "off"]),
    default="auto",
    show_default=True,
    help="Whether to keep the gateway's neighbor entry usable where a filter keeps the kernel from it.",
)
@click.option(
    "--announce/--no-announce",
    default=True,
    show_default=True,
    help="Whether to tell the router, with -N, which addresses have come to live here.",
)
@click.option(
    "--metrics",
    metavar="ADDRESS:PORT",
    default="off",
    show_default=True,
    help="Where Prometheus finds metrics, at /metrics; 127.0.0.1:9108 or [::1]:9108 keep them on this host.",
)
@click.option(
    "--control-group",
    default="",
    metavar="GROUP",
    help="Who may ask with `ndpresponder status`, `explain` and `monitor`, beside root.",
)
@click.option(
    "--log-format",
    type=_choices(log.Format),
    default=log.Format.AUTO.value,
    show_default=True,
    help="Lines for people, JSON, or (auto) the former on a terminal and the latter elsewhere.",
)
@click.option(
    "--log-level",
    cls=_LevelOption,
    envvar="NDPRESPONDER_LOG",
    show_envvar=True,
    type=click.Choice(list(log.LEVELS), case_sensitive=False),
    default="INFO",
    show_default=True,
    help="What is logged: lines of this level and above; DEBUG has one for each answer.",
)
@click.pass_context
def _commands(context: click.Context, /, **options: Any) -> None:
    """Answer IPv6 neighbor solicitations for addresses that live behind this host.

    Each answer comes from the very address that was asked for, so that a provider's anti-spoofing filter lets it pass.
    """
    # From the beginning on they are blocked, SIGHUP until the daemon hears it.
    if context.invoked_subcommand is None:
        for number in _ENDING:
            signal.signal(number, _end)
        # Not so long: to read the file, or to say what is wrong with it, can take for ever.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
        path = options.pop("path")
        if path is None:
            _run(_from_flags(**options))
        else:
            _run_file(context, path)
        return
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP, *_ENDING})
    for name in options:
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"options before '{context.invoked_subcommand}' have no effect; write them behind it"
            )


def _end(*_: object) -> NoReturn:
    """End as the daemon does, which has not begun anything yet."""
    # An exception could get lost in a callback of the import system.
    os._exit(0)


def _from_flags(  # noqa: PLR0913 - one for each option
    *,
    ifname: str | None,
    subnets: tuple[str, ...],
    exclusions: tuple[str, ...],
    docker_networks: tuple[str, ...],
    docker_unique_local: bool,
    router: bool,
    override: str,
    multicast: str,
    few_groups: int,
    wait: bool,
    gateway: str,
    announce: bool,
    metrics: str,
    control_group: str,
    log_format: str,
    log_level: str,
) -> Config:
    if not ifname:
        from .station import interfaces  # noqa: PLC0415 - the other commands do without

        raise click.UsageError(f"name the uplink with -i, or a configuration file with -c; there are: {interfaces()}")
    networks = parse_networks(docker_networks)
    entries, remarks = parse_addresses(subnets, exclusions, more=bool(networks))
    interface = Interface(
        ifname,
        entries,
        router=router,
        override=Override(override),
        wait=wait,
        remarks=remarks,
        multicast=Multicast(multicast),
        few_groups=few_groups,
        keep_gateway=gateway == "auto",
        announce=announce,
        docker_networks=networks,
        docker_unique_local=docker_unique_local,
    )
    if not may_be_group(control_group):
        raise ConfigError(f"--control-group {control_group}: neither the name nor the number of a group")
    endpoint = parse_endpoint(metrics)
    for library, wanted in ((DOCKER_SDK, networks), (PROMETHEUS_CLIENT, endpoint)):
        if wanted and not library.is_installed():
            raise ConfigError(library.needed)
    return Config((interface,), log_level.upper(), log.Format(log_format), control_group, endpoint)


def _run_file(context: click.Context, path: str) -> None:
    """Answer as a configuration file says, and the options for the log, which come before it."""
    from .claim import Claim, find  # noqa: PLC0415 - only what reads a file pays for it
    from .file import read_file  # noqa: PLC0415 - the same

    given: dict[str, Any] = {}
    for option in context.command.params:
        source = context.get_parameter_source(option.name or "")
        if source not in {click.core.ParameterSource.COMMANDLINE, click.core.ParameterSource.ENVIRONMENT}:
            continue
        if option.name == "log_level":
            given["log_level"] = context.params["log_level"].upper()
        elif option.name == "log_format":
            given["log_format"] = log.Format(context.params["log_format"])
        elif option.name != "path":
            key = option.opts[-1].removeprefix("--")
            names = option.secondary_opts if context.params[option.name or ""] is False else option.opts
            raise click.UsageError(f"{names[0]} does not go with -c; {path} can say it, with the key {key}")

    def read() -> Config:
        return replace(read_file(path), **given)

    with ExitStack() as claimed:
        try:
            claimed.callback(Claim(path).close)
        except OSError as error:
            process = find(path)
            if process or isinstance(error, BlockingIOError):
                # With two of them, each solicitation is answered twice. The number of one in another container is 0.
                who = f"process {process}" if process else "another process"
                raise click.ClickException(
                    f"{who} runs with {path} already; `ndpresponder reload -c {path}` has it read that again"
                ) from error
            # Without a place in /run, who wants a reload has to know the process.
        _run(read(), read, _absolute(path))


def _run(config: Config, read_again: Callable[[], Config] | None = None, file: str | None = None) -> None:
    """Answer until that is stopped."""
    import asyncio  # noqa: PLC0415 - a third of the start; the other commands do without

    from . import daemon  # noqa: PLC0415 - the same
    from .station import DaemonError  # noqa: PLC0415 - the same

    log.wait_for_nobody()
    log.setup(log.LEVELS[config.log_level], config.log_format)
    try:
        asyncio.run(daemon.run(config, read_again, file))
    except (ConfigError, DaemonError) as error:
        log.fatal("failed", str(error))
        # What does not mend itself is not to be started again and again.
        sys.exit(2 if isinstance(error, ConfigError) else 1)


@_commands.command("check")
@_file
def _check(path: str) -> None:
    """Read a configuration file, and print what would be answered on which interface."""
    from .control import has_group  # noqa: PLC0415 - only what reads a file pays for it
    from .file import read_file  # noqa: PLC0415 - the same
    from .report import report  # noqa: PLC0415 - the same

    config = read_file(path)
    here = {name for _, name in if_nameindex()}
    for line in report(config, here, has_group=has_group(config.control_group)):
        click.echo(line)


@_commands.command("reload")
@_file
def _reload(path: str) -> None:
    """Have the process that runs with a configuration file read it again, if nothing is wrong with it."""
    from .claim import DIRECTORY, find, is_closed  # noqa: PLC0415 - only what reads a file pays for it
    from .client import ClientError, outcome, reloads  # noqa: PLC0415 - the same
    from .file import read_file  # noqa: PLC0415 - the same

    read_file(path)
    process = find(path)
    if process is None and is_closed():
        raise click.ClickException(f"{DIRECTORY}: permission denied; root may reload")
    if process is None:
        raise click.ClickException(
            f"no process is known to run with {path}; SIGHUP has one that is not known read its file again"
        )
    # Before the signal, or it could be over before anybody listens.
    stream = reloads(process, _absolute(path))
    try:
        os.kill(process, signal.SIGHUP)
    except OSError as error:
        raise click.ClickException(f"process {process}, which runs with {path}: {error.strerror}") from error
    if stream is None:
        click.echo(f"process {process} reads {path} again; its log says what comes of it")
        return
    try:
        with closing(stream):
            click.echo(f"process {process} has read {path} again: {outcome(stream)}")
    except ClientError as error:
        raise click.ClickException(f"process {process} {error}") from error


@_commands.command("status")
@click.option("-c", "--config", "path", type=_FILE, metavar="FILE", help="Only of the daemon that reads this file.")
@_ifname("Only of this interface.")
@click.option("-j", "--json", "as_json", is_flag=True, help="A line of JSON for each daemon.")
@click.option(
    "--watch", is_flag=True, help="Again each second, until it is interrupted, whether there is a daemon or not."
)
def _status(*, path: str | None, ifname: str | None, as_json: bool, watch: bool) -> None:
    """Print what the daemons of this host are at: what they answer for, how often, and what stands in the way."""
    terminal = sys.stdout.isatty()
    coloured = terminal and not os.environ.get("NO_COLOR")
    while watch:
        warnings: list[str] = []
        lines: list[str] = []
        try:
            lines += _status_lines(path, ifname, warnings.append, as_json=as_json, coloured=coloured)
        except click.ClickException as error:
            # As while it is started again, which is what one watches.
            warnings.append(error.message)
        # All at once: what flickers is hard to read.
        click.echo(("\033[H\033[J" if terminal else "") + "".join(f"{line}\n" for line in lines), nl=False)
        _say(warnings)
        time.sleep(1)
    click.echo("\n".join(_status_lines(path, ifname, _warn, as_json=as_json, coloured=coloured)))


def _status_lines(
    path: str | None, ifname: str | None, warn: Callable[[str], object], *, as_json: bool, coloured: bool
) -> Iterable[str]:
    from .client import ClientError, ask  # noqa: PLC0415 - only what asks pays for it
    from .status import Report, narrowed  # noqa: PLC0415 - the same

    try:
        asked = ask("status", warn)
    except ClientError as error:
        raise click.ClickException(str(error)) from error
    replies = narrowed(asked, _absolute(path), ifname)
    if not replies:
        if ifname:
            raise click.ClickException(f"no daemon was found that answers on {ifname}")
        files = sorted({reply["file"] for reply in asked if reply["file"]})
        raise click.ClickException(f"none reads {path}; what they read: {log.some(files) or 'no file'}")
    return map(json.dumps, replies) if as_json else Report(coloured=coloured).lines(replies)


@_commands.command("explain")
@click.argument("text", metavar="ADDRESS")
@click.option(
    "-c", "--config", "path", type=_FILE, metavar="FILE", help="Ask the daemon that reads this file; or take the file."
)
@_ifname("Ask about this interface; or, with -n, without a daemon.")
@_subnets
@_exclusions
@_json
def _explain(  # noqa: PLR0913 - one for each option
    *,
    text: str,
    path: str | None,
    ifname: str | None,
    subnets: tuple[str, ...],
    exclusions: tuple[str, ...],
    as_json: bool,
) -> None:
    """Say whether and by what an address is answered for, and what else stands in its way on this host.

    A daemon that runs is asked. Without one, -c names a configuration file, or -i, -n and -x say what one would do.

    Exits with 0 when it is answered for and nothing is in the way, with 3 when it is not or something is, with 1 when
    it cannot look.
    """
    from . import doctor, explain  # noqa: PLC0415 - the other commands do without
    from .client import ClientError  # noqa: PLC0415 - the same

    try:
        address = IPv6Address(text)
    except ValueError as error:
        raise click.UsageError(f"{text}: not an IPv6 address ({error})") from error
    if address.scope_id:
        raise click.UsageError(f"{text}: an address with a zone is link-local, and never answered for")
    if (subnets or exclusions) and (path or not ifname):
        raise click.UsageError("-n and -x go with -i, and without -c: they say what a daemon there would do")
    try:
        ended = explain.run(
            address,
            _fates(address, path, ifname, subnets, exclusions),
            doctor.Json() if as_json else doctor.Text(),
        )
    except (doctor.DoctorError, ClientError) as error:
        raise click.ClickException(str(error)) from error
    sys.exit(ended.value)


def _fates(
    address: IPv6Address, path: str | None, ifname: str | None, subnets: tuple[str, ...], exclusions: tuple[str, ...]
) -> "list[explain.Fate]":
    """Tell what becomes of an address: what a daemon says, or a configuration."""
    from . import explain  # noqa: PLC0415 - the other commands do without
    from .client import ClientError, NoDaemonError  # noqa: PLC0415 - the same
    from .file import read_file  # noqa: PLC0415 - the same

    if ifname and (subnets or exclusions):
        entries, _ = parse_addresses(subnets, exclusions)
        return list(explain.of_configuration(address, Config((Interface(ifname, entries),)), None))
    file = _absolute(path)
    try:
        fates = explain.of_daemons(address, file, ifname, _warn)
    except NoDaemonError as error:
        if not path:
            raise ClientError(f"{error}; with -c FILE, or -i NAME -n PREFIX, none is needed") from error
        fates = []
    if path and not fates:
        fates = list(explain.of_configuration(address, read_file(path), file))
        fates = [each for each in fates if ifname in (None, each["interface"], each["ifname"])]
    if not fates:
        where = f"{path} has no interface {ifname}" if path else f"no daemon was found that answers on {ifname}"
        raise ClientError(f"{where}; with -i NAME -n PREFIX none is needed")
    return fates


@_commands.command("monitor")
@_ifname("Only on this interface.")
@click.option("-j", "--json", "as_json", is_flag=True, help="A line of JSON for each solicitation.")
@click.option(
    "-w", "--write", "path", type=_FILE, metavar="FILE", help="Write a pcap file, as tcpdump does; -: standard output."
)
def _monitor(*, ifname: str | None, as_json: bool, path: str | None) -> None:
    """Print solicitations and answers as they pass, and why there is no answer, until it is interrupted."""
    from . import monitor  # noqa: PLC0415 - only what asks pays for it
    from .client import ClientError, follow  # noqa: PLC0415 - the same
    from .sight import PCAP_HEADER  # noqa: PLC0415 - the same

    if as_json and path:
        raise click.UsageError("-j and -w exclude each other: a pcap file has no room for more than frames")
    try:
        streams = follow("monitor", _warn)
        ifnames = sorted({name for stream in streams for name in stream.reply["interfaces"]})
        if ifname and ifname not in ifnames:
            raise click.ClickException(f"no daemon was found that answers on {ifname}")
        with ExitStack() as opened, suppress(KeyboardInterrupt):
            outlet = sys.stdout.fileno()
            if path and path != "-":
                outlet = opened.enter_context(Path(path).open("wb", buffering=0)).fileno()
            if path:
                os.write(outlet, PCAP_HEADER)
            click.echo(f"watching {ifname or log.some(ifnames)}", err=True)
            form = monitor.for_file if path else monitor.for_programs if as_json else monitor.for_people
            monitor.show(streams, ifname, form, outlet)
    except ClientError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{path or 'standard output'}: {error.strerror}") from error


@_commands.command("import-ndppd")
@click.argument("path", type=_FILE, metavar="FILE")
def _import_ndppd(path: str) -> None:
    """Print the configuration file that does what one of ndppd, such as /etc/ndppd.conf, says.

    Rules that are static become prefixes to answer for; what has no equivalent becomes a comment.
    """
    from .file import contents  # noqa: PLC0415 - only what reads a file pays for it
    from .ndppd import convert  # noqa: PLC0415 - the same

    text, interfaces = convert(contents(path), path)
    click.echo(text, nl=False)
    if not interfaces:
        raise ConfigError(f"{path}: no static rule: there is nothing that can be answered for without asking inside")


@_commands.command("filter")
@_subnets
@_exclusions
@click.option("--ddd", "as_numbers", is_flag=True, help="Decimal numbers after their count, as tcpdump -ddd prints.")
def _filter(subnets: tuple[str, ...], exclusions: tuple[str, ...], *, as_numbers: bool) -> None:
    """Print the kernel filter for these prefixes, in the wording of tcpdump -d."""
    entries, remarks = parse_addresses(subnets, exclusions)
    _say(remarks)
    compiled = compile_filter(AddressSet(entries))
    if not compiled.exact:
        _say(["wider than the prefixes: more would not fit the kernel's limit"])
    click.echo((numbers if as_numbers else disassemble)(compiled.instructions), nl=False)


@_commands.command("doctor")
@_uplink
@click.option(
    "-n",
    "--subnet",
    "subnets",
    multiple=True,
    metavar="PREFIX",
    help="IPv6 prefix or address that lives behind this host; without: the uplink's on-link prefixes.",
)
@click.option(
    "-N",
    "--docker-network",
    "docker_networks",
    multiple=True,
    metavar="NAME",
    help="Docker network whose IPv6 prefix lives behind this host.",
)
@click.option(
    "--listen",
    "seconds",
    type=click.IntRange(0, 3600),
    default=30,
    show_default=True,
    metavar="SECONDS",
    help="How long to listen for the router; 0: not at all.",
)
@_json
def _doctor(
    ifname: str | None, subnets: tuple[str, ...], docker_networks: tuple[str, ...], seconds: int, *, as_json: bool
) -> None:
    """Find out whether a responder is needed here, and why it does not work.

    Exits with 0 when all is well, with 3 when a problem was found, with 1 when it cannot look.
    """
    from . import doctor  # noqa: PLC0415 - the other commands do without
    from .station import interfaces  # noqa: PLC0415 - the same

    if not ifname:
        raise click.UsageError(f"name the uplink with -i; there are: {interfaces()}")
    entries, remarks = parse_addresses(subnets, ()) if subnets else ((), ())
    _say(remarks)
    try:
        ended = doctor.run(
            ifname,
            [entry.prefix for entry in entries],
            parse_networks(docker_networks),
            seconds,
            doctor.Json() if as_json else doctor.Text(),
        )
    except doctor.DoctorError as error:
        raise click.ClickException(str(error)) from error
    sys.exit(ended.value)


def main() -> NoReturn:
    """Run the command line and exit."""
    _open_streams()
    try:
        _commands.main(prog_name="ndpresponder", standalone_mode=False)
    except ConfigError as error:
        _complain(str(error), 2)
    except click.ClickException as error:
        # Those of usage have 2, others 1.
        _complain(error.format_message(), error.exit_code)
    except click.Abort:
        sys.exit(130)
    sys.exit(0)


class _Output(FileIO):
    """Standard output, whose errors are of another kind than all others."""

    def write(self, octets: Any, /) -> int:
        """Write as much as there is room for."""
        try:
            return super().write(octets)
        except BrokenPipeError:
            # Known to click: that nobody reads any more is no error.
            raise
        except OSError as error:
            _give_up(self.fileno())
            raise click.ClickException(f"standard output: {error.strerror}") from error


def _open_streams() -> None:
    """Have standard streams that take any text, also where whoever started this has closed them.

    Otherwise the next file or socket would get the number of one, and what is written to that.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free: open(2).
            os.open(os.devnull, os.O_RDWR)
    # File names need not be UTF-8, nor what the terminal takes.
    errors = "backslashreplace"
    encoding = sys.stdout.encoding if sys.stdout else None
    sys.stdout = TextIOWrapper(BufferedWriter(_Output(1, "w", closefd=False)), encoding, errors)
    sys.stderr = sys.stderr or os.fdopen(2, "w", 1, encoding, errors, closefd=False)


def _give_up(number: int) -> None:
    """Let go of what cannot be written, or the interpreter tries it again at the end, and has an error of its own."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)


def _complain(message: str, status: int) -> NoReturn:
    _say([message])
    sys.exit(status)


def _say(messages: Iterable[str]) -> None:
    """Write to standard error, a line each."""
    try:
        for message in messages:
            # What it repeats may have more of them.
            line = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in message)
            click.echo(f"ndpresponder: {line}", err=True)
    except OSError:
        # There is no other place to say it.
        _give_up(sys.stderr.fileno())


def _warn(message: str) -> None:
    """Say what does not keep a command from its work."""
    _say([f"warning: {message}"])


def _absolute(path: str | None) -> str | None:
    """Return the path of a file as a daemon tells it."""
    from .claim import absolute  # noqa: PLC0415 - only what reads a file or asks pays for it

    return absolute(path) if path else None
