"""Where a learner was erased, and where a source cannot be read: the views say so instead of breaking."""

import json

import pytest
from playwright.async_api import expect

from tests.browser.chromium import Visits, go
from tests.service.admin_api import TOKEN, Api

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_an_erased_learner_leaves_views_that_work(
    visits: Visits, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every table that shows events shows the erased one as such, and its own page says what is left of it."""
    visits.expect("410 /v1/events/.*")
    monkeypatch.setattr("relay.erasure.SETTLE_S", 0.0)
    await api.subscribe(description="The LMS")
    (erased,) = await api.mint(1, user_id="jane")
    await api.mint(1)
    assert (await api.call("DELETE", "/v1/users/jane")).status == 200
    page = await visits.open(str(api.http.make_url("/")), TOKEN, f"#/events?entity_id={erased.entity_id}")
    await expect(page.get_by_role("row").filter(has_text="erased")).to_be_visible()
    await go(page, f"#/entities/lod/{erased.entity_id}")
    await expect(page.get_by_role("row").filter(has_text="erased")).to_be_visible()
    await expect(page.get_by_role("cell", name="nobody's")).to_have_count(0)
    await page.get_by_role("link", name="lab.completed").click()
    await expect(page.get_by_role("heading", name="Erased event")).to_be_visible()
    await expect(page.get_by_role("region", name="Deliveries")).to_be_visible()
    await expect(page.get_by_role("button", name="Try again")).to_have_count(0)
    await page.get_by_role("link", name=erased.entity_id, exact=True).click()
    await expect(page.get_by_role("heading", name="Lab instance")).to_be_visible()


async def test_an_empty_list_names_the_source_that_cannot_be_read(visits: Visits, api: Api) -> None:
    """Nobody waits for events of an upstream that refuses the key."""
    token, number = await api.store.snapshots.fence("lod")
    error = {"reason": "refused", "detail": "HTTP 401: check the credentials", "since": "2026-11-22T00:50:00.000Z"}
    status = {"status": "failing", "failures": 3, "error": error}
    await api.store.snapshots.mint("lod", token, number + 1, [], {"status:lod": json.dumps(status)})
    page = await visits.open(str(api.http.make_url("/")), TOKEN, "#/events")
    told = page.get_by_role("paragraph").filter(has_text="the upstream refuses the credentials")
    await expect(told).to_contain_text("HTTP 401: check the credentials")
    await told.get_by_role("link", name="lod").click()
    await expect(page.get_by_role("heading", name="Source lod")).to_be_visible()


async def test_what_cannot_be_refreshed_is_told_once(visits: Visits, api: Api) -> None:
    """However many parts of a view are old, one line says so, and goes when all of them are new."""
    visits.expect("503 /v1/.*")
    page = await visits.open(str(api.http.make_url("/")), None)
    await page.clock.install()
    await page.get_by_label("Admin token").fill(TOKEN)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("row").filter(has_text="exams")).to_be_visible()
    await expect(page.locator("[aria-busy]")).to_have_count(0)
    away = {"type": "/problems/store-unavailable", "title": "The store cannot be reached", "status": 503, "detail": ""}
    await page.route("**/v1/s*", lambda route: route.fulfill(status=503, json=away))
    await page.clock.run_for(21_000)
    await expect(page.get_by_text("Not refreshed: The store cannot be reached.")).to_have_count(1)
    await page.unroute("**/v1/s*")
    await page.clock.run_for(21_000)
    await expect(page.get_by_text("Not refreshed")).to_have_count(0)
