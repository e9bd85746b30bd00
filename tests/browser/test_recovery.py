"""What the relay could not answer, or has not done yet, is asked for again by the page itself."""

import pytest
from playwright.async_api import Page, expect

from tests.browser.chromium import Visits, go, settled
from tests.service.admin_api import TOKEN, Api, attempt
from tests.system.relay_process import RelayProcess

pytestmark = pytest.mark.asyncio(loop_scope="session")

HOUR_MS = 3_600_000


async def test_a_page_comes_back_with_the_relay(visits: Visits, sandbox: RelayProcess) -> None:
    """Whether a whole view or only its parts could not be read: nobody has to press anything."""
    visits.expect(".*net::ERR_.*")
    pages = {view: await visits.open(sandbox.url, sandbox.token, "#/events") for view in ("#/subscribers", "#/")}
    for page in pages.values():
        await settled(page)
    await sandbox.terminate()
    for view, page in pages.items():
        await go(page, view)
        await expect(page.get_by_role("alert").first).to_contain_text("The relay cannot be reached")
        await expect(page.get_by_role("alert").first).to_contain_text("tries again by itself")
    await sandbox.start()
    for page in pages.values():
        await expect(page.get_by_text("Nobody is subscribed yet.")).to_be_visible()
        await expect(page.get_by_role("alert")).to_have_count(0)


async def _looked_at(page: Page, *, looked_at: bool) -> None:
    """The tab comes to the front, or goes behind another."""
    await page.evaluate(
        """hidden => {
            Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
            document.dispatchEvent(new Event('visibilitychange'));
        }""",
        not looked_at,
    )


async def test_the_pauses_grow_and_end_when_the_tab_is_looked_at(visits: Visits, api: Api) -> None:
    """A relay that is away long is not asked every second, and by a tab that nobody looks at never."""
    visits.expect(".*net::ERR_FAILED.*")
    page = await visits.open(str(api.http.make_url("/")), None, "#/events")
    await page.clock.install()
    await page.get_by_label("Admin token").fill(TOKEN)
    await page.keyboard.press("Enter")
    await settled(page)
    asked: list[str] = []
    page.on("requestfailed", lambda request: asked.append(request.url))
    await page.route("**/v1/**", lambda route: route.abort())
    await go(page, "#/subscribers")
    alert = page.get_by_role("alert")
    await expect(alert).to_contain_text("The relay cannot be reached")
    await alert.get_by_role("button", name="Try again").focus()
    asked.clear()
    for _ in range(60):
        await page.clock.run_for(1000)
        await page.evaluate("fetch('/console/icon.svg').then(() => null)")  # what was asked has failed by then
    in_a_minute = len(asked)
    assert 4 <= in_a_minute <= 8
    await expect(alert.get_by_role("button", name="Try again")).to_be_focused()
    await _looked_at(page, looked_at=False)
    await page.clock.run_for(60_000)
    assert len(asked) == in_a_minute
    await page.unroute("**/v1/**")
    await _looked_at(page, looked_at=True)
    await expect(page.get_by_text("Nobody is subscribed yet.")).to_be_visible()
    await expect(page.get_by_role("heading", level=1)).to_be_focused()


async def test_a_rest_that_was_ended_is_not_shown_as_if_it_went_on(visits: Visits, api: Api) -> None:
    """Until the relay has tried, the page says that it does; what has come of it is shown then."""
    one = await api.subscribe(description="The LMS")
    (entry,) = await api.mint(1)
    later = entry.place.ms + HOUR_MS
    failed = attempt(one, entry, 1, "retry", next_ms=later)
    await api.settle(one["id"], failed, cursor=entry, resting_until_ms=later)
    page = await visits.open(str(api.http.make_url("/")), TOKEN, f"#/subscribers/{one['id']}")
    await expect(page.get_by_text("It rests until")).to_be_visible()
    await page.get_by_role("button", name="Try now").click()
    await expect(page.get_by_text("being tried", exact=True)).to_be_visible()
    await expect(page.get_by_text("It rests until")).to_have_count(0)
    await api.settle(one["id"], attempt(one, entry, 2, "delivered"))
    await expect(page.get_by_text("being tried", exact=True)).to_have_count(0)
    await expect(page.get_by_text("It rests until")).to_have_count(0)
    await expect(page.get_by_text("100 % of")).to_have_count(0)
    await expect(page.get_by_text("50 % of 2 attempts")).to_be_visible()


async def test_dead_letters_and_their_count_agree(visits: Visits, api: Api) -> None:
    """After a redelivery the list and the health of the subscriber are read again; and when another one dies."""
    one = await api.subscribe(description="The LMS")
    entries = await api.mint(3)
    await api.settle(one["id"], *(attempt(one, each, 1, "dead") for each in entries[:2]), cursor=entries[1])
    page = await visits.open(str(api.http.make_url("/")), TOKEN, f"#/subscribers/{one['id']}")
    letters = page.get_by_role("table", name="Dead letters").locator("tbody tr")
    counted = page.locator("dl > div").filter(has_text="Dead letters").get_by_role("definition")
    await expect(letters).to_have_count(2)
    link = await letters.first.get_by_role("link", name="Delivery of").element_handle()
    await letters.first.get_by_role("button", name="Redeliver").click()
    await expect(letters).to_have_count(1)
    assert await link.evaluate("one => one.isConnected")  # a click on it would not have been lost
    await expect(counted).to_have_text("1")
    await page.get_by_role("button", name="Redeliver all").click()
    await page.get_by_role("dialog").get_by_role("button", name="Redeliver").click()
    await expect(letters).to_have_count(0)
    await expect(counted).to_have_text("0")
    await api.settle(one["id"], attempt(one, entries[2], 1, "dead"), cursor=entries[2])
    await expect(letters).to_have_count(1)
    await expect(counted).to_have_text("1")


async def test_what_is_in_the_way_of_a_replay_goes_with_it(visits: Visits, api: Api) -> None:
    """A replay is stopped only after a question; then nothing says any more that it runs."""
    visits.expect("409 .*/replay")
    one = await api.subscribe(description="The LMS")
    await api.mint(1)
    page = await visits.open(str(api.http.make_url("/")), TOKEN, f"#/subscribers/{one['id']}")
    await page.get_by_text("Replay a range of events").click()
    await page.get_by_role("button", name="Replay", exact=True).click()
    await expect(page.get_by_role("status").filter(has_text="Begun")).to_be_visible()
    await page.get_by_role("button", name="Replay", exact=True).click()
    await expect(page.get_by_role("alert")).to_contain_text("A replay to this subscriber is running")
    await page.get_by_role("row").get_by_role("button", name="Stop").click()
    await page.get_by_role("dialog").get_by_role("button", name="Stop").click()
    await expect(page.get_by_role("row").filter(has_text="cancelled")).to_be_visible()
    await expect(page.get_by_role("alert")).to_have_count(0)
