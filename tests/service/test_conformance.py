"""`relay conformance` against receivers that conform, and against receivers with exactly one flaw."""

import argparse
import io
import json
import time
from collections.abc import Sequence
from typing import Any

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from relay import conformance
from relay.conformance.checks import CHECKS
from relay.conformance.exam import Exam, UnreachableError
from relay.conformance.forge import Forge
from relay.conformance.judge import Result
from relay.core.errors import RelayError
from relay.core.signing import Key, format_private_key, format_secret, signing_key
from relay.listen import Listener
from relay.terminal import plain
from tests.helpers import free_port
from tests.service import receivers as made
from tests.service.raw_server import Peer, sender, serving

KEY = bytes(range(32))
SECRET = format_secret(KEY)
PAIR = Ed25519PrivateKey.generate()
PRIVATE, PUBLIC_BYTES = format_private_key(PAIR), PAIR.public_key().public_bytes_raw()
UNSIGNED = {"tampered-body", "tampered-id", "tampered-time", "missing-header", "wrong-key", "stale", "future"}
REST = {check.name for check in CHECKS}

FLAWS: dict[str, tuple[type[made.Conforming], set[str]]] = {
    "accepts everything": (made.Credulous, UNSIGNED),
    "verifies JSON that it wrote anew": (made.Reserialising, {"raw-bytes"}),
    "does not look at the time": (made.Forgetful, {"stale", "future"}),
    "does not look ahead": (made.Unforeseeing, {"future"}),
    "does not tie the id to the signature": (made.Indifferent, {"tampered-id"}),
    "knows one signature": (made.FirstSignature, {"rotated", "unknown-scheme"}),
    "compares header names by case": (made.CaseSensitive, {"header-case"}),
    "crashes on a missing header": (made.CrashesOnMissing, {"missing-header"}),
    "crashes on an unknown type": (made.Strict, {"unknown-type"}),
    "refuses unknown fields": (made.Rigid, {"unknown-fields"}),
    "refuses types that it does not want": (made.Picky, {"every-type"}),
    "refuses duplicates": (made.Once, {"replayed", "retried"}),
    "has room for a few": (made.Crowded, {"concurrent"}),
    "redirects": (made.Moved, {"valid"}),
}


def forge(key: Key = KEY) -> Forge:
    """Make what the command makes."""
    stranger = Ed25519PrivateKey.generate() if isinstance(key, Ed25519PrivateKey) else bytes(32)
    return Forge(key, stranger, "test", time.time)


async def examine(url: str, key: Key = KEY, **more: Any) -> list[Result]:
    """Every row."""
    async with sender() as post:
        exam = Exam(post, forge(key), url, **({"timeout_s": 5.0} | more))
        return [result async for result in exam.results()]


def rows(results: Sequence[Result], verdict: str) -> set[str]:
    """Names of the rows with a verdict."""
    return {result.name for result in results if result.verdict == verdict}


def by_name(results: Sequence[Result], name: str) -> Result:
    """One row."""
    [found] = [result for result in results if result.name == name]
    return found


async def test_a_receiver_that_conforms_passes_every_row() -> None:
    """No row fails for want of luck, and there is nothing to mend."""
    async with made.receiving(made.Conforming(KEY)) as url:
        results = await examine(url)
    assert rows(results, "pass") == REST | {"valid", "quick", "get"}
    assert not any(result.mend for result in results)


async def test_a_receiver_of_public_keys_that_conforms_passes_every_row() -> None:
    """The same rows with ed25519, and one more: a signature made with the public key as if it were a secret."""
    async with made.receiving(made.Asymmetric(PUBLIC_BYTES)) as url:
        results = await examine(url, PAIR)
    assert rows(results, "pass") == REST | {"valid", "quick", "get", "confused-key"}


async def test_the_development_receiver_conforms() -> None:
    """`relay listen` with a key is what it advises others to be."""
    receiver = Listener(port=0, secrets=[SECRET], as_json=False, out=io.StringIO())
    async with receiver:
        results = await examine(receiver.url)
    assert rows(results, "pass") == {result.name for result in results}


@pytest.mark.parametrize(("receiver", "wrong"), FLAWS.values(), ids=FLAWS)
async def test_a_flaw_fails_its_own_rows_and_no_other(receiver: type[made.Conforming], wrong: set[str]) -> None:
    """Each failed row says what to mend."""
    async with made.receiving(receiver(KEY)) as url:
        results = await examine(url)
    assert rows(results, "fail") == wrong
    assert all(by_name(results, name).mend for name in wrong)
    assert not rows(results, "warn")


