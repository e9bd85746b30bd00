"""Deliveries over HTTP: every status from the place where it stands, pages that miss nothing, bounded searches."""

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from relay.admin.delivery_schema import DeliveriesQuery
from relay.admin.ledger import DeliveryStatus
from relay.admin.listing import DeadCursor, WalkCursor
from relay.admin.pending import RetryCursor
from relay.store.deliveries import DeliveryStore
from relay.store.keys import shard_of
from tests.service.admin_api import Answer, Api, admin_api, attempt

PATH = "/v1/deliveries"
FAR_MS = 4_000_000_000_000
"""A due time that does not come during a test (2096)."""


def statuses(answer: Answer) -> list[tuple[str, str, Any]]:
    """Event, status and attempts of a page."""
    return [(one["event_id"], one["status"], one["attempts"]) for one in answer.body["data"]]


async def one_of_each(api: Api) -> tuple[dict[str, Any], dict[str, str]]:
    """A subscriber with a delivery in every status; returns event ids by what became of them."""
    subscriber = await api.subscribe()
    delivered, second, waiting, dead, queued, last = await api.mint(6)
    await api.settle(subscriber["id"], attempt(subscriber, delivered, 1, "delivered"))
    await api.settle(subscriber["id"], attempt(subscriber, second, 1, "retry", next_ms=second.place.ms))
    await api.settle(subscriber["id"], attempt(subscriber, dead, 1, "retry", next_ms=dead.place.ms))
    await api.settle(
        subscriber["id"],
        attempt(subscriber, waiting, 1, "retry", next_ms=FAR_MS),
        attempt(subscriber, dead, 2, "dead"),
        cursor=dead,
    )
    await api.settle(subscriber["id"], attempt(subscriber, second, 2, "delivered"))
    names = {"delivered": delivered, "second": second, "waiting": waiting, "dead": dead, "queued": queued, "last": last}
    return subscriber, {name: entry.event_id for name, entry in names.items()}


async def test_a_list_shows_each_delivery_once_the_latest_first(redis_client: Redis) -> None:
    """Queued ones come first, then each delivery by its latest attempt; superseded attempts do not show."""
    async with admin_api(redis_client) as api:
        subscriber, ids = await one_of_each(api)
        answer = await api.get(PATH)
        assert statuses(answer) == [
            (ids["queued"], "pending", 0),
            (ids["last"], "pending", 0),
            (ids["second"], "delivered", 2),
            (ids["dead"], "dead", 2),
            (ids["waiting"], "pending", 1),
            (ids["delivered"], "delivered", 1),
        ]
        first = answer.body["data"][0]
        assert first["id"] == f"dlv_{subscriber['id'][4:]}_{ids['queued'][4:]}"
        assert set(first) == {
            "id",
            "event_id",
            "event_type",
            "subscriber_id",
            "status",
            "attempts",
            "next_attempt_at",
            "event_at",
            "cause",
            "died_at",
            "waits_for",
        }
        assert answer.body["data"][4]["next_attempt_at"] == "2096-10-02T07:06:40.000Z"
        assert answer.body["next_cursor"] is None


@pytest.mark.parametrize("limit", [1, 2, 50])
async def test_each_status_has_its_list(redis_client: Redis, limit: int) -> None:
    """By status, in pages of any size, the same as one by one."""
    async with admin_api(redis_client) as api:
        _, ids = await one_of_each(api)
        wanted = {
            "pending": ["waiting", "queued", "last"],
            "delivered": ["second", "delivered"],
            "dead": ["dead"],
            "cancelled": [],
        }
        for status, names in wanted.items():
            found = await api.pages(PATH, status=status, limit=limit)
            assert [one["event_id"] for one in found] == [ids[name] for name in names], status
            assert {one["status"] for one in found} <= {status}
            for one in found:
                shown = (await api.get(f"{PATH}/{one['id']}")).body
                assert one.pop("waits_for") == next((wait["reason"] for wait in shown.pop("waits")), None)
                assert shown == {**one, "attempts": shown["attempts"], "attempts_complete": True}
                assert len(shown["attempts"]) == one["attempts"]


