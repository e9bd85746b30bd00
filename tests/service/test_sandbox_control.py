"""The control surface over real HTTP: it does what the in-process methods do, and refuses what they refuse."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.service.sandbox_client import NOW, NOW_S, LearnosityClient, LodClient, sandboxed, signed


@pytest.fixture
async def lod() -> AsyncIterator[LodClient]:
    """A sandbox whose time stands still, and a client of its LOD."""
    async with sandboxed(LodClient) as client:
        yield client


@pytest.fixture
async def learnosity() -> AsyncIterator[LearnosityClient]:
    """A sandbox whose time stands still, and a client of its Learnosity."""
    async with sandboxed(LearnosityClient) as client:
        yield client


async def test_the_lod_controls_do_what_the_methods_do(lod: LodClient) -> None:
    """Put, advance, set, fault and remove over HTTP change what the API answers."""
    lab = {"id": 5, "CompletionStatus": 4, "End": "now", "ExamScore": 62.5}
    assert await lod.control("lod/put", lab) == (200, {"id": 5})
    row = (await lod.rows())[5]
    assert (row["CompletionStatus"], row["End"], row["ExamScore"]) == (4, NOW_S, 62.5)
    status, body = await lod.control("advance", {"seconds": 7200})
    assert (status, datetime.fromisoformat(body["now"])) == (200, NOW + timedelta(hours=2))
    assert await lod.rows(60) == {}
    await lod.control("lod/set", {"expired": True})
    assert (await lod.call("/LatestResults/?minutes=5"))[1]["Error"] == "API Access has Expired"
    await lod.control("lod/set", {"expired": False, "selection": "any_state_change"})
    await lod.control("lod/fault", {"fault": "503_html", "times": 1})
    assert [(await lod.raw())[0] for _ in range(2)] == [503, 200]
    assert await lod.control("lod/remove", {"id": 5}) == (200, {"id": 5})
    assert await lod.rows(500) == {}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("advance", {"seconds": -1}),
        ("advance", {"seconds": "soon"}),
        ("advance", {}),
        ("advance", "not json"),
        ("lod/put", {"CompletionStatus": 3}),
        ("lod/put", {"id": True}),
        ("lod/put", {"id": 1, "CompletionState": 3}),
        ("lod/put", {"id": 1, "CompletionStatus": "done"}),
        ("lod/put", {"id": 2**63}),
        ("lod/put", {"id": 1, "self": 1}),
        ("lod/put", [1]),
        ("lod/remove", {"id": "1"}),
        ("lod/fault", {"fault": "earthquake"}),
        ("lod/fault", {"fault": "429", "times": 0}),
        ("lod/fault", {"fault": None, "times": 2}),
        ("lod/set", {"selection": "everything"}),
        ("lod/set", {"api_key": "x"}),
    ],
)
async def test_the_lod_controls_refuse_bad_input(lod: LodClient, path: str, body: Any) -> None:
    """Bad input gets status 400, a sentence in JSON, and changes nothing."""
    status, answer = await lod.control(path, body)
    assert (status, list(answer)) == (400, ["error"])
    assert lod.sandbox.clock.now() == NOW
    assert await lod.rows() == {}


async def test_the_control_surface_explains_itself(lod: LodClient) -> None:
    """`GET /_control` lists the controls; what is not one of them gets a 404 that says so."""
    status, body = await lod.read("")
    assert status == 200
    assert "POST /_control/lod/put" in body
    assert (await lod.read("/lod/nothing"))[0] == 404
    assert (await lod.control("lod/requests", {}))[0] == 404


async def test_the_learnosity_controls_do_what_the_methods_do(learnosity: LearnosityClient) -> None:
    """Put, set, fault and remove over HTTP change what the API answers."""
    session = {"session_id": "s-1", "status": "Completed", "dt_completed": "now", "updated_at": NOW_S - 5.25}
    assert await learnosity.control("learnosity/put", session) == (200, {"session_id": "s-1"})
    answer = await learnosity.get()
    assert answer["data"][0]["dt_completed"] == "2026-11-21T17:00:00Z"
    assert answer["meta"]["next"].startswith(f"{NOW_S - 6}.750000")
    await learnosity.control("learnosity/set", {"read_lag_s": 30})
    assert (await learnosity.get())["data"] == []
    await learnosity.control("advance", {"seconds": 30})
    await learnosity.control("learnosity/fault", {"fault": "42000", "times": 1})
    assert (await learnosity.post(signed({})))[0] == 429
    assert (await learnosity.get())["meta"]["records"] == 1
    await learnosity.control("learnosity/remove", {"session_id": "s-1"})
    assert (await learnosity.get())["data"] == []
    _, seen = await learnosity.read("/learnosity/requests")
    assert [one["fault"] for one in seen["data"]] == [None, None, "42000", None, None]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("learnosity/put", {"status": "Completed"}),
        ("learnosity/put", {"session_id": ""}),
        ("learnosity/put", {"session_id": "s-1", "score": 3}),
        ("learnosity/put", {"session_id": "s-1", "self": 3}),
        ("learnosity/put", {"session_id": "s-1", "num_attempted": "3"}),
        ("learnosity/put", {"session_id": "s-1", "dt_started": "yesterday"}),
        ("learnosity/put", {"session_id": "s-1", "updated_at": []}),
        ("learnosity/fault", {"fault": "418"}),
        ("learnosity/set", {"read_lag_s": -1}),
        ("learnosity/set", {"disabled": 5}),
        ("learnosity/remove", {}),
    ],
)
async def test_the_learnosity_controls_refuse_bad_input(learnosity: LearnosityClient, path: str, body: Any) -> None:
    """Bad input gets status 400, a sentence in JSON, and changes nothing."""
    status, answer = await learnosity.control(path, body)
    assert (status, list(answer)) == (400, ["error"])
    assert (await learnosity.get())["data"] == []
