"""Finding out: an entity by its id, why an event went where it did, what a filter would let through."""

import json

import pytest
from playwright.async_api import Page, expect

from tests.browser.chromium import Visits
from tests.service.admin_api import TOKEN, Api, attempt

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def search(page: Page, text: str) -> None:
    """Ask the box in the header."""
    await page.get_by_role("searchbox").fill(text)
    await page.keyboard.press("Enter")


async def test_an_entity_is_found_with_what_was_told_of_it(visits: Visits, api: Api) -> None:
    """Its id leads to its timeline, each event to who got it and why others did not."""
    visits.expect("404 /v1/entities/exams/.*")
    lms = await api.subscribe(description="The LMS")
    await api.subscribe(description="The gradebook", event_types=["session.*"])
    entries = await api.mint(2)
    await api.settle(lms["id"], attempt(lms, entries[0], 1, "delivered"), cursor=entries[1])
    page = await visits.open(str(api.http.make_url("/")), TOKEN)
    await search(page, entries[0].entity_id)
    await expect(page.get_by_role("heading", name="Lab instance")).to_be_visible()
    row = page.get_by_role("row").filter(has_text="lab.completed")
    await expect(row).to_contain_text("1 delivered")
    await row.get_by_role("link", name="lab.completed").click()
    refused = page.get_by_role("row").filter(has_text="The gradebook")
    await expect(refused).to_contain_text("event_types is lab.completed, and only session.* will do")
    await expect(page.get_by_role("row").filter(has_text="The LMS")).to_contain_text("delivered")


async def test_ids_lead_to_what_they_name(visits: Visits, api: Api) -> None:
    """Events, deliveries and subscribers are known by the beginning of their ids."""
    lms = await api.subscribe(description="The LMS")
    (entry,) = await api.mint(1)
    await api.settle(lms["id"], attempt(lms, entry, 1, "delivered"), cursor=entry)
    page = await visits.open(str(api.http.make_url("/")), TOKEN)
    for text, heading in {
        entry.event_id: "lab.completed",
        f"dlv_{lms['id'][4:]}_{entry.event_id[4:]}": "Delivery",
        lms["id"]: "The LMS",
    }.items():
        await search(page, text)
        await expect(page.get_by_role("heading", name=heading, level=1)).to_be_visible()
        assert text in page.url


async def test_a_learner_and_a_part_of_a_name_are_found(visits: Visits, api: Api) -> None:
    """A learner's id leads to the learner's events, a word to the subscribers that are called so."""
    visits.expect("404 /v1/entities/.*")
    await api.mint(3, user_id="learner-10")
    await api.mint(1, user_id="learner-11")
    await api.subscribe(description="The LMS of the north")
    page = await visits.open(str(api.http.make_url("/")), TOKEN)
    await search(page, "learner-10")
    await expect(page.get_by_text("3 events of learner learner-10 among the latest 4")).to_be_visible()
    await expect(page.get_by_role("row")).to_have_count(1 + 3)
    await search(page, "of the NORTH")
    await page.get_by_role("link", name="The LMS of the north").click()
    await expect(page.get_by_role("heading", name="The LMS of the north", level=1)).to_be_visible()


async def test_a_filter_is_tried_out_before_it_is_saved(visits: Visits, api: Api) -> None:
    """The preview counts what would have come and what keeps the rest away, and saves nothing."""
    await api.mint(2, user_id="555")
    await api.mint(1, user_id="777")
    page = await visits.open(str(api.http.make_url("/")), TOKEN, "#/subscribers/new")
    await page.get_by_text("Filter", exact=True).click()
    await page.get_by_label("Users").fill("555")
    await page.get_by_role("button", name="Preview").click()
    await expect(page.get_by_role("heading", name="2 of the last 3 events would have been sent")).to_be_visible()
    await expect(page.get_by_text("Kept away by: user_ids 1")).to_be_visible()
    assert await api.store.registry.all() == []


async def test_rows_that_are_kept_out_are_told_with_their_reasons(visits: Visits, api: Api) -> None:
    """A source says what it could not read, where and why, and that it is stale."""
    await api.mint(1)
    token, number = await api.store.snapshots.fence("lod")
    sample = {"reason": "not a number", "field": "ExamScore", "shape": "string of 7 bytes", "entity_id": "349744"}
    status = {
        "status": "ok",
        "last_good_poll_at": "2026-11-21T08:00:00.000Z",
        "invalid_rows": {"not a number": 2},
        "invalid_samples": [{**sample, "at": "2026-11-21T08:00:00.000Z"}],
    }
    await api.store.snapshots.mint("lod", token, number + 1, [], {"status:lod": json.dumps(status)})
    page = await visits.open(str(api.http.make_url("/")), TOKEN, "#/sources/lod")
    await expect(page.get_by_text("not a number: 2 rows")).to_be_visible()
    row = page.get_by_role("row").filter(has_text="349744")
    await expect(row).to_contain_text("ExamScore")
    await expect(row).to_contain_text("string of 7 bytes")
    await expect(page.get_by_text("stale", exact=True)).to_be_visible()
