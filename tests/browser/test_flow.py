"""An operator's day in the console of a whole relay: register, watch, see a failure, mend it, and go."""

import re

import pytest
from playwright.async_api import Page, expect

from tests.browser.chromium import TIMEOUT_MS, Visits
from tests.helpers import wait_until
from tests.system.receiver import Receiver
from tests.system.relay_process import RelayProcess

pytestmark = pytest.mark.asyncio(loop_scope="session")

SECRET = re.compile(r"whsec_[A-Za-z0-9+/]{43}=")


async def test_an_operators_day(visits: Visits, sandbox: RelayProcess) -> None:
    """Every step of a subscription's life can be done and seen on the page."""
    async with Receiver() as receiver:
        page = await visits.open(sandbox.url, sandbox.token, "#/subscribers/new")
        await _register(page, receiver)
        await _watch(page, receiver)
        await _crash(page, sandbox, visits)
        await _fail_and_redeliver(page, receiver)
        await _replay(page, visits)
        await _change(page)
        await _leave(page)
    assert receiver.contradictions == []


async def _register(page: Page, receiver: Receiver) -> None:
    await page.get_by_label("URL").fill(receiver.url)
    await page.get_by_label("Description").fill("The LMS")
    await page.get_by_role("button", name="Register").click()
    await expect(page.get_by_label("Signing secret")).to_have_value(SECRET)
    await page.keyboard.press("Escape")  # a secret that is shown once does not go by accident
    await page.get_by_role("button", name="I have stored it").click()
    await expect(page.get_by_role("heading", name="The LMS")).to_be_visible()


async def _watch(page: Page, receiver: Receiver) -> None:
    await page.get_by_role("link", name="Events", exact=True).click()
    await expect(page.get_by_role("status").filter(has_text="live")).to_be_visible()
    await receiver.wait_for(len(receiver.events) + 2)
    first = list(receiver.events.values())[-1]
    row = page.get_by_role("row").filter(has_text=first["type"]).filter(has_text=first["data"]["entity"]["id"])
    await expect(row.first).to_be_visible()
    await page.get_by_role("button", name="Pause").click()  # rows that move cannot be aimed at
    await row.first.get_by_role("link", name=first["type"]).click()
    await expect(page.get_by_role("heading", name=first["type"])).to_be_visible()
    await expect(page.get_by_role("row").filter(has_text="The LMS")).to_contain_text("delivered")
    await page.go_back()
    await expect(page.get_by_role("heading", name="Events", level=1)).to_be_visible()


async def _crash(page: Page, sandbox: RelayProcess, visits: Visits) -> None:
    visits.expect(".*net::ERR_.*")
    await expect(page.get_by_role("status").filter(has_text="live")).to_be_visible()
    await sandbox.kill()
    await expect(page.get_by_role("status").filter(has_text="trying again")).to_be_visible()
    await sandbox.start()
    await expect(page.get_by_role("status").filter(has_text="live")).to_be_visible()
    rows = await page.locator("tbody tr").count()
    await expect(page.locator("tbody tr").nth(rows)).to_be_visible()


async def _fail_and_redeliver(page: Page, receiver: Receiver) -> None:
    receiver.status = 500
    await page.get_by_role("link", name="Deliveries", exact=True).click()
    await page.get_by_label("Status", exact=True).select_option("Dead letters")
    await expect(page.get_by_role("heading", name="Dead letters")).to_be_visible()
    dead = page.get_by_role("row").filter(has_text="dead")

    async def refreshed() -> bool:
        await page.get_by_role("button", name="Refresh").click()
        return bool(await dead.count())

    await wait_until(refreshed, TIMEOUT_MS / 1000, what="a dead letter is shown")
    await dead.first.get_by_role("link", name="Delivery of").click()
    await expect(page.get_by_role("row").filter(has_text="answered 500").first).to_be_visible()
    receiver.status = 204
    await page.locator("dl").get_by_role("link", name="The LMS").click()
    await page.get_by_role("button", name="Try now").click()
    await expect(page.get_by_text("ok", exact=True)).to_be_visible()
    await page.get_by_role("button", name="Disable").click()
    await page.get_by_role("dialog").get_by_role("button", name="Disable").click()
    await expect(page.get_by_text("disabled through the API")).to_be_visible()
    await page.get_by_role("button", name="Enable").click()
    await expect(page.get_by_role("status").filter(has_text="Enabled")).to_be_visible()
    await page.get_by_role("link", name="Delivery of").first.click()
    await page.get_by_role("button", name="Redeliver").click()
    await expect(page.locator("dl .badge").filter(has_text="delivered")).to_be_visible()


async def _replay(page: Page, visits: Visits) -> None:
    visits.expect("422 .*/replay")
    await page.locator("dl").get_by_role("link", name="The LMS").click()
    await page.get_by_text("Replay a range of events").click()
    await page.get_by_label("Until").fill("2001-01-01T00:00:00")
    await page.get_by_role("button", name="Replay").click()
    await expect(page.get_by_label("Until")).to_have_attribute("aria-invalid", "true")
    await page.get_by_label("Until").fill("")
    await page.get_by_label("Only").select_option("everything, once more")
    await page.get_by_role("button", name="Replay").click()
    await expect(page.get_by_role("status").filter(has_text=re.compile(r"Begun: \d+ events"))).to_be_visible()
    await expect(page.get_by_role("row").filter(has_text="all").filter(has_text="done")).to_be_visible()
    await page.get_by_role("button", name="Reconcile").click()
    await page.get_by_role("dialog").get_by_role("button", name="Reconcile").click()
    done = re.compile(r"\d+ entit(y|ies) looked at, \d+ events? sent\.")
    await expect(page.get_by_role("status").filter(has_text=done)).to_be_visible()


async def _change(page: Page) -> None:
    await page.get_by_role("link", name="Edit").first.click()
    await page.get_by_label("Description").fill("The new LMS")
    await page.get_by_text("How it is sent").click()
    await page.get_by_label("Time-out").fill("5")
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_role("heading", name="The new LMS")).to_be_visible()
    await expect(page.get_by_role("definition").filter(has_text=re.compile("^5 s$"))).to_be_visible()
    await page.get_by_role("button", name="Send a test").click()
    await expect(page.get_by_role("dialog")).to_contain_text("The test was delivered")
    await page.get_by_role("button", name="Close").click()
    await page.get_by_role("button", name="Rotate secret").click()
    await page.get_by_label("The old one signs too").select_option("an hour")
    await page.get_by_role("button", name="Rotate", exact=True).click()
    await expect(page.get_by_label("Signing secret")).to_have_value(SECRET)
    await page.get_by_role("button", name="I have stored it").click()


async def _leave(page: Page) -> None:
    await page.get_by_role("button", name="Delete").click()
    await page.get_by_role("button", name="Cancel").click()
    await expect(page.get_by_role("heading", name="The new LMS")).to_be_visible()
    await page.get_by_role("button", name="Delete").click()
    await page.get_by_role("button", name="Delete for good").click()
    await expect(page.get_by_text("Nobody is subscribed yet.")).to_be_visible()
