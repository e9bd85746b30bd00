"""Signing in and out: the token is asked for, kept by one tab, and asked for again when it is refused."""

import pytest
from playwright.async_api import expect

from tests.browser.chromium import Visits
from tests.service.admin_api import TOKEN, Api

pytestmark = pytest.mark.asyncio(loop_scope="session")


def url(api: Api) -> str:
    """Where the console is."""
    return str(api.http.make_url("/"))


async def test_a_wrong_token_is_refused_with_the_place_of_the_right_one(visits: Visits, api: Api) -> None:
    """The message says where it is, the field keeps the focus; the right one opens the view that was asked for."""
    visits.expect("401 /v1/sources")
    page = await visits.open(url(api), None, "#/sources")
    await page.get_by_label("Admin token").fill("not-the-token")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text(".relay/admin-token")
    await expect(page.get_by_label("Admin token")).to_be_focused()
    await page.get_by_label("Admin token").fill(TOKEN)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("heading", name="Sources", level=1)).to_be_visible()


async def test_the_token_stays_in_its_tab(visits: Visits, api: Api) -> None:
    """It is in no URL, no cookie and nothing that outlives the tab; signing out forgets it."""
    requested: list[str] = []
    page = await visits.open(url(api), None)
    page.on("request", lambda request: requested.append(request.url))
    await page.get_by_label("Admin token").fill(TOKEN)
    await page.keyboard.press("Enter")
    await page.get_by_role("link", name="Subscribers", exact=True).click()
    await expect(page.get_by_text("Nobody is subscribed yet.")).to_be_visible()
    assert not [one for one in [*requested, page.url] if TOKEN in one]
    assert await page.context.cookies() == []
    assert TOKEN not in await page.evaluate("JSON.stringify(localStorage)")
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_label("Admin token")).to_be_visible()
    assert await page.evaluate("sessionStorage.length") == 0


async def test_a_token_that_is_withdrawn_is_asked_for_again(visits: Visits, api: Api) -> None:
    """A 401 in the middle says so, and leads back to the same view."""
    visits.expect("401 .*")
    page = await visits.open(url(api), "a-token-that-was-rotated", "#/deliveries?status=dead")
    await expect(page.get_by_role("alert")).to_contain_text("does not accept this tab's token any more")
    await page.evaluate("sessionStorage.clear()")
    await page.get_by_label("Admin token").fill(TOKEN)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Dead letters")).to_be_visible()
