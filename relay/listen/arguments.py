"""The command line of `relay listen`."""

import argparse
from typing import Final

from relay.listen.receiver import Behaviour

_LOWEST_STATUS, _HIGHEST_STATUS = 200, 599
_DESCRIPTION: Final = """\
A receiver for development: verifies the signature of each webhook and prints it on one line. Beside a sandbox
it finds the sandbox's secret by itself. Ctrl-C ends it.
"""
_EPILOG: Final = """\
examples:
  relay listen
      what `make run` invites to: every webhook of the sandbox, verified
  relay listen --secret whsec_NEW --secret whsec_OLD
      while a secret is being rotated; each line says which of them verified
  relay listen --public-key whpk_…
      for a subscriber with "signature": "v1a"
  relay listen --fail-rate 0.3 --delay 2
      see how retries, pauses and notices behave: 3 of 10 are answered 500, all of them after 2 s
  relay listen --status 410
      see what the relay makes of a status
  relay listen --forward http://127.0.0.1:3000/hooks
      verify and print, and let your application answer; it gets the same bytes and headers
  relay listen --json | jq -r 'select(.type == "lab.completed") | .entity.id'
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of `relay listen`, except for where it listens."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--secret",
        "--public-key",
        action="append",
        metavar="KEY",
        help="verify with this secret (whsec_…) or public key (whpk_…); may be repeated",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument(
        "--fail-rate", default=0.0, type=_share, metavar="SHARE", help="answer 500 to this share (0 to 1) of them"
    )
    parser.add_argument("--delay", default=0.0, type=_seconds, metavar="SECONDS", help="wait before each answer")
    answer = parser.add_mutually_exclusive_group()
    answer.add_argument(
        "--status", default=204, type=_status, metavar="CODE", help="answer this to what was accepted (default: 204)"
    )
    answer.add_argument("--forward", metavar="URL", help="pass them on to this URL and answer what it answers")


def behaviour_of(arguments: argparse.Namespace) -> Behaviour:
    """What the arguments ask for."""
    return Behaviour(
        status=arguments.status,
        fail_rate=arguments.fail_rate,
        delay_s=arguments.delay,
        forward=arguments.forward,
    )


def _share(text: str) -> float:
    share = _number(text)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not a share (0 to 1)")
    return share


def _seconds(text: str) -> float:
    seconds = _number(text)
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds (0 or more)")
    return seconds


def _status(text: str) -> int:
    if not text.isdigit() or not _LOWEST_STATUS <= int(text) <= _HIGHEST_STATUS:
        raise argparse.ArgumentTypeError(f"{text} is not a final HTTP status ({_LOWEST_STATUS} to {_HIGHEST_STATUS})")
    return int(text)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not a number") from None
