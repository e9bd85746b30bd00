"""Every fault of both simulated upstreams, as a client sees it over real HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest

from relay.sandbox import (
    LEARNOSITY_VERSION,
    LodSimulator,
    SandboxInputError,
    learnosity_simulator,
    lod_simulator,
)
from relay.sandbox.learnosity_security import ERRORS
from tests.helpers import wait_until
from tests.service.sandbox_client import LearnosityClient, LodClient, StillClock, sandboxed, signed

BROKEN_FAULTS = {"stall", "stall_body", "reset", "reset_body"}
TOO_MANY = b'{"meta":{"status":false,"code":42000,"message":"Too many requests"}}'


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


def test_every_fault_is_tried() -> None:
    """The tables of this file name every fault there is."""
    assert {*LOD_BODY_FAULTS, *BROKEN_FAULTS} == lod_simulator.FAULTS
    assert {*LEARNOSITY_BODY_FAULTS, *BROKEN_FAULTS} == learnosity_simulator.FAULTS


LOD_BODY_FAULTS = {
    "429": (429, b"<html>"),
    "429_retry_after": (429, b"<html>"),
    "500_html": (500, b"<html>"),
    "503_html": (503, b"<html>"),
    "200_html": (200, b"<html>"),
    "empty_body": (200, b""),
    "error_status_0": (200, b'{"Error":"An unexpected error occurred","Status":0}'),
    "error_status_1": (200, b'{"Error":"An unexpected error occurred","Status":1}'),
    "empty": (200, b'{"Results":[],"Status":1,"Error":null}'),
    "truncated": (200, b'{"Results":['),
    "bad_row": (200, b'{"Results":['),
}


@pytest.mark.parametrize("fault", LOD_BODY_FAULTS)
async def test_lod_faults_in_the_answer(lod: LodClient, fault: str) -> None:
    """Each fault gives its status and its kind of body, and ends when it is taken back."""
    lod.sandbox.lod.put(1)
    lod.sandbox.lod.fault = fault
    status, body = await lod.raw()
    expected_status, start = LOD_BODY_FAULTS[fault]
    assert (status, body[: len(start)]) == (expected_status, start)
    if fault == "truncated":
        with pytest.raises(json.JSONDecodeError):
            json.loads(body)
    if fault == "bad_row":
        assert len(json.loads(body)["Results"]) == 2
    lod.sandbox.lod.fault = None
    assert list(await lod.rows()) == [1]


@pytest.mark.parametrize("fault", ["stall", "stall_body"])
async def test_a_stall_lasts_until_the_client_gives_up(lod: LodClient, fault: str) -> None:
    """A stalled answer never completes, and the next request is served as if nothing had been."""
    lod.sandbox.lod.fault_next(fault)
    with pytest.raises(TimeoutError):
        await lod.raw(timeout_s=0.05)
    assert (await lod.raw())[0] == 200


@pytest.mark.parametrize("fault", ["reset", "reset_body"])
async def test_a_reset_is_a_connection_error(lod: LodClient, fault: str) -> None:
    """A reset ends the connection without a complete answer."""
    lod.sandbox.lod.fault = fault
    with pytest.raises((aiohttp.ClientConnectionError, aiohttp.ClientPayloadError)):
        await lod.raw()


async def test_stopping_ends_what_stalls(lod: LodClient) -> None:
    """A sandbox that is stopped does not wait for its stalled answers."""
    lod.sandbox.lod.fault = "stall"
    stalled = asyncio.ensure_future(lod.raw())
    await wait_until(lambda: bool(lod.sandbox.lod.requests))
    async with asyncio.timeout(2):
        await lod.sandbox.stop()
    with pytest.raises(aiohttp.ClientConnectionError):
        await stalled


async def test_queued_faults_come_first_and_run_out(lod: LodClient) -> None:
    """A fault for the next N requests precedes the standing one and ends by itself."""
    lod.sandbox.lod.fault_next("429", times=2)
    assert [(await lod.raw())[0] for _ in range(3)] == [429, 429, 200]


def test_an_unknown_fault_is_refused_in_process_too() -> None:
    """Setting a fault that does not exist raises and names those that do."""
    simulator = LodSimulator(StillClock(), 1)
    with pytest.raises(SandboxInputError, match="503_html"):
        simulator.fault = "503"


LEARNOSITY_BODY_FAULTS = {
    "429": (429, TOO_MANY),
    "429_retry_after": (429, b"<html>"),
    "500_html": (500, b"<html>"),
    "503_html": (503, b"<html>"),
    "200_html": (200, b"<html>"),
    "empty_body": (200, b""),
    "301": (301, b""),
    "404_text": (404, b"404 page not found"),
    "truncated": (200, b'{"meta":{"status":true'),
    "empty": (200, b'{"meta":{"status":true'),
    "bad_row": (200, b'{"meta":{"status":true'),
    "numeric_strings": (200, b'{"meta":{"status":true'),
    "unknown_status": (200, b'{"meta":{"status":true'),
    "vendor_json": (200, b'{"meta":{"status":true'),
    "200_status_false": (200, b'{"meta":{"status":false,"code":10000'),
    **{str(code): (ERRORS[code][0], b'{"meta":{"status":false,"code":%d' % code) for code in ERRORS},
}


@pytest.mark.parametrize("fault", LEARNOSITY_BODY_FAULTS)
async def test_learnosity_faults_in_the_answer(learnosity: LearnosityClient, fault: str) -> None:
    """Each fault gives its status and its kind of body, and ends when it is taken back."""
    learnosity.sandbox.learnosity.put("s-1", status="Completed")
    learnosity.sandbox.learnosity.fault = fault
    status, body = await learnosity.post(signed({}))
    expected_status, start = LEARNOSITY_BODY_FAULTS[fault]
    assert (status, body[: len(start)]) == (expected_status, start)
    learnosity.sandbox.learnosity.fault = None
    assert (await learnosity.get())["meta"]["records"] == 1


async def test_faults_in_the_rows(learnosity: LearnosityClient) -> None:
    """Numbers as text, an unknown status, a bad row beside a good one, and the vendor's own invalid JSON."""
    simulator = learnosity.sandbox.learnosity
    simulator.put("s-1", num_attempted=4)
    simulator.fault = "numeric_strings"
    assert (await learnosity.get())["data"][0]["num_attempted"] == "4"
    simulator.fault = "unknown_status"
    assert (await learnosity.get())["data"][0]["status"] == "Archived"
    simulator.fault = "bad_row"
    assert [row["session_id"] for row in (await learnosity.get())["data"]] == ["s-1", None]
    simulator.fault = "empty"
    assert (await learnosity.get())["data"] == []
    for fault in ("vendor_json", "truncated"):
        simulator.fault = fault
        _, body = await learnosity.post(signed({}))
        assert (b'"session_duration": ,' in body) == (fault == "vendor_json")
        with pytest.raises(json.JSONDecodeError):
            json.loads(body)


@pytest.mark.parametrize("fault", sorted(BROKEN_FAULTS))
async def test_learnosity_faults_of_the_connection(learnosity: LearnosityClient, fault: str) -> None:
    """A stalled or reset answer never completes; the next request is served as if nothing had been."""
    learnosity.sandbox.learnosity.fault_next(fault)
    with pytest.raises((TimeoutError, aiohttp.ClientConnectionError, aiohttp.ClientPayloadError)):
        await learnosity.post(signed({}), timeout=aiohttp.ClientTimeout(total=0.05))
    assert (await learnosity.post(signed({})))[0] == 200


async def test_a_followed_redirect_loses_the_request(learnosity: LearnosityClient) -> None:
    """Whoever follows the 301 arrives with GET and without a body: 405."""
    learnosity.sandbox.learnosity.fault_next("301")
    url = f"{learnosity.sandbox.learnosity_url}/{LEARNOSITY_VERSION}/sessions/statuses"
    async with aiohttp.ClientSession() as session, session.post(url, data=signed({})) as response:
        assert response.status == 405