async def test_one_delivery_shows_its_attempts_oldest_first(redis_client: Redis) -> None:
    """With outcome, times and the beginning of the answer as text."""
    async with admin_api(redis_client) as api:
        subscriber, ids = await one_of_each(api)
        body = (await api.get(f"{PATH}/dlv_{subscriber['id'][4:]}_{ids['second'][4:]}")).body
        assert (body["status"], body["next_attempt_at"], body["attempts_complete"]) == ("delivered", None, True)
        assert [one["verdict"] for one in body["attempts"]] == ["retry", "delivered"]
        first = body["attempts"][0]
        assert first.pop("at").endswith("Z")
        assert first.pop("next_attempt_at").endswith("Z")
        assert first == {
            "attempt_no": 1,
            "outcome": "status",
            "status_code": 500,
            "duration_ms": 12,
            "dns_ms": None,
            "connect_ms": None,
            "first_byte_ms": None,
            "detail": "HTTP 500",
            "response_body": "oops \N{REPLACEMENT CHARACTER}",
            "verdict": "retry",
        }


async def test_the_deliveries_of_one_event(redis_client: Redis) -> None:
    """One per matching subscriber, in pages; those it does not match have none."""
    async with admin_api(redis_client) as api:
        subscribers = [await api.subscribe() for _ in range(3)]
        await api.subscribe(event_types=["session.*"])
        (entry,) = await api.mint()
        await api.settle(subscribers[1]["id"], attempt(subscribers[1], entry, 1, "delivered"), cursor=entry)
        found = await api.pages(PATH, event_id=entry.event_id, limit=2)
        expected = {one["id"]: "pending" for one in subscribers} | {subscribers[1]["id"]: "delivered"}
        assert {one["subscriber_id"]: one["status"] for one in found} == expected
        only = await api.pages(PATH, event_id=entry.event_id, status="delivered", limit=1)
        assert [one["subscriber_id"] for one in only] == [subscribers[1]["id"]]
        assert await api.pages(PATH, event_id="evt_unknown") == []
        for name, other in (("event_id", "sub_a"), ("subscriber_id", "evt_a"), ("subscriber_id", "")):
            refused = await api.get(PATH, **{name: other})
            assert (refused.status, refused.pointers) == (422, [f"/{name}"])
            assert "those begin with" in refused.body["errors"][0]["detail"]
        single = await api.pages(PATH, event_id=entry.event_id, subscriber_id=subscribers[0]["id"])
        assert [one["status"] for one in single] == ["pending"]


async def test_lists_of_one_subscriber_hold_nobody_else(redis_client: Redis) -> None:
    """Whatever the status; an unknown subscriber has nothing."""
    async with admin_api(redis_client) as api:
        subscriber, ids = await one_of_each(api)
        other = await api.subscribe()
        await api.mint(2)
        for status in ({}, {"status": "pending"}, {"status": "dead"}, {"status": "delivered"}):
            found = await api.pages(PATH, subscriber_id=subscriber["id"], **status)
            assert {one["subscriber_id"] for one in found} == {subscriber["id"]}
        found = await api.pages(PATH, subscriber_id=other["id"])
        assert [one["status"] for one in found] == ["pending", "pending"]
        assert not {one["event_id"] for one in found} & set(ids.values())
        for status in ({}, {"status": "pending"}, {"status": "dead"}):
            assert await api.pages(PATH, subscriber_id="sub_nobody", **status) == []


async def test_what_never_was_a_delivery_is_not_found(redis_client: Redis) -> None:
    """An event from before the subscriber, one that it does not want, ids that make no sense."""
    async with admin_api(redis_client) as api:
        (before,) = await api.mint()
        subscriber = await api.subscribe(event_types=["lab.cancelled"])
        (unwanted,) = await api.mint()
        for event_id in (before.event_id, unwanted.event_id, "evt_unknown"):
            assert (await api.get(f"{PATH}/dlv_{subscriber['id'][4:]}_{event_id[4:]}")).status == 404
        for text in ("dlv_", "dlv_a", "x", "dlv_a_b_c", "dlv_nobody_" + unwanted.event_id[4:]):
            assert (await api.get(f"{PATH}/{text}")).body["type"] == "/problems/not-found"


