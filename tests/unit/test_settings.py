"""Settings: file, variables, mounted secrets; whatever is wrong is one line that says where and holds no value."""

import json
from pathlib import Path
from typing import Any

import pytest

from relay.core.errors import ConfigError
from relay.core.retry import DEFAULT_SCHEDULE_S
from relay.settings import Address, LearnositySource, LodSource, Settings, effective, load

TOKEN = "canary-token-0123456789abcdef"
KEY = "Y2FuYXJ5LWNhbmFyeS1jYW5hcnktY2FuYXJ5LWNhbmE="
API_KEY = "canary-api-key"
REDIS = "redis://:canary-password@db:6379/0"

LOD = '[sources.lod]\nkind = "lod"\napi_key = "canary-api-key"\n'
LEARNOSITY = (
    '[sources.learnosity]\nkind = "learnosity"\nconsumer_key = "canary-consumer"\n'
    'consumer_secret = "canary-secret"\ndomain = "lms.example.org"\n'
)
TOML = f'listen = "127.0.0.1:9000"\n[retry]\nschedule_s = [1, 2]\n{LOD}{LEARNOSITY}'


def loaded(tmp_path: Path, text: str | None = None, **environment: str) -> Settings:
    """Settings from a file with this text and these variables."""
    path = None
    if text is not None:
        path = tmp_path / "relay.toml"
        path.write_text(text, "utf-8")
    return load(path, environment)


def refused(tmp_path: Path, text: str | None = None, **environment: str) -> str:
    """The lines that say what is wrong, each where."""
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, text, **environment)
    line = str(caught.value)
    assert all(one.isprintable() for one in line.split("\n"))
    assert "canary" not in line.lower()
    assert "Y2Fu" not in line
    return line


def test_the_defaults_are_the_contracts(tmp_path: Path) -> None:
    """Without anything, what the public page says."""
    settings = loaded(tmp_path)
    assert effective(settings)["redis_url"] is None
    assert settings.data_dir == Path(".relay")
    assert (str(settings.listen), str(settings.ops_listen)) == ("127.0.0.1:8080", "127.0.0.1:8081")
    assert (settings.admin_tokens, settings.encryption_keys, settings.sources) == ((), (), {})
    assert (settings.egress.allow_cidrs, settings.egress.allow_http) == ((), False)
    assert settings.retry.schedule_s == DEFAULT_SCHEDULE_S
    days = [seconds / 86_400 for _, seconds in settings.retention]
    assert days == [30, 7, 90]


def test_a_file_sets_everything(tmp_path: Path) -> None:
    """Tables, lists and both kinds of source, with the contract's defaults for the rest."""
    settings = loaded(tmp_path, TOML)
    assert settings.listen == Address(host="127.0.0.1", port=9000)
    assert list(settings.retry.schedule_s) == [1, 2]
    lod, learnosity = settings.sources["lod"], settings.sources["learnosity"]
    assert isinstance(lod, LodSource)
    assert isinstance(learnosity, LearnositySource)
    assert lod.api_key.get_secret_value() == API_KEY
    assert (lod.base_url, lod.interval_s, lod.overlap_s) == ("https://labondemand.com/api/v3", 30, 900)
    assert (learnosity.version, learnosity.interval_s, learnosity.overlap_s) == ("v2025.1.LTS", 10, 120)
    assert lod.first_poll == learnosity.first_poll == "baseline"


def test_variables_override_the_file(tmp_path: Path) -> None:
    """`__` nests, names are case-insensitive, lists and tables are JSON, and what is not named stays."""
    settings = loaded(
        tmp_path,
        TOML,
        RELAY_LISTEN="[::1]:7000",
        RELAY_RETRY__SCHEDULE_S="[7]",
        RELAY_EGRESS__ALLOW_CIDRS='["10.0.0.0/8", "fd00::/8"]',
        RELAY_EGRESS='{"allow_http": true}',
        RELAY_SOURCES__LOD__INTERVAL_S="5",
        RELAY_SOURCES__LOD__FIRST_POLL="emit",
        relay_drain_s="3",
        PATH="/usr/bin",
    )
    assert (str(settings.listen), settings.listen.is_loopback) == ("[::1]:7000", True)
    assert list(settings.retry.schedule_s) == [7]
    assert settings.egress.allow_http
    assert [str(network) for network in settings.egress.allow_cidrs] == ["10.0.0.0/8", "fd00::/8"]
    assert (settings.sources["lod"].interval_s, settings.sources["lod"].first_poll) == (5, "emit")
    assert settings.drain_s == 3


