"""Text for a terminal: colours where they are wanted, and nothing from outside that could steer it.

The invariant: what came over the network is written in printable characters and within a bound.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final, TextIO

_MAX_SHOWN: Final = 120


class Colour(StrEnum):
    """Parameters of SGR (ECMA-48, 8.3.117)."""

    RED = "31"
    GREEN = "32"
    YELLOW = "33"
    DIM = "2"
    BOLD = "1"


Paint = Callable[[str, Colour], str]
"""Writes a text in a colour, or as it is."""


def plain(text: str, _colour: Colour) -> str:
    """Leave the text as it is."""
    return text


def in_colour(text: str, colour: Colour) -> str:
    """Wrap a text in its colour's sequences."""
    return f"\x1b[{colour}m{text}\x1b[0m" if text else text


def paint_for(stream: TextIO, environment: Mapping[str, str]) -> Paint:
    """Colours on a terminal only, and not against the reader's wish (https://no-color.org)."""
    unwanted = environment.get("NO_COLOR") or environment.get("TERM") == "dumb"
    return in_colour if stream.isatty() and not unwanted else plain


def printable(value: Any, absent: str = "-") -> str:
    """Text that can neither steer a terminal nor flood it."""
    if value is None:
        return absent
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in str(value)[:_MAX_SHOWN])
