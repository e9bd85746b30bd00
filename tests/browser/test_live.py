"""The live stream of events: it begins with the latest, can be held, filtered and cut off, and loses nothing."""

import pytest
from playwright.async_api import Page, expect

from tests.browser.chromium import Visits
from tests.service.admin_api import TOKEN, Api

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def live(page: Page) -> None:
    """Wait until the stream is open."""
    await expect(page.get_by_role("status").filter(has_text="live")).to_be_visible()


async def shown(page: Page) -> list[str]:
    """The ids of the events, from the top."""
    return [
        one.rpartition("/")[2]
        for one in await page.locator("tbody a[href^='#/events/']").evaluate_all("all => all.map((one) => one.href)")
    ]


async def test_a_pause_loses_nothing(visits: Visits, api: Api) -> None:
    """What came before, meanwhile and after is shown once each, the latest first."""
    before = await api.mint(3)
    page = await visits.open(str(api.http.make_url("/")), TOKEN, "#/events")
    await live(page)
    await page.get_by_role("button", name="Pause").click()
    await expect(page.get_by_role("status").filter(has_text="paused")).to_be_visible()
    meanwhile = await api.mint(4)
    await expect(page.locator("tbody tr")).to_have_count(3)
    await page.get_by_role("button", name="Continue").click()
    await live(page)
    await expect(page.locator("tbody tr")).to_have_count(7)
    after = await api.mint(2)
    await expect(page.locator("tbody tr")).to_have_count(9)
    ids = [one.event_id for one in (*before, *meanwhile, *after)]
    assert await shown(page) == ids[::-1]


async def test_a_filter_holds_for_what_was_and_what_comes(visits: Visits, api: Api) -> None:
    """Only events of the type that is asked for are listed, from before and from now on."""
    await api.mint(2, "lab.started")
    await api.mint(1, "lab.completed")
    page = await visits.open(str(api.http.make_url("/")), TOKEN, "#/events")
    await live(page)
    await page.get_by_label("Event type").fill("lab.started")
    await page.get_by_role("button", name="Filter").click()
    await expect(page.locator("tbody tr")).to_have_count(2)
    await live(page)
    await api.mint(1, "lab.completed")
    await api.mint(1, "lab.started")
    await expect(page.locator("tbody tr")).to_have_count(3)
    await expect(page.get_by_role("cell", name="lab.completed")).to_have_count(0)


async def test_thousands_of_events_keep_the_page_small(visits: Visits, api: Api) -> None:
    """The list holds the latest 500, and says how many have passed."""
    page = await visits.open(str(api.http.make_url("/")), TOKEN, "#/events")
    await live(page)
    await api.mint(1500)
    await expect(page.get_by_text("The latest 500 of 1,500")).to_be_visible()
    await expect(page.locator("tbody tr")).to_have_count(500)