async def test_deliveries_of_a_deleted_subscriber_end_as_cancelled(redis_client: Redis) -> None:
    """What was delivered stays delivered; what waited is cancelled once its retry was dropped."""
    async with admin_api(redis_client) as api:
        subscriber, ids = await one_of_each(api)
        assert (await api.call("DELETE", f"/v1/subscribers/{subscriber['id']}")).status == 204
        key = f"{{relay}}:rq:{shard_of(subscriber['id'])}"
        await redis_client.delete(key)  # as the dispatcher does when it comes upon it
        found = {one["event_id"]: one["status"] for one in await api.pages(PATH)}
        assert found == {
            ids["second"]: "delivered",
            ids["dead"]: "dead",
            ids["waiting"]: "cancelled",
            ids["delivered"]: "delivered",
        }
        assert [one["event_id"] for one in await api.pages(PATH, status="cancelled")] == [ids["waiting"]]
        shown = (await api.get(f"{PATH}/dlv_{subscriber['id'][4:]}_{ids['waiting'][4:]}")).body
        assert (shown["status"], len(shown["attempts"])) == ("cancelled", 1)
        found_of_event = await api.pages(PATH, event_id=ids["waiting"], subscriber_id=subscriber["id"])
        assert [one["status"] for one in found_of_event] == ["cancelled"]


async def test_what_was_acknowledged_ahead_of_the_cursor_is_not_queued(redis_client: Redis) -> None:
    """The cursor waits for the oldest attempt under way; the others are told as what they are."""
    async with admin_api(redis_client) as api:
        subscriber = await api.subscribe()
        slow, quick = await api.mint(2)
        await api.settle(subscriber["id"], attempt(subscriber, quick, 1, "delivered"))
        assert statuses(await api.get(PATH)) == [(slow.event_id, "pending", 0), (quick.event_id, "delivered", 1)]
        assert [one["event_id"] for one in await api.pages(PATH, status="pending")] == [slow.event_id]


async def test_a_first_attempt_that_takes_long_is_pending(redis_client: Redis) -> None:
    """It is parked among the retries and the cursor has passed it: in no list may it be missing."""
    async with admin_api(redis_client) as api:
        subscriber = await api.subscribe()
        slow, quick = await api.mint(2)
        await api.settle(subscriber["id"], attempt(subscriber, quick, 1, "delivered"), cursor=quick, parked=slow)
        assert statuses(await api.get(PATH)) == [(slow.event_id, "pending", 0), (quick.event_id, "delivered", 1)]
        (pending,) = await api.pages(PATH, status="pending")
        assert (await api.get(f"{PATH}/{pending['id']}")).body["status"] == "pending"
        (of_event,) = await api.pages(PATH, event_id=slow.event_id)
        assert of_event == pending


async def test_pages_over_many_shards_miss_nothing_and_repeat_nothing(redis_client: Redis) -> None:
    """Attempts of all shards merge into one order, the latest first, page after page."""
    async with admin_api(redis_client) as api:
        subscribers = [await api.subscribe() for _ in range(8)]
        entries = await api.mint(12)
        for entry in entries:
            for subscriber in subscribers:
                await api.settle(subscriber["id"], attempt(subscriber, entry, 1, "delivered"), cursor=entry)
        for limit in (7, 250):
            found = await api.pages(PATH, limit=limit)
            pairs = [(one["subscriber_id"], one["event_id"]) for one in found]
            assert len(pairs) == len(set(pairs)) == 96
            newest = [one["event_id"] for one in found[:8]]
            assert newest == [entries[-1].event_id] * 8


