"""The complaints themselves, from the public issue trackers of svix, outpost, convoy, hook0 and of who builds on them.

Invariant: each of them is named in the docstring of at least one test, so that none loses its test unnoticed.
"""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

ISSUES = (
    *(
        "svix#671",
        "svix#792",
        "svix#1511",
        "svix#1844",
        "svix#1933",
        "svix#1967",
        "svix#2058",
        "svix#2181",
        "svix#2199",
    ),
    *("svix#2539", "SVIXSEC-2026-0001"),
    *("outpost#249", "outpost#314", "outpost#461", "outpost#486", "outpost#558", "outpost#596", "outpost#663"),
    *("outpost#670", "outpost#719", "outpost#845", "outpost#998", "outpost#1014", "outpost#1027"),
    *("convoy#381", "convoy#1525", "convoy#1667", "convoy#1833", "convoy#1926", "convoy#2251"),
    *("polar#6771", "open-wearables#1610"),
)
MISTAKES = (
    "Lock lifetime equal to the request's time-out",
    "Commit, then enqueue, without an outbox",
    "A lock released without its owner's token",
    "Move, then remove, in a delayed queue",
    "A body read outside the time-out",
    "Jitter that makes a retry early",
    "Retries without jitter",
    "A rate limit that is stored and never enforced",
    "Redirects followed",
    "metadata service only",
    "Notice before disabling",
    "Pages that need a cloud",
)
"""What is common to several of them, in the words of the tests."""


@cache
def _told() -> str:
    """The docstrings of all tests but this one, as one line."""
    texts = [
        ast.get_docstring(node) or ""
        for path in TESTS.rglob("test_*.py")
        if path != Path(__file__)
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    ]
    return " ".join(" ".join(texts).split())


@pytest.mark.parametrize("complaint", ISSUES + MISTAKES)
def test_every_complaint_has_a_test_that_names_it(complaint: str) -> None:
    """Neither an issue nor a mistake that is common to several goes without a test."""
    assert re.search(rf"{re.escape(complaint)}\b", _told())
