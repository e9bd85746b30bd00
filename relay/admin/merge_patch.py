"""JSON Merge Patch (RFC 7396)."""

from collections.abc import Mapping
from typing import Any

from relay.admin.problems import FieldError, pointer
from relay.admin.requests import names
from relay.admin.subscriber_schema import FilterIn, SubscriberIn


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


def unknown_fields(patch: Mapping[str, Any]) -> list[FieldError]:
    """Fields that cannot be changed. The merge would let those pass whose value is null."""
    known = names(SubscriberIn)
    found: list[tuple[tuple[str, ...], list[str]]] = [((name,), known) for name in patch if name not in known]
    inner = patch.get("filter")
    if isinstance(inner, dict):
        conditions = names(FilterIn)
        found += [(("filter", name), conditions) for name in inner if name not in conditions]
    return [
        FieldError(pointer(where), f"there is no such field to change (there are: {', '.join(fields)})")
        for where, fields in found
    ]
