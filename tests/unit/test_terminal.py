"""Text for a terminal: when it is coloured, and what may be in it."""

import io

import pytest

from relay.terminal import Colour, in_colour, paint_for, plain, printable


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say yes."""
        return True


@pytest.mark.parametrize(
    ("stream", "environment", "coloured"),
    [
        (Terminal(), {}, True),
        (Terminal(), {"NO_COLOR": ""}, True),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (Terminal(), {"TERM": "dumb"}, False),
        (io.StringIO(), {}, False),
    ],
)
def test_colours_are_for_terminals_whose_reader_wants_them(
    stream: io.StringIO, environment: dict[str, str], *, coloured: bool
) -> None:
    """A file or a pipe gets none, and NO_COLOR counts unless it is empty, as no-color.org says."""
    assert paint_for(stream, environment) is (in_colour if coloured else plain)


def test_a_colour_ends_with_its_text() -> None:
    """Nothing after it is coloured, and an empty text stays empty."""
    assert in_colour("a", Colour.RED) == "\x1b[31ma\x1b[0m"
    assert in_colour("", Colour.RED) == ""


def test_text_from_outside_cannot_steer_or_flood_the_terminal() -> None:
    """Control characters are replaced, and length is bounded."""
    assert printable("a\x1b[2J\n\u202eb") == "a�[2J��b"
    assert len(printable("x" * 1000)) == 120
    assert printable(None) == "-"
