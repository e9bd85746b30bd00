"""The simulated LOD over real HTTP: its errors, windows and rows are the vendor's."""

import json
from collections.abc import AsyncIterator

import pytest

from relay.sandbox import LOD_API_KEY
from relay.sandbox.lod_rows import DEFAULTS
from tests.service.sandbox_client import NOW_S, LodClient, sandboxed

INVALID_KEY = {"Error": "Invalid integration key", "Status": 1}


@pytest.fixture
async def client() -> AsyncIterator[LodClient]:
    """A sandbox whose time stands still, and a client of it."""
    async with sandboxed(LodClient) as client:
        yield client


@pytest.mark.parametrize(
    ("headers", "query"),
    [({}, ""), ({"api_key": "wrong"}, ""), ({"api_key": ""}, ""), ({}, f"&api_key={LOD_API_KEY}")],
)
async def test_only_the_right_key_in_the_header_opens(client: LodClient, headers: dict[str, str], query: str) -> None:
    """A missing or wrong key, or one in the URL, gets the vendor's body with Status 1 and HTTP 200."""
    assert await client.call(f"/LatestResults/?minutes=5{query}", headers=headers) == (200, INVALID_KEY)


async def test_an_expired_consumer_is_told_so(client: LodClient) -> None:
    """An expired consumer gets its own message, without `Results`."""
    client.sandbox.lod.expired = True
    expired = {"Error": "API Access has Expired", "Status": 0}
    assert await client.call("/LatestResults/?minutes=5") == (200, expired)


async def test_refusals_can_come_as_401(client: LodClient) -> None:
    """With the switch on, refused keys and expired consumers come with HTTP 401; a good key is not touched."""
    client.sandbox.lod.refuse_with_401 = True
    assert await client.call("/LatestResults/?minutes=5", headers={}) == (401, INVALID_KEY)
    assert (await client.call("/LatestResults/?minutes=5"))[0] == 200
    client.sandbox.lod.expired = True
    assert (await client.call("/LatestResults/?minutes=5"))[0] == 401


@pytest.mark.parametrize("query", ["", "?minutes=", "?minutes=ten", "?minutes=1.5", "?minutes=0", "?minutes=-1"])
async def test_minutes_must_be_a_positive_integer(client: LodClient, query: str) -> None:
    """`minutes` that is missing, not an integer or below 1 gives Status 0 without `Results`."""
    status, body = await client.call(f"/LatestResults/{query}")
    assert (status, body["Status"], body.keys()) == (200, 0, {"Error", "Status"})


@pytest.mark.parametrize("minutes", [10_081, 10**17])
async def test_more_than_seven_days_are_refused(client: LodClient, minutes: int) -> None:
    """Above 10,080 minutes the vendor's own sentence comes back."""
    refused = {"Error": "Timeframe cannot exceed 7 days", "Status": 0}
    assert await client.call(f"/LatestResults/?minutes={minutes}") == (200, refused)


@pytest.mark.parametrize("minutes", [1, 10_080])
async def test_the_limits_of_minutes_are_allowed(client: LodClient, minutes: int) -> None:
    """1 and 10,080 minutes are both answered."""
    good = {"Results": [], "Status": 1, "Error": None}
    assert await client.call(f"/LatestResults/?minutes={minutes}") == (200, good)


@pytest.mark.parametrize("path", ["/LatestResults/", "/latestresults", "/LATESTRESULTS"])
async def test_commands_and_parameters_ignore_case(client: LodClient, path: str) -> None:
    """Commands and parameter names ignore case, the slash is optional, GET and POST are the same."""
    client.sandbox.lod.put(1)
    for method, parameter in [("GET", "minutes"), ("POST", "MINUTES")]:
        _, body = await client.call(f"{path}?{parameter}=5", method=method)
        assert [row["LabInstanceId"] for row in body["Results"]] == [1]
    _, body = await client.call(path, method="POST", data={"Minutes": "5"})
    assert body["Status"] == 1


async def test_what_does_not_exist_is_refused_in_html(client: LodClient) -> None:
    """Unknown commands get an HTML 404, other methods 405."""
    status, body = await client.call("/Launch/?labId=1")
    assert status == 404
    assert body.startswith(b"<html>")
    assert (await client.call("/LatestResults/?minutes=5", method="PUT"))[0] == 405


async def test_a_row_has_the_documented_fields_and_one_more(client: LodClient) -> None:
    """Every documented field is there, null where nothing is known, and an undocumented one beside them."""
    client.sandbox.lod.put(349744)
    row = (await client.rows())[349744]
    assert list(row) == ["LabInstanceId", *DEFAULTS, "InstancePoolName"]
    assert (row["CompletionStatus"], row["Start"], row["TotalRunTimeSeconds"]) == (2, NOW_S, 0)
    nulls = {"End", "LastActivity", "UserId", "ClassId", "ExamScore", "ExamPassed", "IpAddress", "Latitude"}
    assert all(row[name] is None for name in nulls)