def test_a_whole_source_may_come_from_variables(tmp_path: Path) -> None:
    """No file is needed."""
    settings = loaded(tmp_path, RELAY_SOURCES__LAB2__KIND="lod", RELAY_SOURCES__LAB2__API_KEY=API_KEY)
    assert list(settings.sources) == ["lab2"]


def test_the_file_may_be_named_by_a_variable(tmp_path: Path) -> None:
    """RELAY_CONFIG; the argument wins, and an empty variable means none."""
    path, other = tmp_path / "a.toml", tmp_path / "b.toml"
    path.write_text("drain_s = 1")
    other.write_text("drain_s = 2")
    assert load(None, {"RELAY_CONFIG": str(path)}).drain_s == 1
    assert load(other, {"RELAY_CONFIG": str(path)}).drain_s == 2
    assert load(None, {"RELAY_CONFIG": ""}).drain_s == 20


def test_secrets_may_be_mounted_files(tmp_path: Path) -> None:
    """`…_FILE`, from a variable or the file, without the last line's end; a list is JSON."""
    (tmp_path / "key").write_text(API_KEY + "\n")
    (tmp_path / "tokens").write_text(json.dumps([TOKEN]) + "\r\n")
    text = f'[sources.lod]\nkind = "lod"\napi_key_file = "{tmp_path / "key"}"\n'
    settings = loaded(tmp_path, text, RELAY_ADMIN_TOKENS_FILE=str(tmp_path / "tokens"))
    lod = settings.sources["lod"]
    assert isinstance(lod, LodSource)
    assert lod.api_key.get_secret_value() == API_KEY
    assert [token.get_secret_value() for token in settings.admin_tokens] == [TOKEN]


def test_a_variable_wins_over_the_file_in_either_form(tmp_path: Path) -> None:
    """`…_FILE` takes the place of the file's plain value, and a plain variable that of the file's `…_file`."""
    (tmp_path / "key").write_text("mounted\n")
    mounted = loaded(tmp_path, LOD, RELAY_SOURCES__LOD__API_KEY_FILE=str(tmp_path / "key"))
    plain = loaded(tmp_path, LOD.replace("api_key =", "api_key_file ="), RELAY_SOURCES__LOD__API_KEY="plain")
    keys = [one.sources["lod"].api_key.get_secret_value() for one in (mounted, plain)]  # type: ignore[union-attr]  # LOD
    assert keys == ["mounted", "plain"]


def test_no_secret_is_ever_printed(tmp_path: Path) -> None:
    """Neither by check-config nor by a repr in a traceback."""
    settings = loaded(
        tmp_path,
        TOML,
        RELAY_REDIS_URL=REDIS,
        RELAY_ADMIN_TOKENS=json.dumps([TOKEN]),
        RELAY_ENCRYPTION_KEYS=json.dumps([KEY]),
    )
    shown = json.dumps(effective(settings))
    for text in (shown, repr(settings), str(settings)):
        assert "canary" not in text
        assert "Y2Fu" not in text
    assert json.loads(shown)["sources"]["lod"]["api_key"] == "**********"
    assert json.loads(shown)["sources"]["learnosity"]["domain"] == "lms.example.org"


SECURE = {"RELAY_ADMIN_TOKENS": json.dumps([TOKEN]), "RELAY_ENCRYPTION_KEYS": json.dumps([KEY])}

