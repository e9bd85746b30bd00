"""How a source is doing: when that is worth an event, and what the event says."""

import json
from datetime import timedelta

import msgspec

from relay.core.health import DEGRADED_AFTER, OWN, Health, health_change
from relay.core.memory import Digest
from tests.unit.entities import NOW, data


def failed(health: Health, times: int, reason: str = "timeout") -> list[tuple[bool, bool]]:
    """Fail some polls."""
    return [health.fail(reason, "no answer", NOW + timedelta(seconds=turn)) for turn in range(times)]


def test_only_several_failures_in_a_row_degrade() -> None:
    """The poll that makes it so says so, and only once the event is stored do later ones keep quiet."""
    health = Health()
    assert [degraded for degraded, _ in failed(health, DEGRADED_AFTER)] == [False, False, True]
    assert failed(health, 1)[0][0]
    health.stored = health_change("lod", "relay.source.degraded", health, NOW, None).new
    assert not failed(health, 1)[0][0]


def test_a_good_poll_between_begins_the_count_again() -> None:
    """Failures are counted in a row."""
    health = Health()
    failed(health, DEGRADED_AFTER - 1)
    assert not health.succeed(NOW, Digest(), 0, 0)
    assert not any(degraded for degraded, _ in failed(health, DEGRADED_AFTER - 1))


def test_a_failure_is_news_once_per_reason() -> None:
    """A log with one line per change of state needs to know what has changed."""
    health = Health()
    assert [news for _, news in failed(health, 3)] == [True, False, False]
    assert failed(health, 1, "refused")[0][1]
    health.succeed(NOW, Digest(), 0, 0)
    assert failed(health, 1, "refused")[0][1]


def test_recovery_is_told_only_after_degradation_was() -> None:
    """`relay.source.recovered` never comes alone, and joins the history of the source."""
    health = Health()
    failed(health, 2)
    assert not health.succeed(NOW, Digest(), 0, 0)
    failed(health, DEGRADED_AFTER)
    degraded = health_change("lod", "relay.source.degraded", health, NOW, None)
    health.stored = degraded.new
    assert health.succeed(NOW, Digest(), 0, 0)
    recovered = health_change("lod", "relay.source.recovered", health, NOW, None)
    assert (degraded.expected, recovered.expected) == (b"", degraded.new)
    told = [data(change.events[0]) for change in (degraded, recovered)]
    assert [one["sequence"] for one in told] == [1, 2]
    assert [one["transition"] for one in told] == [{"from": "ok", "to": "degraded"}, {"from": "degraded", "to": "ok"}]
    assert told[0]["record"]["reason"] == "timeout"
    since = "2026-11-21T17:00:00.000Z"
    assert told[1]["record"] == {"source": "lod", "failing_since": since}
    assert [one["changes"]["failing_since"] for one in told] == [
        {"from": None, "to": since},
        {"from": since, "to": None},
    ]


def test_two_outages_are_two_events() -> None:
    """In whatever store they are told, and though each is the first of its kind there."""
    ids = set()
    for hour in range(3):
        health = Health()
        for _ in range(DEGRADED_AFTER):
            health.fail("timeout", "no answer", NOW + timedelta(hours=hour))
        change = health_change("lod", "relay.source.degraded", health, NOW, None)
        again = Health.restore(health.status(), change.new)  # a restart in between
        again.succeed(NOW, Digest(), 0, 0)
        ids |= {change.events[0].id, health_change("lod", "relay.source.recovered", again, NOW, None).events[0].id}
    assert len(ids) == 6


def test_the_id_of_a_gap_does_not_move_with_its_end() -> None:
    """Each attempt to close a gap ends later; it is one gap, and the next holder knows that it was told."""
    ids, change = set(), None
    for days in (7, 6):
        change = health_change(
            "lod", "relay.source.gap", Health(), NOW, (NOW - timedelta(days=9), NOW - timedelta(days))
        )
        ids.add(change.events[0].id)
    assert len(ids) == 1
    assert change is not None
    assert Health.restore(None, change.new).gap_told() == "2026-11-12T17:00:00.000Z"
    assert Health().gap_told() is None