async def test_by_default_only_a_start_or_an_end_brings_a_row_back(client: LodClient) -> None:
    """A rescored lab that ended before the window stays out of it, unless any change of state counts."""
    lod = client.sandbox.lod
    lod.put(1, CompletionStatus=4, Start=NOW_S - 8000, End=NOW_S - 7200)
    lod.put(2, CompletionStatus=3, Start=NOW_S - 8000)
    lod.put(3, CompletionStatus=4, Start=NOW_S - 8000, End=NOW_S - 3600)
    client.sandbox.advance(600)
    lod.put(1, ExamScore=80)
    assert set(await client.rows(60)) == set()
    assert set(await client.rows(70)) == {3}
    lod.selection = "any_state_change"
    assert set(await client.rows(1)) == {1}
    assert set(await client.rows(11)) == {1, 2, 3}


async def test_rows_come_in_no_order(client: LodClient) -> None:
    """Two answers hold the same rows in different orders."""
    for lab_id in range(50):
        client.sandbox.lod.put(lab_id)
    _, first = await client.call("/LatestResults/?minutes=5")
    _, second = await client.call("/LatestResults/?minutes=5")
    assert first["Results"] != second["Results"]
    assert sorted(row["LabInstanceId"] for row in first["Results"]) == list(range(50))


async def test_a_row_may_repeat(client: LodClient) -> None:
    """With the switch on, one row comes twice."""
    client.sandbox.lod.duplicate_rows = True
    client.sandbox.lod.put(1)
    _, body = await client.call("/LatestResults/?minutes=5")
    assert [row["LabInstanceId"] for row in body["Results"]] == [1, 1]


async def test_the_marks_of_a_row_never_fall(client: LodClient) -> None:
    """Running time and last activity only grow, even when an end is set in the past or undone."""
    lod, seen = client.sandbox.lod, []
    lod.put(1, CompletionStatus=3)
    lives: list[dict[str, int | None]] = [
        {},
        {"TaskCompletePercent": 30},
        {"CompletionStatus": 4, "End": NOW_S + 20},
        {"CompletionStatus": 3, "End": None},
    ]
    for changes in lives:
        client.sandbox.advance(30)
        lod.put(1, **changes)
        row = (await client.rows())[1]
        seen.append((row["LastActivity"], row["TotalRunTimeSeconds"]))
    assert seen == [(NOW_S + 30, 30), (NOW_S + 60, 60), (NOW_S + 60, 60), (NOW_S + 120, 120)]


async def test_a_removed_lab_vanishes_without_a_word(client: LodClient) -> None:
    """A removed lab is in no answer any more."""
    client.sandbox.lod.put(1)
    client.sandbox.lod.remove(1)
    assert await client.rows() == {}


async def test_results_walks_an_outage(client: LodClient) -> None:
    """`Results` gives the labs that started or ended between two times, with decimal scores."""
    lod = client.sandbox.lod
    lod.put(1, CompletionStatus=4, Start=NOW_S - 900_000, End=NOW_S - 800_000, ExamScore=80)
    lod.put(2, CompletionStatus=4, Start=NOW_S - 100, End=NOW_S)
    _, body = await client.call(f"/Results/?start={NOW_S - 900_000}&end={NOW_S - 700_000}")
    assert [(row["LabInstanceId"], repr(row["ExamScore"])) for row in body["Results"]] == [(1, "80.0")]


@pytest.mark.parametrize("query", ["", "?start=1&end=x", "?start=10&end=1", "?start=0&end=604801"])
async def test_results_wants_a_span_of_at_most_seven_days(client: LodClient, query: str) -> None:
    """Missing, reversed or too long spans give Status 0 without `Results`."""
    _, body = await client.call(f"/Results/{query}")
    assert (body["Status"], body.keys()) == (0, {"Error", "Status"})
    assert (await client.call("/Results/?start=0&end=604800"))[1]["Status"] == 1


async def test_result_does_not_repeat_the_id(client: LodClient) -> None:
    """`Result` gives one row without LabInstanceId; an unknown or missing id gives Status 0."""
    client.sandbox.lod.put(7, CompletionStatus=4, End="now", ExamScore=5)
    _, body = await client.call("/Result?labinstanceId=7")
    assert "LabInstanceId" not in body
    assert (body["End"], repr(body["ExamScore"]), body["Status"]) == (NOW_S, "5.0", 1)
    for query in ("?labinstanceId=8", ""):
        assert (await client.call(f"/Result{query}"))[1]["Status"] == 0


async def test_running_labs_are_all_listed(client: LodClient) -> None:
    """`RunningAndSavedLabs` lists every open lab, however long ago it started, and no other."""
    lod = client.sandbox.lod
    lod.put(1, CompletionStatus=3, Start=NOW_S - 9 * 86_400)
    lod.put(2, CompletionStatus=4, End="now")
    _, body = await client.call("/RunningAndSavedLabs")
    assert [row["Id"] for row in body["RunningLabs"]] == [1]
    assert (body["SavedLabs"], body["Status"]) == ([], 1)


async def test_requests_are_seen_but_no_key_is_kept(client: LodClient) -> None:
    """What was asked is on record; a key never is, wherever the client put it."""
    await client.call("/LatestResults/?minutes=5")
    await client.call(f"/{LOD_API_KEY}/?minutes=6&x={LOD_API_KEY}&api_key=other", headers={})
    seen = client.sandbox.lod.requests
    assert [(one.method, one.minutes, one.key_ok) for one in seen] == [("GET", "5", True), ("GET", "6", False)]
    _, listed = await client.read("/lod/requests")
    assert [one["minutes"] for one in listed["data"]] == ["5", "6"]
    for text in (str(seen), json.dumps(listed)):
        assert LOD_API_KEY not in text
        assert "other" not in text