WRONG: list[tuple[str | None, dict[str, str], str]] = [
    ("canary = 1\nlisten =", {}, "relay.toml: is not valid TOML"),
    ("x = " + "9" * 5000, {}, "relay.toml: is not valid TOML"),
    ("x = " + "[" * 20_000, {}, "relay.toml: is not valid TOML"),
    ("lissten = 1", {}, "lissten: no such setting"),
    ('"a\\nb" = 1', {}, "a?b: no such setting"),
    ("[retry]\nschedul_s = [1]", {}, "retry.schedul_s: no such setting"),
    (LOD + "colour = 1", {}, "sources.lod.colour: no such setting"),
    (None, {"RELAY_LISSTEN": "canary"}, "RELAY_LISSTEN: no such setting"),
    (None, {"RELAY_EGRESS__ALLOW": "canary"}, "RELAY_EGRESS__ALLOW: no such setting"),
    (None, {"RELAY_": "canary"}, "RELAY_: no such setting"),
    (None, {"RELAY_EGRESS": "canary"}, "RELAY_EGRESS"),
    ("drain_s = 1", {"RELAY_DRAIN_S__X": "canary"}, "RELAY_DRAIN_S__X: drain_s is a single value"),
    (None, {"RELAY_LISTEN": "canary"}, "RELAY_LISTEN: write it as host:port"),
    (None, {"RELAY_LISTEN": "redis://:canary@h:6379"}, "RELAY_LISTEN: write it as host:port"),
    (None, {"RELAY_LISTEN": "127.0.0.1:²"}, "RELAY_LISTEN: write it as host:port"),
    (None, {"RELAY_LISTEN": "127.0.0.1:65536"}, "RELAY_LISTEN"),
    (None, {"RELAY_LISTEN": "0.0.0.0:8080"}, "admin_tokens: required"),
    (None, {"RELAY_LISTEN": "127.0.0.1:8081"}, "ops_listen: must differ"),
    (None, {"RELAY_REDIS_URL": "canary"} | SECURE, "redis_url: begins with redis://"),
    (None, {"RELAY_REDIS_URL": "http://u:canary@[x"} | SECURE, "redis_url: begins with redis://"),
    (None, {"RELAY_REDIS_URL": REDIS}, "admin_tokens: required with redis_url"),
    (
        None,
        {"RELAY_REDIS_URL": REDIS, "RELAY_ADMIN_TOKENS": SECURE["RELAY_ADMIN_TOKENS"]},
        "encryption_keys: required with redis_url",
    ),
    (None, {"RELAY_ADMIN_TOKENS": TOKEN}, "RELAY_ADMIN_TOKENS: must be a list; in a variable, JSON"),
    (None, {"RELAY_ADMIN_TOKENS": '["canary"]'}, "RELAY_ADMIN_TOKENS: a token needs at least 16"),
    (None, {"RELAY_ADMIN_TOKENS": '["canary]'}, "RELAY_ADMIN_TOKENS: is in brackets like JSON"),
    (None, {"RELAY_ADMIN_TOKENS": "[" * 50_000 + "]" * 50_000}, "RELAY_ADMIN_TOKENS: is in brackets"),
    (None, {"RELAY_ADMIN_TOKENS": json.dumps([TOKEN + " " + TOKEN])}, "RELAY_ADMIN_TOKENS: a token needs"),
    (None, {"RELAY_ENCRYPTION_KEYS": '["Y2FuYXJ5"]'}, "RELAY_ENCRYPTION_KEYS: an encryption key holds 32 bytes, not 6"),
    (None, {"RELAY_ENCRYPTION_KEYS": '["canary!"]'}, "RELAY_ENCRYPTION_KEYS: an encryption key is base64"),
    (None, {"RELAY_EGRESS__ALLOW_CIDRS": '["canary"]'}, "RELAY_EGRESS__ALLOW_CIDRS: write a range"),
    (None, {"RELAY_EGRESS__ALLOW_CIDRS": '["10.0.0.1/8"]'}, "RELAY_EGRESS__ALLOW_CIDRS: write a range"),
    (None, {"RELAY_RETRY__SCHEDULE_S": "[]"}, "RELAY_RETRY__SCHEDULE_S: must not be empty"),
    (None, {"RELAY_RETRY__SCHEDULE_S": "[5, 1e999]"}, "RELAY_RETRY__SCHEDULE_S"),
    (None, {"RELAY_RETRY__SCHEDULE_S": "[NaN]"}, "RELAY_RETRY__SCHEDULE_S"),
    (None, {"RELAY_RETENTION__EVENTS_S": "inf"}, "RELAY_RETENTION__EVENTS_S"),
    (None, {"RELAY_RETENTION__EVENTS_S": "1e18"}, "RELAY_RETENTION__EVENTS_S"),
    (None, {"RELAY_DRAIN_S": "nan"}, "RELAY_DRAIN_S"),
    ('[sources.lod]\nkind = "lod"', {}, "sources.lod.api_key: is required (or set RELAY_SOURCES__LOD__API_KEY)"),
    ('[sources.lod]\nkind = "lod"\napi_key = ""', {}, "sources.lod.api_key: must not be empty"),
    (LEARNOSITY.replace("lms.example.org", ""), {}, "sources.learnosity.domain: must not be empty"),
    ('[sources.lod]\napi_key = "canary"', {}, "sources.lod: needs kind ="),
    ('[sources.lod]\nkind = "canary"', {}, "sources.lod: kind must be"),
    (None, {"RELAY_SOURCES__LOD__KIND": "canary"}, "RELAY_SOURCES__LOD__KIND: kind must be"),
    (LOD.replace("sources.lod", "sources.relay"), {}, "sources.relay: this name is the relay's own"),
    (LOD.replace("sources.lod", "sources.Lab"), {}, "sources.Lab: a source's name begins with a small letter"),
    (LOD + "interval_s = 0", {}, "sources.lod.interval_s"),
    (LOD + "interval_s = inf", {}, "sources.lod.interval_s"),
    (LOD + "overlap_s = 1", {}, "sources.lod.overlap_s"),
    (LOD + 'base_url = "labondemand.com"', {}, "sources.lod.base_url: write a full address"),
    (LOD + 'base_url = "https://u:canary@h/"', {}, "sources.lod.base_url: it must not hold a user name"),
    (LOD + 'base_url = "https://u:canary@[x]/"', {}, "sources.lod.base_url: write a full address"),
    (LOD + 'base_url = "https://h/?key=canary"', {}, "sources.lod.base_url: it must not hold"),
    (LOD + 'base_url = "https://h:99999/"', {}, "sources.lod.base_url: write a full address"),
    (LOD + 'base_url = "https://h\\n/"', {}, "sources.lod.base_url: write a full address"),
    (LOD + 'api_key_file = "/nowhere"', {}, "sources.lod.api_key_file: api_key is set too; keep one of the two"),
    (
        None,
        {"RELAY_SOURCES__LOD__API_KEY": "canary", "RELAY_SOURCES__LOD__API_KEY_FILE": "/nowhere"},
        "RELAY_SOURCES__LOD__API_KEY and RELAY_SOURCES__LOD__API_KEY_FILE are both set; keep one",
    ),
    (
        None,
        {"RELAY_SOURCES__LOD": '{"api_key": "canary"}', "RELAY_SOURCES__LOD__API_KEY_FILE": "/nowhere"},
        "sources.lod.api_key_file: api_key is set too; keep one of the two",
    ),
    (LOD, {"RELAY_SOURCES__LOD__API_KEY_FILE": "/nowhere"}, "sources.lod.api_key_file: /nowhere cannot be read"),
    (None, {"RELAY_ADMIN_TOKENS_FILE": "/nowhere/at/all"}, "admin_tokens_file: /nowhere/at/all cannot be read"),
    ('admin_tokens_file = "a\\u0000b"', {}, "admin_tokens_file"),
    ("admin_tokens_file = 7", {}, "admin_tokens_file: no such setting"),
    (None, {"RELAY_LOG__LEVEL": "canary"}, "RELAY_LOG__LEVEL"),
    (None, {"RELAY_NAMESPACE": "canary!"}, "RELAY_NAMESPACE"),
]


