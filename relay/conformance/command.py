"""The command line of `relay conformance`.

The invariant: exit code 0 means that nothing failed (there may be warnings), 1 that something did or that nobody
answered, 2 that the command was misused. Neither the key nor the URL's query, which may hold a token, is printed.
"""

import argparse
import json
import secrets
import time
from collections.abc import Mapping
from typing import Final, TextIO

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from relay import __version__
from relay.conformance.exam import Exam, UnreachableError
from relay.conformance.forge import Forge
from relay.conformance.report import Report
from relay.core.addresses import EVERYWHERE, check_url
from relay.core.errors import RelayError
from relay.core.signing import format_private_key, format_public_key, signing_key
from relay.egress import Sender
from relay.terminal import Paint

TIMEOUT_S: Final = 15.0
_LEAST_TIMEOUT_S, _MOST_TIMEOUT_S = 1, 60
_KEY_BYTES: Final = 32
_DESCRIPTION: Final = """\
Examines a receiver of yours: sends it genuine webhooks and ones that something is wrong with, and says what to mend.
The URL may be plain http and on any address, this machine included. Genuine webhooks look like real ones (the examples
of GET /v1/event-types): point it at an installation for tests.
"""
_EPILOG: Final = """\
exit codes: 0 all passed, 1 something failed or nobody answered, 2 wrong usage

examples:
  relay conformance http://127.0.0.1:3000/hooks --secret whsec_…
  relay conformance https://lms.example.org/hooks --secret "$SECRET" --header "X-Tenant: a" --json
      in CI: one JSON object on stdout
  relay conformance --v1a
      makes an ed25519 pair: give its whpk_… to the receiver, then run with --secret whsk_…
"""


class UsageError(RelayError):
    """The arguments do not say what to do; the message says how to say it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give a parser the arguments of `relay conformance`."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("url", nargs="?", metavar="URL", help="where the receiver takes webhooks")
    parser.add_argument("--secret", metavar="KEY", help="sign with this secret (whsec_…) or private key (whsk_…)")
    parser.add_argument("--v1a", action="store_true", help="make a pair of keys for an ed25519 receiver, and end")
    parser.add_argument(
        "--header", action="append", default=[], metavar="'NAME: VALUE'", help="send this too; may be repeated"
    )
    parser.add_argument(
        "--timeout",
        default=TIMEOUT_S,
        type=_timeout,
        metavar="SECONDS",
        help=f"for each answer, 1 to 60, as the subscriber's timeout_s (default: {TIMEOUT_S:g})",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")


async def run(arguments: argparse.Namespace, out: TextIO, err: TextIO, paint: Paint) -> int:
    """Do what the arguments ask for and return the exit code; raises `RelayError` for wrong ones."""
    if arguments.v1a:
        if arguments.url or arguments.secret:
            raise UsageError("--v1a only makes keys: then run `relay conformance URL --secret whsk_…`")
        out.write(_new_keys(as_json=arguments.json))
        return 0
    if not arguments.url or not arguments.secret:
        raise UsageError("name the receiver and its key: relay conformance URL --secret whsec_…")
    url = check_url(arguments.url, allow_http=True, allow=EVERYWHERE).url
    forge = _forge(arguments.secret, dict(map(_header, arguments.header)))
    report = Report(url.partition("?")[0], forge.scheme, out, err, None if arguments.json else paint)
    async with Sender(allow=EVERYWHERE, allow_http=True, user_agent=f"relay/{__version__} conformance") as sender:
        try:
            async for result in Exam(sender, forge, url, timeout_s=arguments.timeout).results():
                report.add(result)
        except UnreachableError as error:
            report.end(str(error))
            return 1
    report.end()
    return 0 if report.passed else 1


def _forge(secret: str, headers: Mapping[str, str]) -> Forge:
    key = signing_key(secret)
    stranger = Ed25519PrivateKey.generate() if isinstance(key, Ed25519PrivateKey) else secrets.token_bytes(_KEY_BYTES)
    return Forge(key, stranger, secrets.token_hex(8), time.time, headers)


def _new_keys(*, as_json: bool) -> str:
    """Write a pair of keys, with what to do with each."""
    key = Ed25519PrivateKey.generate()
    private, public = format_private_key(key), format_public_key(key.public_key())
    if as_json:
        return json.dumps({"private_key": private, "public_key": public}) + "\n"
    return (
        f"public key   {public}\n             for the receiver, in the place of its subscription's public_key\n"
        f"private key  {private}\n             then: relay conformance URL --secret whsk_…\n"
    )


def _header(line: str) -> tuple[str, str]:
    name, colon, text = line.partition(":")
    if not colon or not name.strip():
        raise UsageError("--header: write 'NAME: VALUE'")
    return name.strip(), text.strip()


def _timeout(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not _LEAST_TIMEOUT_S <= seconds <= _MOST_TIMEOUT_S:
        raise argparse.ArgumentTypeError(f"{text} is not {_LEAST_TIMEOUT_S} to {_MOST_TIMEOUT_S} seconds")
    return seconds
