"""The form of a subscriber: what is saved is what is seen, and nothing that was typed is lost by looking elsewhere."""

from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.browser.chromium import Visits
from tests.service.admin_api import TOKEN, Api

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def edit(visits: Visits, api: Api, subscriber: dict[str, Any]) -> Page:
    """Open the form of a subscriber with all of its parts."""
    page = await visits.open(str(api.http.make_url("/")), TOKEN, f"#/subscribers/{subscriber['id']}/edit")
    await page.get_by_text("How it is sent").click()
    return page


async def saved(page: Page, api: Api, subscriber: dict[str, Any]) -> dict[str, Any]:
    """Save, and what the API says then."""
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_role("status").filter(has_text="Saved.")).to_be_visible()
    body: dict[str, Any] = (await api.get(f"/v1/subscribers/{subscriber['id']}")).body
    return body


async def test_a_header_that_is_taken_out_is_sent_no_more(visits: Visits, api: Api) -> None:
    """A line that is removed or renamed goes from the subscriber too: it may be a credential that was revoked."""
    subscriber = await api.subscribe(headers={"X-Auth": "old", "X-Tenant": "a", "X-Kept": "b"})
    page = await edit(visits, api, subscriber)
    await page.get_by_label("Headers").fill("X-Customer: a\nX-Kept: b")
    changed = await saved(page, api, subscriber)
    assert changed["headers"] == {"X-Customer": "a", "X-Kept": "b"}


async def test_what_nobody_touched_is_not_changed(visits: Visits, api: Api) -> None:
    """A comma is part of a value; and what somebody else has changed meanwhile stays as they left it."""
    subscriber = await api.subscribe(filter={"user_ids": ["Doe, Jane", "Roe, Richard"]})
    page = await edit(visits, api, subscriber)
    await expect(page.get_by_label("Time-out")).to_have_value("15")
    await api.call("PATCH", f"/v1/subscribers/{subscriber['id']}", {"timeout_s": 7})
    await page.get_by_label("Description").fill("The LMS")
    changed = await saved(page, api, subscriber)
    assert changed["filter"]["user_ids"] == ["Doe, Jane", "Roe, Richard"]
    assert (changed["description"], changed["timeout_s"]) == ("The LMS", 7)


async def test_a_line_that_is_no_header_is_not_sent(visits: Visits, api: Api) -> None:
    """Each is named by its number and its text; mended, it is marked no more before anything is sent again."""
    subscriber = await api.subscribe()
    page = await edit(visits, api, subscriber)
    headers = page.get_by_label("Headers")
    await headers.fill("X-Kept: b\n\nfoo\nx-kept: c")
    await page.get_by_role("button", name="Save").click()
    await expect(headers).to_be_focused()
    await expect(page.get_by_text("line 3 (foo): write it as Name: value")).to_be_visible()
    await expect(page.get_by_text("line 4 (x-kept: c): stands twice")).to_be_visible()
    await headers.fill("X-Kept: b")
    await expect(headers).not_to_have_attribute("aria-invalid", "true")
    await expect(page.get_by_text("See the fields that are marked.")).to_have_count(0)
    assert (await saved(page, api, subscriber))["headers"] == {"X-Kept": "b"}


async def test_what_was_typed_is_there_again(visits: Visits, api: Api) -> None:
    """Who looks elsewhere finds the form as it was left, can discard it, and finds none once it was saved."""
    page = await visits.open(str(api.http.make_url("/")), TOKEN, "#/subscribers/new")
    await page.get_by_label("URL").fill("http://127.0.0.1:9/hooks")
    await page.get_by_text("How it is sent").click()
    await page.get_by_label("Ordering").select_option("entity")
    await page.get_by_label("Send private fields").check()
    await page.get_by_role("link", name="Overview").click()
    await expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    await page.go_back()
    await expect(page.get_by_text("What you had typed is here again.")).to_be_visible()
    await expect(page.get_by_label("URL")).to_have_value("http://127.0.0.1:9/hooks")
    await expect(page.get_by_label("Ordering")).to_have_value("entity")
    await expect(page.get_by_label("Send private fields")).to_be_checked()
    await page.get_by_role("button", name="Discard it").click()
    await expect(page.get_by_label("URL")).to_have_value("")
    await page.get_by_label("URL").fill("http://127.0.0.1:9/others")
    await page.get_by_role("button", name="Register").click()
    await page.get_by_role("button", name="I have stored it").click()
    await expect(page.get_by_role("button", name="Send a test")).to_be_visible()
    await page.get_by_role("link", name="Subscribers", exact=True).click()
    await page.get_by_role("link", name="Register a subscriber").click()
    await expect(page.get_by_label("URL")).to_have_value("")


async def test_a_filter_that_cannot_be_used_is_told_in_its_own_words(visits: Visits, api: Api) -> None:
    """Who has typed into one field is not told of a pointer."""
    visits.expect("422 .*")
    page = await visits.open(str(api.http.make_url("/")), TOKEN, "#/events?event_type=lab.foo")
    told = page.get_by_role("alert")
    await expect(told).to_contain_text("Event type: matches no event type")
    await expect(told).not_to_contain_text("/event_type")
