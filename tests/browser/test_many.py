"""Subscribers by the hundred: counted all, found by a part of their name, and each told of as it stands."""

import msgspec
import pytest
from playwright.async_api import expect

from relay.core.subscriber import State
from tests.browser.chromium import Visits
from tests.service.admin_api import TOKEN, Api

pytestmark = pytest.mark.asyncio(loop_scope="session")

MANY = 260
"""More than a page of the API holds."""


async def failing(api: Api, description: str) -> str:
    """A subscriber whose attempts fail; its id."""
    made = await api.subscribe(description=description)
    old = await api.store.registry.get(made["id"])
    assert old is not None
    state = State(status="failing", reason="the latest attempt failed", failing_since="2026-11-22T00:48:15.000Z")
    await api.store.registry.replace(old, msgspec.structs.replace(old, state=state), None)
    return str(made["id"])


async def test_all_of_them_are_counted_and_can_be_searched(visits: Visits, api: Api) -> None:
    """Beyond the API's page too; the list says how many fit, and its filters are part of the address."""
    for number in range(MANY):
        await api.subscribe(description=f"tenant {number}", enabled=number < 2)
    await failing(api, "the failing one")
    page = await visits.open(str(api.http.make_url("/")), TOKEN)
    await expect(page.get_by_text("258 disabled")).to_be_visible()
    await expect(page.get_by_text("1 failing")).to_be_visible()
    await page.get_by_role("link", name="and 255 more").click()
    told = page.get_by_role("status")
    await expect(told.filter(has_text="50 of 258 that fit shown")).to_be_visible()
    await page.get_by_label("State").select_option("")
    await expect(told.filter(has_text="50 of 261 subscribers shown")).to_be_visible()
    await expect(page.locator("tbody tr").first).to_contain_text("the failing one")
    await page.get_by_role("button", name="Show more").click()
    await expect(page.locator("tbody tr")).to_have_count(100)
    await page.get_by_label("Name or URL").fill("TENANT 25")
    await expect(told.filter(has_text="11 of 11 that fit shown")).to_be_visible()
    await page.reload()
    await expect(page.get_by_label("Name or URL")).to_have_value("TENANT 25")
    await expect(page.locator("tbody tr")).to_have_count(11)
    await page.get_by_label("Name or URL").fill("nobody is called so")
    await expect(page.get_by_text("No subscriber fits.")).to_be_visible()


async def test_one_of_many_is_chosen_by_a_part_of_its_name(visits: Visits, api: Api) -> None:
    """Who is not clearly meant is not chosen, and the field says why."""
    for number in range(3):
        await api.subscribe(description=f"tenant {number}")
    page = await visits.open(str(api.http.make_url("/")), TOKEN, "#/deliveries")
    field = page.get_by_label("Subscriber")
    for typed, said in {"tenant": "3 are called so", "nobody": "Nobody is called so"}.items():
        await field.fill(typed)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_have_text(said)
        await expect(field).to_have_attribute("aria-invalid", "true")
    await field.fill("nant 2")
    await page.keyboard.press("Enter")
    await expect(page.get_by_label("Subscriber")).to_have_value("tenant 2")


async def test_a_mended_subscriber_is_tried_at_once(visits: Visits, api: Api) -> None:
    """While one fails the page says since when, and has the button that ends its rest."""
    one = await failing(api, "The LMS")
    page = await visits.open(str(api.http.make_url("/")), TOKEN, f"#/subscribers/{one}")
    await expect(page.get_by_text("failing", exact=True)).to_be_visible()
    await expect(page.get_by_text("The latest attempt failed", exact=False)).to_be_visible()
    await expect(page.get_by_text("Try now ends the rest")).to_be_visible()
    async with page.expect_response(f"**/v1/subscribers/{one}/enable") as answer:
        await page.get_by_role("button", name="Try now").click()
    assert (await answer.value).ok
    await expect(page.get_by_role("status").filter(has_text="what waits is tried now")).to_be_visible()


async def test_a_refresh_leaves_alone_what_is_in_use(visits: Visits, api: Api) -> None:
    """What was opened stays open, what has the focus keeps it, and what has changed is shown."""
    made = await api.subscribe(description="The LMS")
    page = await visits.open(str(api.http.make_url("/")), None, f"#/subscribers/{made['id']}")
    await page.clock.install()
    await page.get_by_label("Admin token").fill(TOKEN)
    await page.keyboard.press("Enter")
    disable = await page.get_by_role("button", name="Disable").element_handle()
    await page.get_by_role("button", name="Disable").focus()
    await api.call("PATCH", f"/v1/subscribers/{made['id']}", {"description": "The new LMS"})
    await page.clock.run_for(6000)
    await expect(page.get_by_role("heading", name="The new LMS")).to_be_visible()
    assert await disable.evaluate("one => one.isConnected && one === document.activeElement")
