"""What is wrong with a value, in plain words: the validator's own messages speak of its types.

The invariant: no message holds a part of the value. It is made of the rule that the value broke.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

TIME = "must be a time as RFC 3339 writes it, with an offset"

_PLAIN: Mapping[str, str] = {
    "missing": "is required",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "timezone_aware": TIME,
    "datetime_type": TIME,
    "datetime_parsing": TIME,
}
_WORDS: Mapping[str, str] = {"True": "true", "False": "false", "None": "null"}


def plainly(kind: str, message: str, context: Mapping[str, Any] | None = None) -> str:
    """A fault as pydantic tells of it: its type, its message, and the rule's own figures."""
    known = context or {}
    if kind in _PLAIN:
        return _PLAIN[kind]
    if kind == "too_short":
        return _amount("at least", known["min_length"], "item")
    if kind == "too_long":
        return _amount("at most", known["max_length"], "item")
    if kind == "string_too_short":
        return _amount("at least", known["min_length"], "character")
    if kind == "string_too_long":
        return _amount("at most", known["max_length"], "character")
    if kind == "literal_error":
        expected = str(known["expected"])
        return f"must be {_WORDS.get(expected, expected)}"
    return message.removeprefix("Value error, ").replace("Input should", "must")


def among(name: str, known: list[str]) -> str:
    """What to say of a name that there is not: those there are, and which of them was probably meant."""
    near = get_close_matches(name.lower(), known, 1, 0.6)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{hint}there are: {', '.join(known)}"


def _amount(bound: str, count: int, noun: str) -> str:
    if (bound, count) == ("at least", 1):
        return "must not be empty"
    return f"must have {bound} {count:,} {noun}{'' if count == 1 else 's'}"