async def test_many_dead_letters_and_retries_with_equal_times_are_paged_exactly(redis_client: Redis) -> None:
    """A whole group dies in one millisecond, or is due in one: every page goes on where the last one ended."""
    async with admin_api(redis_client) as api:
        subscribers = [await api.subscribe(), await api.subscribe()]
        entries = await api.mint(40)
        for subscriber in subscribers:
            dead = [attempt(subscriber, entry, 1, "dead") for entry in entries[:20]]
            waiting = [attempt(subscriber, entry, 1, "retry", next_ms=FAR_MS) for entry in entries[20:]]
            await api.settle(subscriber["id"], *dead, *waiting, cursor=entries[-1])
        for status, wanted in (("dead", entries[:20]), ("pending", entries[20:])):
            found = await api.pages(PATH, status=status, limit=7)
            pairs = {(one["subscriber_id"], one["event_id"]) for one in found}
            assert len(found) == len(pairs) == 40
            assert {event_id for _, event_id in pairs} == {entry.event_id for entry in wanted}
            assert {one["attempts"] for one in found} == {1}


async def test_a_long_queue_is_read_in_bounded_pages(redis_client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A subscriber that is disabled for long: its whole backlog is pending, in the order of sending."""
    monkeypatch.setattr("relay.admin.pending.CHUNK", 10)
    monkeypatch.setattr("relay.admin.pending.SCAN", 20)
    async with admin_api(redis_client) as api:
        await api.subscribe(enabled=False, event_types=["lab.completed"])
        await api.subscribe(enabled=False, event_types=["lab.cancelled"])
        entries = await api.mint(55)
        rare = await api.mint(1, "lab.cancelled")
        found = await api.pages(PATH, status="pending", limit=9)
        assert sorted(one["event_id"] for one in found) == sorted(one.event_id for one in entries + rare)
        for limit in (1, 7, 50):
            everything = await api.pages(PATH, limit=limit)
            assert sorted(one["event_id"] for one in everything) == sorted(one["event_id"] for one in found)


async def test_the_list_of_all_goes_on_with_the_queue_where_the_attempts_end(redis_client: Redis) -> None:
    """A subscriber that fails: what it was sent, what waits for a retry and all that is queued, each once."""
    async with admin_api(redis_client) as api:
        subscriber = await api.subscribe()
        entries = await api.mint(40)
        failed = [attempt(subscriber, one, 1, "retry", next_ms=3_999_999_999_999) for one in entries[:3]]
        await api.settle(subscriber["id"], *failed, attempt(subscriber, entries[3], 1, "delivered"), cursor=entries[3])
        for limit in (1, 2, 9, 50):
            found = await api.pages(PATH, subscriber_id=subscriber["id"], limit=limit)
            assert sorted(one["event_id"] for one in found) == sorted(one.event_id for one in entries), limit


async def test_a_search_in_a_busy_shard_is_bounded_and_says_so(
    redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """convoy#381: past its budget a search judges by cursor and retries alone, and marks the attempts as incomplete."""
    async with admin_api(redis_client) as api:
        subscriber = await api.subscribe()
        first, *others = await api.mint(40)
        for other in others:
            await api.settle(subscriber["id"], attempt(subscriber, other, 1, "delivered"))
        await api.settle(subscriber["id"], attempt(subscriber, first, 1, "delivered"), cursor=others[-1])
        path = f"{PATH}/dlv_{subscriber['id'][4:]}_{first.event_id[4:]}"
        assert len((await api.get(path)).body["attempts"]) == 1
        monkeypatch.setattr("relay.admin.attempt_walk.Budget.__init__.__defaults__", (8,))
        body = (await api.get(path)).body
        assert (body["status"], body["attempts"], body["attempts_complete"]) == ("delivered", [], False)
        found = await api.pages(PATH, event_id=first.event_id)
        assert [one["status"] for one in found] == ["delivered"]


async def test_a_delivery_that_settles_between_two_reads_is_not_told_as_cancelled(
    redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """State and attempts are read one after the other; what happens in between is seen on a second look."""
    async with admin_api(redis_client) as api:
        subscriber = await api.subscribe()
        (entry,) = await api.mint()
        await api.settle(subscriber["id"], cursor=entry)  # under way, and settled as far as the cursor goes
        read = DeliveryStore.states
        calls: list[int] = []

        async def settle_after(store: DeliveryStore, *arguments: Any) -> Any:
            states = await read(store, *arguments)
            if not calls:
                calls.append(1)
                await api.settle(subscriber["id"], attempt(subscriber, entry, 1, "retry", next_ms=FAR_MS))
            return states

        monkeypatch.setattr(DeliveryStore, "states", settle_after)
        body = (await api.get(f"{PATH}/dlv_{subscriber['id'][4:]}_{entry.event_id[4:]}")).body
        assert (body["status"], len(body["attempts"])) == ("pending", 1)


async def test_lists_stay_right_while_attempts_are_committed(redis_client: Redis) -> None:
    """What stood in the record when the first page was read comes exactly once, whatever is added meanwhile."""
    async with admin_api(redis_client) as api:
        subscriber = await api.subscribe()
        entries = await api.mint(60)
        for entry in entries[:30]:
            await api.settle(subscriber["id"], attempt(subscriber, entry, 1, "delivered"), cursor=entry)

        async def keep_settling() -> None:
            for entry in entries[30:]:
                await api.settle(subscriber["id"], attempt(subscriber, entry, 1, "delivered"), cursor=entry)

        first = await api.get(PATH, status="delivered", limit=5)
        settling = asyncio.ensure_future(keep_settling())
        rest = await api.pages(PATH, status="delivered", limit=5, cursor=first.body["next_cursor"])
        await settling
        seen = [one["event_id"] for one in first.body["data"] + rest]
        assert seen == [entry.event_id for entry in reversed(entries[:30])]


async def test_filters_are_checked(redis_client: Redis) -> None:
    """An unknown status or parameter is named."""
    async with admin_api(redis_client) as api:
        assert (await api.get(PATH, status="lost")).pointers == ["/status"]
        assert (await api.get(PATH, event="evt_1")).pointers == ["/event"]


async def test_a_cursor_belongs_to_the_list_that_gave_it_out(redis_client: Redis) -> None:
    """With a filter more, or another one, 422 says so; with the same ones the list goes on, whatever the limit."""
    async with admin_api(redis_client) as api:
        subscribers = [await api.subscribe() for _ in range(2)]
        entries = await api.mint(4)
        for one in subscribers:
            dead, delivered = ([attempt(one, entry, 1, end) for entry in entries] for end in ("dead", "delivered"))
            await api.settle(one["id"], *dead[:2], *delivered[2:], cursor=entries[-1])
        event, other = {"event_id": entries[0].event_id}, {"event_id": entries[1].event_id}
        lists = [{}, {"status": "dead"}, {"status": "delivered"}, {"event_type": "lab.*"}, event, other]
        for filters in lists:
            first = await api.get(PATH, limit=1, **filters)
            cursor = first.body["next_cursor"]
            assert (await api.get(PATH, limit=250, cursor=cursor, **filters)).status == 200
            for others in [*lists, {**filters, "subscriber_id": subscribers[0]["id"]}]:
                if others != filters:
                    answer = await api.get(PATH, limit=1, cursor=cursor, **others)
                    assert (answer.status, answer.pointers) == (422, ["/cursor"])
                    assert "with the same other parameters" in answer.body["errors"][0]["detail"]


@pytest.mark.parametrize("status", ["dead", "pending", "delivered"])
async def test_a_cursor_made_by_hand_is_refused_as_any_other(redis_client: Redis, status: DeliveryStatus) -> None:
    """Also one that bears the mark of the list, but is of another kind, or out of bounds."""
    async with admin_api(redis_client) as api:
        query = DeliveriesQuery(status=status)
        query.belong(PATH, {"status": status})
        kinds = [DeadCursor(1, "a", "b"), WalkCursor(1, 2, 3, 4), RetryCursor(1, "a"), WalkCursor(2**60, 0, 0, 0)]
        cursors = [query.following(one) or "" for one in kinds]
        cursors += ["WyJkZWFkIiwxLCJhIiwiYiJd", "x"]
        answers = [await api.get(PATH, status=status, cursor=one) for one in cursors]
        assert sorted(one.status for one in answers) == [200, *[422] * 5]
