"""JSON Merge Patch (RFC 7396) of a subscriber. Names of headers are told apart as HTTP does: case does not count."""

from collections.abc import Mapping
from typing import Any

from relay.admin.problems import FieldError, names, pointer
from relay.admin.subscriber_schema import HEADER_NAME, NO_HEADER_NAME, ONE_HEADER_TWICE, FilterIn, SubscriberIn
from relay.core.wording import among


def patched(subscriber: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """A subscriber with `patch` applied; a header that it names takes the place of one in another case."""
    named = {name.lower() for name in _inner(patch, "headers")}
    headers = {name: value for name, value in subscriber["headers"].items() if name.lower() not in named}
    merged: dict[str, Any] = merge({**subscriber, "headers": headers}, patch)
    return merged


def merge(target: Any, patch: Any) -> Any:
    """`target` with `patch` applied: null removes (the default holds again), objects merge, the rest replaces."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), value)
    return merged


def faults(patch: Mapping[str, Any]) -> list[FieldError]:
    """Names that cannot be meant, whatever the patch is applied to: the merge would let them pass if they are null."""
    headers = _inner(patch, "headers")
    twice = len({name.lower() for name in headers}) < len(headers)
    return [
        *_unknown((), patch, names(SubscriberIn)),
        *_unknown(("filter",), _inner(patch, "filter"), names(FilterIn)),
        *(FieldError(pointer(("headers", one)), NO_HEADER_NAME) for one in headers if not HEADER_NAME.fullmatch(one)),
        *([FieldError("/headers", ONE_HEADER_TWICE)] if twice else []),
    ]


def _unknown(where: tuple[str, ...], patch: Mapping[str, Any], known: list[str]) -> list[FieldError]:
    return [
        FieldError(pointer((*where, name)), f"there is no such field to change ({among(name, known)})")
        for name in patch
        if name not in known
    ]


def _inner(patch: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    inner = patch.get(name)
    return inner if isinstance(inner, dict) else {}
