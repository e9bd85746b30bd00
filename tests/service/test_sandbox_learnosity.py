"""The simulated Learnosity Data API over real HTTP: request checks, paging, lag and the rate limit."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from learnosity_sdk.request import DataApi, Init

from relay.sandbox import LEARNOSITY_CONSUMER_SECRET, LEARNOSITY_VERSION
from tests.service.sandbox_client import NOW_S, LearnosityClient, packet, sandboxed, signed

TOO_MANY = b'{"meta":{"status":false,"code":42000,"message":"Too many requests"}}'


@pytest.fixture
async def client() -> AsyncIterator[LearnosityClient]:
    """A sandbox whose time stands still, and a client of it."""
    async with sandboxed(LearnosityClient) as client:
        yield client


@pytest.mark.parametrize("sort", ["asc", "desc"])
async def test_the_official_sdk_reads_every_page(client: LearnosityClient, sort: str) -> None:
    """`results_iter` gives each of 330 sessions once, though 60 with one timestamp lie on several pages."""
    updated = [NOW_S - 400 + min(n, 120 if n < 180 else n) for n in range(330)]
    for n, at in enumerate(updated):
        client.sandbox.learnosity.put(f"s-{n:03}", updated_at=at, user_id=f"learner-{n}")
    assert Counter(updated)[NOW_S - 400 + 120] == 60
    endpoint = f"{client.sandbox.learnosity_url}/{LEARNOSITY_VERSION}/sessions/statuses"

    def read() -> list[str]:
        rows = DataApi().results_iter(endpoint, packet(), LEARNOSITY_CONSUMER_SECRET, {"sort": sort})
        return [row["session_id"] for row in rows]

    ids = await asyncio.to_thread(read)
    assert ids == sorted(ids, reverse=sort == "desc")
    assert len(set(ids)) == len(ids) == 330
    seen = client.sandbox.learnosity.requests
    assert len(seen) == 8
    assert seen[0].routing_headers == ("X-Learnosity-Consumer", "X-Learnosity-Action", "X-Learnosity-SDK")


async def test_a_row_has_the_documented_fields(client: LearnosityClient) -> None:
    """A row has the vendor's fields, neither score nor updated time, and null where nothing happened."""
    client.sandbox.learnosity.put("s-1", user_id="u", activity_id="a", activity_template_id="t")
    answer = await client.get()
    assert answer["data"] == [
        {
            "user_id": "u",
            "activity_id": "a",
            "num_attempted": 0,
            "num_questions": 10,
            "session_id": "s-1",
            "session_duration": 0,
            "status": "Incomplete",
            "dt_started": "2026-11-21T17:00:00Z",
            "dt_completed": None,
            "activity_template_id": "t",
        }
    ]
    assert answer["meta"]["timestamp"] == NOW_S
    assert answer["meta"]["records"] == 1
    assert answer["meta"]["versions"]["requested"] == LEARNOSITY_VERSION


async def test_submitting_and_reopening_move_the_completion(client: LearnosityClient) -> None:
    """Completing sets `dt_completed` and the minutes it took; going on clears the former."""
    learnosity = client.sandbox.learnosity
    learnosity.put("s-1")
    client.sandbox.advance(150)
    learnosity.put("s-1", status="Completed")
    row = (await client.get())["data"][0]
    assert (row["dt_completed"], row["session_duration"]) == ("2026-11-21T17:02:30Z", 2)
    learnosity.put("s-1", status="Incomplete")
    assert (await client.get())["data"][0]["dt_completed"] is None


@pytest.mark.parametrize(
    ("code", "request_fields"),
    [
        (20001, {"user_id": [""]}),
        (20001, {"activity_id": ["a" * 256]}),
        (20002, {"session_id": [str(n) for n in range(1001)]}),
        (20003, {"session_id": "s-1"}),
        (20003, {"user_id": [5]}),
        (20003, {"limit": "50"}),
        (20003, {"limit": True}),
        (20003, {"next": 1469536296.323078}),
        (20003, {"mintime": 1.5}),
        (20003, {"maxtime": None}),
        (20003, {"include": []}),
        (20003, {"include": {"sessions.session_metadata": "course"}}),
        (20004, {"limit": 0}),
        (20004, {"sort": "up"}),
        (20004, {"status": ["Done"]}),
        (20004, {"mintime": "yesterday"}),
        (20004, {"next": "1469536296.3230"}),
    ],
)
async def test_request_errors(client: LearnosityClient, code: int, request_fields: dict[str, Any]) -> None:
    """Each fault of the request gets the vendor's code with HTTP 400."""
    assert await client.code(signed(request_fields)) == (400, code)


async def test_what_is_no_request_is_refused(client: LearnosityClient) -> None:
    """A missing request or action, another action and a request that is no JSON object have their codes."""

    def form(request: str | None, action: str | None) -> dict[str, str]:
        init = Init("data", packet(), LEARNOSITY_CONSUMER_SECRET, {}, action)
        init.request_string = request
        init.security["signature"] = init.generate_signature()
        generated = init.generate()
        assert isinstance(generated, dict)
        return generated

    assert await client.code(form(None, "get")) == (400, 20000)
    assert await client.code(form("{}", None)) == (400, 20000)
    assert await client.code(form("{}", "set")) == (400, 20004)
    assert await client.code(form("[]", "get")) == (400, 20009)
    assert await client.code(form("{", "get")) == (400, 20009)


