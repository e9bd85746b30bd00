"""The `relay` command: arguments → settings → run. Exit codes: 0 clean, 1 a loop died, 2 configuration."""

import argparse
import asyncio
import contextlib
import errno
import json
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from relay import __version__, app, conformance, identity, listen, upstreams
from relay.core.errors import RelayError
from relay.settings import Address, Settings, effective, load
from relay.telemetry import configure_logging
from relay.terminal import paint_for


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; whatever is wrong with its configuration is a line on stderr."""
    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except RelayError as error:
        for line in str(error).splitlines():
            print(f"relay: {line}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:  # `relay conformance … | head -3`: what is left in the buffer has nowhere to go
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def _run(arguments: argparse.Namespace) -> int:
    settings = _settings(arguments)
    configure_logging(settings.log.format, settings.log.level)
    roles = _roles(arguments.roles)
    return asyncio.run(app.run(settings, roles, sandbox=arguments.sandbox, announce=_announce))


def _check_config(arguments: argparse.Namespace) -> int:
    settings = _settings(arguments)
    if not settings.sources:
        print("relay: no source is configured; `relay run` needs one, or --sandbox", file=sys.stderr)
    print(json.dumps(effective(settings), indent=2))
    return 0


def _sandbox(arguments: argparse.Namespace) -> int:
    async def serve() -> int:
        sandbox = await upstreams.start_sandbox(Address(host=arguments.host, port=arguments.port))
        print(f"Lab on Demand  {sandbox.lod_url}")
        print(f"Learnosity     {sandbox.learnosity_url}")
        print(f"control        {sandbox.control_url}")
        print(f"\nThe sources of a relay that polls it:\n\n{upstreams.sandbox_toml(sandbox)}\n", flush=True)
        await _until_stopped()
        await sandbox.stop()
        return 0

    return asyncio.run(serve())


def _listen(arguments: argparse.Namespace) -> int:
    async def serve() -> int:
        stop = asyncio.Event()
        receiver = listen.Listener(
            host=arguments.host,
            port=arguments.port,
            secrets=arguments.secret or _sandbox_secrets(),
            as_json=arguments.json,
            out=sys.stdout,
            behaviour=listen.behaviour_of(arguments),
            paint=paint_for(sys.stdout, os.environ),
            gone=stop.set,
        )
        try:
            await receiver.start()
        except OSError as error:
            where = Address(host=arguments.host, port=arguments.port)
            option = "--port" if error.errno in (errno.EADDRINUSE, errno.EACCES) else "--host"
            raise RelayError(f"cannot listen on {where} ({upstreams.why_not(error)}); try another {option}") from None
        await _until_stopped(stop)
        await receiver.stop()
        print(f"relay: {receiver.summary()}", file=sys.stderr)
        return 0

    return asyncio.run(serve())


def _conformance(arguments: argparse.Namespace) -> int:
    try:
        return asyncio.run(conformance.run(arguments, sys.stdout, sys.stderr, paint_for(sys.stdout, os.environ)))
    except KeyboardInterrupt:
        return 1  # nothing was found out


def _sandbox_secrets() -> list[str]:
    """The secret of the sandbox that runs in this directory, if one has ever run here."""
    data_dir = Path(os.environ.get("RELAY_DATA_DIR", Settings.model_fields["data_dir"].default))
    if not identity.sandbox_secret_file(data_dir).exists():
        return []
    print(f"checking signatures with the sandbox's secret ({identity.sandbox_secret_file(data_dir)});", file=sys.stderr)
    print("for a subscriber with a secret of its own: --secret whsec_…", file=sys.stderr)
    return [identity.sandbox_secret(data_dir)]


async def _until_stopped(stop: asyncio.Event | None = None) -> None:
    stop = stop or asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()


def _settings(arguments: argparse.Namespace) -> Settings:
    return load(Path(arguments.config) if arguments.config else None, os.environ)


def _roles(text: str) -> frozenset[str]:
    roles = frozenset(part.strip() for part in text.split(",") if part.strip())
    if unknown := sorted(roles - set(app.ALL_ROLES)):
        raise RelayError(f"--roles: {unknown[0]} is not a role; choose among {', '.join(app.ALL_ROLES)}")
    if not roles:
        raise RelayError(f"--roles: name at least one of {', '.join(app.ALL_ROLES)}")
    return roles


def _announce(settings: Settings) -> None:
    """Say where everything is, with lines that are ready to paste."""
    command = _command()
    if settings.admin_tokens:
        token, where = "$ADMIN_TOKEN", "one of RELAY_ADMIN_TOKENS"
    else:
        path = identity.token_file(settings.data_dir)
        token, where = f"$(cat {shlex.quote(str(path))})", str(path)
    lines = [
        f"relay {__version__} is up",
        f"  console    http://{settings.listen}/",
        f"  admin API  http://{settings.listen}   token: {where}",
        f"  health     http://{settings.ops_listen}/readyz   metrics: /metrics",
        *(f"  source     {name}: {source.base_url}" for name, source in settings.sources.items()),
    ]
    if settings.egress.allow_http:
        lines += [
            "",
            "See events arrive: in a second terminal, a receiver that prints them,",
            "",
            f"    {command} listen --port 9000",
            "",
            "and in a third one, its subscription:",
            "",
            f"    curl -X POST http://{settings.listen}/v1/subscribers \\",
            f'      -H "Authorization: Bearer {token}" -H "Content-Type: application/json" \\',
            """      -d '{"url": "http://127.0.0.1:9000/", "event_types": ["*"]}'""",
        ]
    with contextlib.suppress(BrokenPipeError):
        print("\n".join([*lines, ""]), flush=True)


def _command() -> str:
    """How this command was called, ready to paste."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m relay"
    return shlex.quote(os.path.relpath(called)) if called.exists() else "relay"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="relay", description="Webhook relay for learning systems.")
    parser.add_argument("--version", action="version", version=f"relay {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="the service")
    run.add_argument("--config", metavar="FILE", help="a TOML file; RELAY_* variables go over it")
    run.add_argument(
        "--sandbox", action="store_true", help="poll simulated upstreams, allow subscribers on this machine"
    )
    run.add_argument(
        "--roles", default=",".join(app.ALL_ROLES), metavar="ROLES", help="some of poll,deliver,api (default: all)"
    )
    run.set_defaults(run=_run)

    check = commands.add_parser("check-config", help="validate the settings and print them, secrets masked")
    check.add_argument("--config", metavar="FILE", help="a TOML file; RELAY_* variables go over it")
    check.set_defaults(run=_check_config)

    sandbox = commands.add_parser("sandbox", help="the simulated upstreams alone")
    sandbox.add_argument("--host", default="127.0.0.1", metavar="HOST", help="where to listen (default: 127.0.0.1)")
    sandbox.add_argument("--port", default=upstreams.SANDBOX_PORT, type=_port, metavar="PORT", help="default: 8090")
    sandbox.set_defaults(run=_sandbox)

    receiver = commands.add_parser("listen", help="a receiver for development that verifies signatures")
    receiver.add_argument("--host", default="127.0.0.1", metavar="HOST", help="where to listen (default: 127.0.0.1)")
    receiver.add_argument("--port", default=9000, type=_port, metavar="PORT", help="default: 9000")
    listen.add_arguments(receiver)
    receiver.set_defaults(run=_listen)

    exam = commands.add_parser("conformance", help="examine a receiver of yours, and say what to mend")
    conformance.add_arguments(exam)
    exam.set_defaults(run=_conformance)
    return parser


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:  # noqa: PLR2004 - the highest port
        raise argparse.ArgumentTypeError(f"{text} is not a port (0 to 65535)")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
