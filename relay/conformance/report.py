"""The examination's results: a table for people that grows row by row, or one JSON object for programs."""

import json
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final, TextIO

from relay.conformance.judge import Result, Verdict
from relay.terminal import Colour, Paint, printable

_MARKS: Final = {
    Verdict.PASS: ("✓ pass", Colour.GREEN),
    Verdict.WARN: ("! warn", Colour.YELLOW),
    Verdict.FAIL: ("✗ FAIL", Colour.RED),
    Verdict.SKIP: ("- skip", Colour.DIM),
}
_NAME, _SENT = 14, 45
_WIDTH: Final = 110
_INDENT: Final = " " * (len("✓ pass") + 2)


class Report:
    """Writes what becomes known: rows with `paint`, else one object at the end.

    A receiver that could not be examined at all is one line on `err`.
    """

    def __init__(self, url: str, scheme: str, out: TextIO, err: TextIO, paint: Paint | None) -> None:
        self._url = url
        self._scheme = scheme
        self._out = out
        self._err = err
        self._paint = paint
        self._results: list[Result] = []

    @property
    def passed(self) -> bool:
        """Whether nothing failed; what was skipped was skipped for a failure."""
        return all(result.verdict in (Verdict.PASS, Verdict.WARN) for result in self._results)

    def add(self, result: Result) -> None:
        """Take the next row."""
        if self._paint and not self._results:
            self._out.write(f"{self._url}  ({self._scheme})\n\n")
        self._results.append(result)
        if self._paint:
            self._out.write(_row(result, self._paint) + "\n")
            self._out.flush()

    def end(self, error: str | None = None) -> None:
        """Write the last line; `error` says why the receiver could not be examined."""
        if not self._paint:
            self._out.write(json.dumps(self._object(error)) + "\n")
        elif error:
            self._err.write(f"relay: no answer from {self._url}: {error}\n")
        else:
            self._out.write(f"\n{self._summary(self._paint)}\n")

    def _summary(self, paint: Paint) -> str:
        counts = Counter(result.verdict for result in self._results)
        words = {Verdict.PASS: "passed", Verdict.FAIL: "failed", Verdict.WARN: "warned", Verdict.SKIP: "skipped"}
        text = ", ".join(f"{counts[verdict]} {word}" for verdict, word in words.items() if counts[verdict])
        return paint(text, Colour.GREEN if self.passed else Colour.RED)

    def _object(self, error: str | None) -> dict[str, Any]:
        counts = Counter(result.verdict for result in self._results)
        return {
            "url": self._url,
            "scheme": self._scheme,
            "passed": error is None and self.passed,
            "error": error,
            "counts": {verdict: counts[verdict] for verdict in Verdict},
            "checks": [asdict(result) for result in self._results],
        }


def _row(result: Result, paint: Paint) -> str:
    """One row, with what to change below it."""
    mark, colour = _MARKS[result.verdict]
    first = f"{paint(mark, colour)}  {result.name:<{_NAME}} {result.sent:<{_SENT}} {printable(result.seen)}"
    below = [*_wrapped("mend", result.mend), *_wrapped("note", result.remark)]
    return "\n".join([first.rstrip(), *(paint(line, Colour.DIM) for line in below)])


def _wrapped(word: str, text: str) -> Sequence[str]:
    if not text:
        return ()
    start = f"{_INDENT}{word}: "
    return textwrap.wrap(text, _WIDTH, initial_indent=start, subsequent_indent=" " * len(start))