def test_what_an_earlier_version_has_stored_is_understood() -> None:
    """It did not remember gaps."""
    health = Health.restore(None, msgspec.msgpack.encode((4, "degraded")))
    assert (health.told(), health.gap_told()) == ((4, "degraded"), None)


def test_the_status_shows_what_is_held_back() -> None:
    """Until a poll succeeds or fails."""
    health = Health()
    for after in (lambda: health.succeed(NOW, Digest(), 0, 0), lambda: health.fail("timeout", "no answer", NOW)):
        health.hold(NOW, [str(number) for number in range(150)])
        told = json.loads(health.status())
        assert (told["held_back"], told["held_back_entities"][-1]) == (150, "19")
        after()
        told = json.loads(health.status())
        assert (told["held_back"], told["held_back_entities"]) == (0, [])


def test_a_gap_moves_no_status_and_names_its_span() -> None:
    """Two gaps of a source are two events."""
    health = Health()
    ids = []
    for days in (9, 8):
        span = (NOW - timedelta(days=days), NOW - timedelta(days=7))
        change = health_change("lod", "relay.source.gap", health, NOW, span)
        (event,) = change.events
        assert data(event)["transition"] == {"from": "ok", "to": "ok"}
        assert data(event)["record"]["to"] == "2026-11-14T17:00:00.000Z"
        ids.append(event.id)
    assert len(set(ids)) == 2


def test_an_event_about_a_source_is_the_relays_own_entity() -> None:
    """It cannot meet an entity of the upstream: its source is the relay."""
    change = health_change("lod", "relay.source.gap", Health(), NOW, (NOW, NOW))
    assert change.entity_id == "source:lod"
    assert (change.events[0].source, data(change.events[0])["entity"]) == (OWN, {"kind": "source", "id": "lod"})


def test_the_same_event_about_two_sources_has_two_ids() -> None:
    """Degraded at the same moment with the same sequence, yet two events."""
    ids = {
        health_change(name, "relay.source.degraded", Health(), NOW, None).events[0].id for name in ("lod", "learnosity")
    }
    assert len(ids) == 2


def test_the_next_holder_knows_what_the_last_one_did() -> None:
    """Failures, reason and what was told survive in the store."""
    health = Health()
    failed(health, DEGRADED_AFTER)
    health.stored = health_change("lod", "relay.source.degraded", health, NOW, None).new
    again = Health.restore(health.status(), health.stored)
    assert again.failures == DEGRADED_AFTER
    assert again.error == health.error
    assert again.told() == (1, "degraded")
    assert again.succeed(NOW, Digest(), 0, 0)
    assert Health.restore(None, None).told() == (0, "ok")


def test_the_status_shows_the_last_poll_and_the_rows_kept_out() -> None:
    """It is what `GET /v1/sources` answers; a failure leaves the time of the last good poll."""
    health = Health()
    digest = Digest(rows=5, older=1)
    digest.invalid["End is not a time"] += 2
    health.succeed(NOW, digest, 7, 3)
    failed(health, 1)
    shown = json.loads(health.status())
    assert shown["status"] == "failing"
    assert shown["last_good_poll_at"] == "2026-11-21T17:00:00.000Z"
    assert shown["error"] == {"reason": "timeout", "detail": "no answer", "since": "2026-11-21T17:00:00.000Z"}
    assert (shown["rows"], shown["entities"], shown["open_entities"], shown["older_rows"]) == (5, 7, 3, 1)
    assert shown["invalid_rows"] == {"End is not a time": 2}


def test_since_is_the_beginning_of_the_trouble() -> None:
    """Later failures, whatever their reason, do not move it."""
    health = Health()
    failed(health, 1)
    health.fail("refused", "key", NOW + timedelta(hours=1))
    assert health.error["since"] == "2026-11-21T17:00:00.000Z"
