"""Every kind of wrong configuration ends with exit code 2 and one line that says what to change."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import free_port

GUID = "7d9a6d5e-3b0f-4f0a-9d0a-0f6f0c7f2b11"
GOOD: dict[str, Any] = {
    "RELAY_SOURCES__LOD__KIND": "lod",
    "RELAY_SOURCES__LOD__API_KEY": GUID,
    "RELAY_SOURCES__LOD__BASE_URL": "http://127.0.0.1:9/api/v3",
}
TOKENS = {"RELAY_ADMIN_TOKENS": ["a-token-that-is-long-enough"]}
KEYS = {"RELAY_ENCRYPTION_KEYS": ["AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="]}

WRONG: dict[str, tuple[Mapping[str, Any], str]] = {
    "no source": ({"-": "RELAY_SOURCES__LOD"}, "no source is configured"),
    "misspelt variable": ({"RELAY_LISTN": "127.0.0.1:1"}, "RELAY_LISTN: no such setting"),
    "misspelt nested variable": ({"RELAY_EGRESS__ALOW_HTTP": "true"}, "RELAY_EGRESS__ALOW_HTTP: no such setting"),
    "missing key": ({"-": "RELAY_SOURCES__LOD__API_KEY"}, "RELAY_SOURCES__LOD__API_KEY"),
    "unknown kind": ({"RELAY_SOURCES__LOD__KIND": "moodle"}, 'kind must be "lod" or "learnosity"'),
    "missing kind": ({"-": "RELAY_SOURCES__LOD__KIND"}, "kind"),
    "base URL without scheme": ({"RELAY_SOURCES__LOD__BASE_URL": "labondemand.com"}, "https://"),
    "base URL with a password": ({"RELAY_SOURCES__LOD__BASE_URL": "https://u:hidden@x.test"}, "password"),
    "interval of zero": ({"RELAY_SOURCES__LOD__INTERVAL_S": "0"}, "RELAY_SOURCES__LOD__INTERVAL_S"),
    "reserved source name": ({"RELAY_SOURCES": {"relay": {"kind": "lod", "api_key": GUID}}}, "choose another"),
    "listen address without port": ({"RELAY_LISTEN": "localhost"}, "host:port"),
    "port out of range": ({"RELAY_LISTEN": "127.0.0.1:70000"}, "RELAY_LISTEN"),
    "open to others without a token": ({"RELAY_LISTEN": "0.0.0.0:8080"}, "RELAY_ADMIN_TOKENS"),
    "same address twice": ({"RELAY_LISTEN": "127.0.0.1:8099", "RELAY_OPS_LISTEN": "127.0.0.1:8099"}, "ops_listen"),
    "short token": ({"RELAY_ADMIN_TOKENS": ["hidden"]}, "at least 16"),
    "token that is no list": ({"RELAY_ADMIN_TOKENS": "a-token-that-is-long-enough"}, "JSON"),
    "broken JSON": ({"RELAY_ADMIN_TOKENS": '["hidden'}, "JSON"),
    "encryption key of the wrong length": ({"RELAY_ENCRYPTION_KEYS": ["aGlkZGVu"]}, "32 bytes"),
    "encryption key that is no base64": ({"RELAY_ENCRYPTION_KEYS": ["hidden!"]}, "base64"),
    "store of an unknown kind": ({"RELAY_REDIS_URL": "postgres://h/hidden", **TOKENS, **KEYS}, "redis://"),
    "store without keys": ({"RELAY_REDIS_URL": "redis://127.0.0.1:9", **TOKENS}, "RELAY_ENCRYPTION_KEYS"),
    "store that is down": ({"RELAY_REDIS_URL": "redis://:hidden@127.0.0.1:9", **TOKENS, **KEYS}, "cannot be reached"),
    "retry schedule of nothing": ({"RELAY_RETRY__SCHEDULE_S": []}, "RELAY_RETRY__SCHEDULE_S"),
    "negative retry delay": ({"RELAY_RETRY__SCHEDULE_S": [5, -1]}, "RELAY_RETRY__SCHEDULE_S"),
    "range with host bits": ({"RELAY_EGRESS__ALLOW_CIDRS": ["10.0.0.1/8"]}, "10.0.0.0/8"),
    "secret file that is not there": (
        {"-": "RELAY_SOURCES__LOD__API_KEY", "RELAY_SOURCES__LOD__API_KEY_FILE": "/nowhere/key"},
        "/nowhere/key cannot be read",
    ),
    "secret and its file": ({"RELAY_SOURCES__LOD__API_KEY_FILE": "/nowhere/key"}, "keep one of the two"),
    "config file that is not there": ({"RELAY_CONFIG": "/nowhere/relay.toml"}, "/nowhere/relay.toml: cannot be read"),
    "data directory that is a file": ({"RELAY_DATA_DIR": __file__}, "not a directory"),
}


def _run(environment: Mapping[str, Any], tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    covered = {name: value for name, value in os.environ.items() if not name.startswith("RELAY_")}
    defaults = {
        "RELAY_DATA_DIR": str(tmp_path / "data"),
        "RELAY_LISTEN": f"127.0.0.1:{free_port()}",
        "RELAY_OPS_LISTEN": f"127.0.0.1:{free_port()}",
    }
    given = {**defaults, **environment}
    variables = {name: value if isinstance(value, str) else json.dumps(value) for name, value in given.items()}
    return subprocess.run(
        [sys.executable, "-m", "relay", *(arguments or ("run",))],
        env={**covered, **variables},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_configuration_exits_2_with_one_line(wrong: str, tmp_path: Path) -> None:
    """convoy#2251: one line on stderr names the setting and the mend, and never a secret."""
    changes, expected = WRONG[wrong]
    unset = changes.get("-")
    good = {name: value for name, value in GOOD.items() if unset is None or not name.startswith(unset)}
    result = _run({**good, **{name: value for name, value in changes.items() if name != "-"}}, tmp_path)
    lines = [line for line in result.stderr.splitlines() if line.startswith("relay: ")]
    assert result.returncode == 2, result.stderr
    assert len(lines) == 1, result.stderr
    assert expected in lines[0]
    assert "hidden" not in result.stderr
    assert "Traceback" not in result.stderr


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    """The message names the address and the setting to change."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for setting in ("RELAY_LISTEN", "RELAY_OPS_LISTEN"):
            result = _run({**GOOD, setting: address}, tmp_path)
            assert result.returncode == 2, result.stderr
            assert f"cannot listen on {address}" in result.stderr
            assert f"set {setting} to another address" in result.stderr


def test_an_unknown_role_is_named(tmp_path: Path) -> None:
    """A misspelt role is not silently ignored."""
    result = _run(GOOD, tmp_path, "run", "--roles", "poll,delivery")
    assert result.returncode == 2
    assert "delivery is not a role" in result.stderr


def test_check_config_masks_secrets(tmp_path: Path) -> None:
    """The effective settings are valid JSON without a single secret."""
    result = _run({**GOOD, **TOKENS, **KEYS}, tmp_path, "check-config")
    assert result.returncode == 0, result.stderr
    shown = json.loads(result.stdout)
    assert shown["sources"]["lod"]["base_url"] == "http://127.0.0.1:9/api/v3"
    assert not any(
        secret in result.stdout for secret in (GUID, *TOKENS["RELAY_ADMIN_TOKENS"], *KEYS["RELAY_ENCRYPTION_KEYS"])
    )


def test_a_toml_file_is_read_and_variables_go_over_it(tmp_path: Path) -> None:
    """The file describes the sources, the environment has the last word."""
    config = tmp_path / "relay.toml"
    config.write_text('[sources.labs]\nkind = "lod"\napi_key = "x"\ninterval_s = 30\n')
    result = _run({"RELAY_SOURCES__LABS__INTERVAL_S": "60"}, tmp_path, "check-config", "--config", str(config))
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["sources"]["labs"]["interval_s"] == 60
