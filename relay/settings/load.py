"""Reading settings: a TOML file, `RELAY_*` variables over it, and any value from a mounted file (`…_FILE`).

Whatever is unknown is an error that names it, so a misspelt setting never silently means its default.
"""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from relay.core.errors import ConfigError
from relay.core.wording import plainly
from relay.settings.model import PREFIX, Settings


def load(config: Path | None, environment: Mapping[str, str]) -> Settings:
    """Settings from a file (or `RELAY_CONFIG`) and the environment; raises `ConfigError`, a line for each fault."""
    named = config or (Path(environment["RELAY_CONFIG"]) if environment.get("RELAY_CONFIG") else None)
    values = _read_toml(named) if named else {}
    origins: dict[tuple[str, ...], str] = {}
    for variable in sorted(environment):
        if variable.upper().startswith(PREFIX) and variable != "RELAY_CONFIG":
            _overlay(values, origins, variable, environment[variable])
    try:
        return Settings.model_validate(_read_files(values, ()))
    except ValidationError as error:
        raise ConfigError(_explain(error, origins, named)) from None


def effective(settings: Settings) -> dict[str, Any]:
    """The settings as plain values, secrets masked."""
    masked: dict[str, Any] = settings.model_dump(mode="json")
    return masked


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check --config or RELAY_CONFIG") from None
    except (ValueError, RecursionError) as error:
        # tomllib's own messages say where, and hold one character at most; another error's may hold more.
        reason = f": {error}" if isinstance(error, tomllib.TOMLDecodeError) else ""
        raise ConfigError(f"{path}: is not valid TOML{reason}") from None


def _overlay(values: dict[str, Any], origins: dict[tuple[str, ...], str], variable: str, text: str) -> None:
    """Put one variable's value where `__` says; a JSON list or object is read as such."""
    path = tuple(variable[len(PREFIX) :].lower().split("__"))
    table = values
    for part in path[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise ConfigError(f"{variable}: {part} is a single value, not a table")
    _displace(table, origins, path, variable)
    table[path[-1]] = _value(text, variable)
    origins[path] = variable


def _displace(
    table: dict[str, Any], origins: Mapping[tuple[str, ...], str], path: tuple[str, ...], variable: str
) -> None:
    """Let `name` take the place of the file's `name_file`, and the reverse: variables go over the file."""
    *parents, name = path
    rival = name.removesuffix("_file") if name.endswith("_file") else f"{name}_file"
    if origin := origins.get((*parents, rival)):
        raise ConfigError(f"{origin} and {variable} are both set; keep one of the two")
    if not any(path[:depth] in origins for depth in range(1, len(path))):  # else the table is a variable's, too
        table.pop(rival, None)


def _value(text: str, where: str) -> Any:
    """A JSON list or object, or the text itself: `[::1]:8080` is an address."""
    if text[:1] + text[-1:] not in ("[]", "{}"):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ConfigError(f"{where}: is in brackets like JSON but is not valid JSON") from None


def _read_files(values: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    """Replace every `name_file` by `name` with the file's content (a mounted secret), without its last newline."""
    read: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            read[name] = _read_files(value, (*path, name))
        elif name.endswith("_file") and isinstance(value, str):
            plain = name.removesuffix("_file")
            if plain in values:
                raise ConfigError(f"{'.'.join((*path, name))}: {plain} is set too; keep one of the two")
            read[plain] = _read_secret(Path(value), ".".join((*path, name)))
        else:
            read[name] = value
    return read


def _read_secret(path: Path, setting: str) -> Any:
    try:
        text = path.read_text("utf-8").rstrip("\r\n")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text, or not a path"
        raise ConfigError(_one_line(f"{setting}: {path} cannot be read ({reason})")) from None
    return _value(text, f"{setting}: {path}")


def _explain(error: ValidationError, origins: Mapping[tuple[str, ...], str], file: Path | None) -> str:
    """A line for each fault: which setting, where it came from, what is wrong. Never a value."""
    faults = error.errors(include_input=False, include_url=False)
    told: dict[str, str] = {}
    for where, advice in (_fault(one, origins, file) for one in faults):
        told.setdefault(where, _one_line(f"{where}: {advice}" if where else advice))
    return "\n".join(told.values())


def _fault(fault: ErrorDetails, origins: Mapping[tuple[str, ...], str], file: Path | None) -> tuple[str, str]:
    """Where it stands, and what is wrong there."""
    location = [str(part) for part in fault["loc"]]
    if location[:1] == ["sources"] and location[2:3] in (["lod"], ["learnosity"]):
        del location[2]  # the discriminator's own step in the path
    if location[-1:] == ["[key]"]:
        del location[-1]  # the name itself is wrong
    path = tuple(location)
    near = [known for known in origins if path and (known[: len(path)] == path or path[: len(known)] == known)]
    near += [(*path[:-1], f"{path[-1]}_file")] if path and (*path[:-1], f"{path[-1]}_file") in origins else []
    variable = origins[max(near, key=len)] if near else None
    where = variable or (f"{file}: {'.'.join(path)}" if file and path else ".".join(path))
    advice = {
        "extra_forbidden": "no such setting; check the spelling",
        "tuple_type": f'must be a list; in a variable, JSON: {PREFIX}{"__".join(path).upper()}=["…"]',
        "missing": f"is required{'' if variable else f' (or set {PREFIX}' + '__'.join(path).upper() + ')'}",
        "union_tag_not_found": 'needs kind = "lod" or kind = "learnosity"',
        "union_tag_invalid": 'kind must be "lod" or "learnosity"',
    }.get(fault["type"]) or plainly(fault["type"], fault["msg"], fault.get("ctx"))
    return where, advice


def _one_line(message: str) -> str:
    """A quoted key or a path may hold a line feed."""
    return "".join(char if char.isprintable() else "?" for char in message)