async def test_a_limit_above_fifty_means_fifty(client: LearnosityClient) -> None:
    """`limit` is clamped without a word; fifty is also the default, and newest first the order."""
    for n in range(60):
        client.sandbox.learnosity.put(f"s-{n:02}")
    default = [row["session_id"] for row in (await client.get())["data"]]
    clamped = [row["session_id"] for row in (await client.get(limit=1000))["data"]]
    assert default == clamped == [f"s-{n:02}" for n in range(59, 9, -1)]
    assert len((await client.get(limit=7))["data"]) == 7


async def test_only_an_empty_page_ends_the_paging(client: LearnosityClient) -> None:
    """The token is a text, it is there after the last rows too, and an empty page repeats the one it was given."""
    for n in range(3):
        client.sandbox.learnosity.put(f"s-{n}")
    first = await client.get(limit=2, sort="asc")
    last = await client.get(limit=2, sort="asc", next=first["meta"]["next"])
    assert (len(last["data"]), last["meta"]["records"]) == (1, 1)
    token = last["meta"]["next"]
    assert isinstance(token, str)
    for _ in range(2):
        empty = await client.get(limit=2, sort="asc", next=token)
        assert (empty["data"], empty["meta"]["next"]) == ([], token)
    assert "next" not in (await client.get(user_id=["nobody"]))["meta"]


async def test_filters(client: LearnosityClient) -> None:
    """Ids, statuses and the three time windows select; a session without completion lies in none of its windows."""
    learnosity = client.sandbox.learnosity
    learnosity.put("s-1", user_id="u1", activity_id="a1", updated_at=NOW_S - 100)
    learnosity.put("s-2", user_id="u2", activity_id="a1", status="Completed", updated_at=NOW_S - 50)
    learnosity.put("s-3", user_id="u2", status="Under Review", dt_started="2026-11-21T10:00:00Z")

    async def ids(**request: Any) -> set[str]:
        return {row["session_id"] for row in (await client.get(**request))["data"]}

    assert await ids(user_id=["u2"], status=[]) == {"s-2", "s-3"}
    assert await ids(activity_id=["a1"], status=["Completed"]) == {"s-2"}
    assert await ids(session_id=["s-1", "s-9"]) == {"s-1"}
    assert await ids(mintime=NOW_S - 60, maxtime="2026-11-21T16:59:59Z") == {"s-2"}
    assert await ids(maxtime_started="2026-11-21T12:00:00") == {"s-3"}
    assert await ids(mintime_completed=0) == {"s-2"}
    assert await ids(mintime=NOW_S - 50, maxtime=NOW_S - 50) == {"s-2"}
    learnosity.inclusive = False
    assert await ids(mintime=NOW_S - 50, maxtime=NOW_S - 50) == set()


async def test_metadata_comes_only_when_it_is_included(client: LearnosityClient) -> None:
    """Of the stored metadata the named attributes come that exist."""
    client.sandbox.learnosity.put("s-1", metadata={"course": "c1", "private": 1})
    assert "metadata" not in (await client.get())["data"][0]
    include = {"sessions.session_metadata": ["course", "nothing"]}
    assert (await client.get(include=include))["data"][0]["metadata"] == {"course": "c1"}


async def test_an_update_becomes_visible_after_the_lag(client: LearnosityClient) -> None:
    """Within the lag a reader sees the state before, and a new session not at all."""
    learnosity = client.sandbox.learnosity
    learnosity.put("s-1")
    client.sandbox.advance(60)
    learnosity.read_lag_s = 5
    learnosity.put("s-1", status="Completed")
    learnosity.put("s-2")
    assert [row["status"] for row in (await client.get())["data"]] == ["Incomplete"]
    client.sandbox.advance(5)
    assert [row["status"] for row in (await client.get())["data"]] == ["Incomplete", "Completed"]


async def test_a_session_updated_during_a_sweep_escapes_the_default_order(client: LearnosityClient) -> None:
    """Newest first loses a session that is updated after its turn; oldest first shows it again at the end."""
    learnosity = client.sandbox.learnosity
    for order, pages in [
        ("desc", [["s-2"], ["s-1"], []]),
        ("asc", [["s-0"], ["s-1"], ["s-2"], ["s-0"], []]),
    ]:
        for n in range(3):
            learnosity.put(f"s-{n}", updated_at=NOW_S - 300 + n)

        def touch(page_no: int) -> None:
            if page_no == 1:
                learnosity.put("s-0", num_attempted=1)

        learnosity.on_page = touch
        assert await client.sweep(sort=order, limit=1) == pages
        learnosity.on_page = None


async def test_the_rate_limit_is_a_thousand_in_five_seconds(client: LearnosityClient) -> None:
    """Request 1001 within five seconds gets exactly the vendor's body, and the window passes."""
    form = signed({})
    path = f"/learnosity/{LEARNOSITY_VERSION}/sessions/statuses"
    answers = {client.sandbox.learnosity.answer("POST", path, form).status for _ in range(1000)}
    assert answers == {200}
    assert await client.post(form) == (429, TOO_MANY)
    client.sandbox.advance(4.9)
    assert await client.post(form) == (429, TOO_MANY)
    client.sandbox.advance(0.1)
    assert (await client.post(form))[0] == 200


async def test_requests_are_seen_without_secrets_or_learners(client: LearnosityClient) -> None:
    """Windows and paging are on record; the security packet and the filters' ids are not."""
    await client.get(mintime=5, user_id=["learner-99"])
    await client.code(signed({"limit": 0}))
    seen = client.sandbox.learnosity.requests
    assert [(one.request, one.code) for one in seen] == [({"mintime": 5, "user_id": 1}, None), ({"limit": 0}, 20004)]
    assert "learner-99" not in str(seen)
    assert "$02$" not in str(seen)
