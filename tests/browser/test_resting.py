"""A subscriber that fails: told of at once, with the moment of its next try, wherever it is shown."""

import pytest
from playwright.async_api import expect

from tests.browser.chromium import Visits, go
from tests.service.admin_api import TOKEN, Api, attempt

pytestmark = pytest.mark.asyncio(loop_scope="session")

HOUR_MS = 3_600_000


async def test_a_subscriber_that_rests_is_nowhere_green(visits: Visits, api: Api) -> None:
    """The overview, the list and its own page name it; its page says why, since when and until when."""
    one = await api.subscribe(description="The LMS")
    (entry,) = await api.mint(1)
    later = entry.place.ms + HOUR_MS
    failed = [attempt(one, entry, 1, "retry", next_ms=later)]
    await api.settle(one["id"], *failed, cursor=entry, resting_until_ms=later)
    page = await visits.open(str(api.http.make_url("/")), TOKEN)
    await expect(page.get_by_text("1 failing")).to_be_visible()
    await go(page, "#/subscribers")
    row = page.get_by_role("row").filter(has_text="The LMS")
    await expect(row).to_contain_text("failing resting")
    await go(page, f"#/subscribers/{one['id']}")
    await expect(page.get_by_text("it answered 500, since")).to_be_visible()
    await expect(page.get_by_text("It rests until")).to_contain_text("in 60 min")
    await expect(page.get_by_role("definition").filter(has_text="never")).to_have_count(1)  # a success
    await expect(page.locator(".badge.good")).to_have_count(0)


async def test_a_delivery_says_what_it_waits_for(visits: Visits, api: Api) -> None:
    """In the list and on its own page, and asked for again it is not said to go out now."""
    one = await api.subscribe(description="The LMS")
    dead, waits, queued = await api.mint(3)
    later = waits.place.ms + HOUR_MS
    results = [attempt(one, dead, 1, "dead"), attempt(one, waits, 1, "retry", next_ms=waits.place.ms + 1000)]
    await api.settle(one["id"], *results, cursor=waits, resting_until_ms=later)
    page = await visits.open(str(api.http.make_url("/")), TOKEN, "#/deliveries?status=pending")
    await expect(page.get_by_role("row").filter(has_text="its subscriber rests")).to_have_count(2)
    ids = [f"dlv_{one['id'][4:]}_{entry.event_id[4:]}" for entry in (dead, waits, queued)]
    await go(page, f"#/deliveries/{ids[1]}")
    await expect(page.get_by_role("definition").filter(has_text="its subscriber rests")).to_contain_text("in 60 min")
    await go(page, f"#/deliveries/{ids[0]}")
    await page.get_by_role("button", name="Redeliver").click()
    told = page.get_by_role("status").filter(has_text="Asked for: its subscriber rests")
    await expect(told).to_contain_text("next at")