async def test_a_verifier_that_lets_the_header_choose_the_scheme_is_found_out() -> None:
    """Whoever knows the public key could sign for the relay."""
    async with made.receiving(made.Confused(PUBLIC_BYTES)) as url:
        assert rows(await examine(url, PAIR), "fail") == {"confused-key"}


async def test_a_body_limit_below_the_relays_is_found_out() -> None:
    """The usual 100 KiB of frameworks is less than what the relay may send."""
    async with made.receiving(made.Conforming(KEY), max_body=100 * 1024) as url:
        results = await examine(url)
    assert rows(results, "fail") == {"large"}
    assert by_name(results, "large").seen == "HTTP 413"
    assert "262144" in by_name(results, "large").mend


@pytest.mark.parametrize(
    ("receiver", "seen", "mend"),
    [(made.Moved, "HTTP 301", "redirects are never followed"), (made.Strange, "HTTP 401", "this very key")],
)
async def test_where_a_genuine_webhook_is_refused_nothing_else_is_asked(
    receiver: type[made.Conforming], seen: str, mend: str
) -> None:
    """What refuses everything would pass every forgery: those rows are skipped, not passed."""
    async with made.receiving(receiver(KEY)) as url:
        results = await examine(url)
    assert (results[0].name, results[0].verdict, results[0].seen) == ("valid", "fail", seen)
    assert mend in results[0].mend
    assert rows(results, "skip") == REST


async def test_slow_answers_are_a_warning() -> None:
    """The limit is for the slowest of all genuine webhooks, not for the average."""
    async with made.receiving(made.Slow(KEY)) as url:
        results = await examine(url, slow_s=0.05)
    assert rows(results, "warn") == {"quick"}
    assert not rows(results, "fail")


async def test_no_answer_within_the_time_out_is_a_failure() -> None:
    """A receiver that holds on to one webhook fails that row, and the rest goes on."""
    async with made.receiving(made.Slow(KEY, "lab.not_yet_invented", 0.4)) as url:
        results = await examine(url, timeout_s=0.2)
    assert rows(results, "fail") == {"unknown-type"}
    assert by_name(results, "unknown-type").mend.startswith("queue the work")


async def test_a_get_that_succeeds_is_a_warning() -> None:
    """It is worth a word, and no failure."""

    class Open(made.Conforming):
        async def take(self, request: web.Request) -> web.StreamResponse:
            return web.Response() if request.method == "GET" else await super().take(request)

    async with made.receiving(Open(KEY), any_method=True) as url:
        results = await examine(url)
    assert rows(results, "warn") == {"get"}
    assert not rows(results, "fail")


async def test_a_rate_limit_makes_a_refusal_doubtful() -> None:
    """429 to a forgery says nothing about its signature: a warning, not a pass."""
    async with made.receiving(made.Limited(KEY)) as url:
        results = await examine(url)
    assert rows(results, "warn") == UNSIGNED
    assert not rows(results, "fail")


async def test_a_receiver_that_dies_under_way_is_not_asked_the_rest() -> None:
    """The row that killed it fails; those after it are skipped."""
    async with made.receiving(made.Mortal(KEY)) as url:
        results = await examine(url)
    assert rows(results, "fail") == {"unknown-type"}
    assert rows(results, "skip") == {"unknown-fields", "large", "concurrent"}
    assert results[-1].seen == "the receiver no longer answers"


async def test_a_silent_receiver_is_given_up_after_one_time_out() -> None:
    """Nobody waits for twenty time-outs in a row."""
    started = time.monotonic()
    async with serving(Peer.gone) as silent:
        with pytest.raises(UnreachableError, match="no complete answer in time"):
            await examine(silent.url, timeout_s=0.05)
    assert time.monotonic() - started < 2


async def command(*words: str) -> tuple[int, str, str]:
    """Run the command as the command line would: exit code, stdout, stderr."""
    parser = argparse.ArgumentParser()
    conformance.add_arguments(parser)
    out, err = io.StringIO(), io.StringIO()
    code = await conformance.run(parser.parse_args(words), out, err, plain)
    return code, out.getvalue(), err.getvalue()