@pytest.mark.parametrize(("text", "environment", "expected"), WRONG)
def test_every_mistake_is_one_line_that_says_where(
    tmp_path: Path, text: str | None, environment: dict[str, str], expected: str
) -> None:
    """The line names the setting or the variable, what is wrong, and never the value."""
    assert expected in refused(tmp_path, text, **environment)


def test_a_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    """Absent, a directory, not text: with a hint at where its name came from."""
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    for path, reason in ((tmp_path / "none", "cannot be read"), (tmp_path, "cannot be read"), (binary, "not valid")):
        with pytest.raises(ConfigError, match=reason):
            load(path, {})
    assert "cannot be read (not text" in refused(tmp_path, None, RELAY_ADMIN_TOKENS_FILE=str(binary))


def test_all_mistakes_are_told_one_per_line(tmp_path: Path) -> None:
    """So that they can be mended in one go; one setting has one line, however much is wrong with it."""
    lines = refused(tmp_path, "drain_s = -1\n[retry]\nschedule_s = []\nx = 1").splitlines()
    assert [line.split(": ", 1)[1].split(":")[0] for line in lines] == ["drain_s", "retry.schedule_s", "retry.x"]
    assert [line.split(": ")[2] for line in lines] == [
        "must be greater than or equal to 0",
        "must not be empty",
        "no such setting; check the spelling",
    ]


@pytest.mark.parametrize(
    ("text", "loopback"), [("localhost:1", True), ("127.0.0.9:1", True), ("10.0.0.1:1", False), ("relay.svc:1", False)]
)
def test_what_other_machines_can_reach(tmp_path: Path, text: str, loopback: Any) -> None:
    """A name that is not localhost may be anywhere, so a token is needed."""
    assert loaded(tmp_path, RELAY_LISTEN=text, **SECURE).listen.is_loopback == loopback


def test_settings_cannot_be_changed_afterwards(tmp_path: Path) -> None:
    """They are read once."""
    settings = loaded(tmp_path)
    with pytest.raises(ValueError, match="frozen"):
        setattr(settings, "drain_s", 1)  # noqa: B010  # mypy knows that an assignment is wrong