async def test_the_table_has_a_line_for_each_check_and_the_mend_below_a_failure() -> None:
    """Exit code 1, and neither the key nor the URL's query is printed."""
    async with made.receiving(made.Forgetful(KEY)) as url:
        code, out, err = await command(url + "?token=hunter2", "--secret", SECRET)
    lines = out.splitlines()
    assert (code, err) == (1, "")
    assert lines[0] == f"{url}  (v1)"
    assert lines[-1] == "19 passed, 2 failed"
    [at] = [number for number, line in enumerate(lines) if line.startswith("✗ FAIL  stale ")]
    assert lines[at].endswith("HTTP 204")
    assert lines[at + 1].startswith("        mend: after the signature")
    assert "hunter2" not in out
    assert SECRET not in out


async def test_json_is_one_object_with_every_row() -> None:
    """Exit code 0 and `passed` agree."""
    async with made.receiving(made.Asymmetric(PUBLIC_BYTES)) as url:
        code, out, _ = await command(url, "--secret", PRIVATE, "--json", "--timeout", "5")
    told = json.loads(out)
    assert (code, told["passed"], told["scheme"], told["error"]) == (0, True, "v1a", None)
    assert told["counts"] == {"pass": 22, "warn": 0, "fail": 0, "skip": 0}
    assert told["checks"][0] == {
        "name": "valid",
        "sent": "a genuine webhook",
        "verdict": "pass",
        "seen": "HTTP 204",
        "mend": "",
        "remark": "",
    }


async def test_nobody_there_is_one_line_and_exit_code_1() -> None:
    """Not a table of failures; in JSON, the same word in the object."""
    url = f"http://127.0.0.1:{free_port()}/hooks?token=hunter2"
    code, out, err = await command(url, "--secret", SECRET)
    assert (code, out) == (1, "")
    assert err == f"relay: no answer from {url.partition('?')[0]}: cannot connect (ECONNREFUSED)\n"
    code, out, err = await command(url, "--secret", SECRET, "--json")
    assert (code, err, json.loads(out)["error"]) == (1, "", "cannot connect (ECONNREFUSED)")


async def test_a_subscribers_headers_are_sent_and_cannot_replace_the_signature() -> None:
    """A receiver behind a gateway that asks for a token can be examined too."""
    seen: list[str | None] = []

    class Gateway(made.Conforming):
        async def take(self, request: web.Request) -> web.StreamResponse:
            seen.append(request.headers.get("X-Token"))
            return await super().take(request)

    async with made.receiving(Gateway(KEY), any_method=True) as url:
        code, _, _ = await command(url, "--secret", SECRET, "--header", "X-Token: a:b", "--header", "Webhook-Id: x")
    assert code == 0
    assert set(seen) == {"a:b"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "name the receiver and its key"),
        (("http://127.0.0.1/",), "name the receiver and its key"),
        (("127.0.0.1:9000", "--secret", SECRET), "must start with http:// or https://"),
        (("http://u:hunter2@h/", "--secret", SECRET), "put credentials into a header"),
        (("http://h/", "--secret", "whsec_hunter2"), "signing secret"),
        (("http://h/", "--secret", SECRET, "--header", "hunter2"), "NAME: VALUE"),
        (("http://h/", "--v1a"), "--v1a only makes keys"),
    ],
)
async def test_wrong_usage_is_said_without_repeating_what_may_be_secret(words: tuple[str, ...], said: str) -> None:
    """The command ends with exit code 2 for these."""
    with pytest.raises(RelayError, match=said) as caught:
        await command(*words)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("text", ["0", "61", "nan", "soon"])
async def test_a_time_out_is_what_a_subscriber_may_have(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Between 1 and 60 seconds."""
    with pytest.raises(SystemExit) as caught:
        await command("http://h/", "--secret", SECRET, "--timeout", text)
    assert caught.value.code == 2
    assert "1 to 60 seconds" in capsys.readouterr().err


async def test_the_keys_that_it_makes_belong_together() -> None:
    """The private one signs what the public one verifies."""
    code, out, _ = await command("--v1a", "--json")
    told = json.loads(out)
    receiver = Listener(port=0, secrets=[told["public_key"]], as_json=False, out=io.StringIO())
    async with receiver:
        results = await examine(receiver.url, signing_key(told["private_key"]))
    assert code == 0
    assert rows(results, "pass") == {result.name for result in results}
    text = (await command("--v1a"))[1]
    assert "whpk_" in text
    assert "whsk_" in text
