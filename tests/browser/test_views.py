"""Lists that are long, lists that are empty, and input that is refused."""

import re

import pytest
from playwright.async_api import Route, expect

from tests.browser.chromium import Visits
from tests.service.admin_api import TOKEN, Api, attempt

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_thousands_of_rows_come_page_by_page(visits: Visits, api: Api) -> None:
    """Each page follows the last without a gap or a repeat, and the count says what is there."""
    subscriber = await api.subscribe()
    entries = await api.mint(2300)
    await api.settle(subscriber["id"], *(attempt(subscriber, one, 1, "dead") for one in entries), cursor=entries[-1])
    page = await visits.open(str(api.http.make_url("/")), TOKEN, "#/deliveries?status=dead")
    rows = page.locator("tbody tr")
    await expect(rows).to_have_count(50)
    for count in (100, 150):
        await page.get_by_role("button", name="Show more").click()
        await expect(rows).to_have_count(count)
    links = await page.get_by_role("link", name="Delivery of").evaluate_all("all => all.map((one) => one.href)")
    assert len(set(links)) == 150
    await page.get_by_role("button", name="Redeliver lab.completed").first.click()
    await expect(page.locator(f"tbody a[href='{links[0][links[0].index('#') :]}']")).to_have_count(0)
    await expect(rows).to_have_count(150)  # a refresh takes no page away
    await page.get_by_role("link", name="Subscribers", exact=True).click()
    await expect(page.get_by_role("link", name="2,299")).to_be_visible()


@pytest.mark.parametrize(
    ("view", "told"),
    [
        ("#/", "curl -X POST"),
        ("#/subscribers", "curl -X POST"),
        ("#/events", "No event was seen yet."),
        ("#/deliveries", "Register a subscriber"),
        ("#/deliveries?status=dead", "No dead letters."),
        ("#/sources/lod", "not yet"),
        ("#/search?q=nobody", "Nothing is known as nobody."),
    ],
)
async def test_an_empty_view_says_what_to_do(visits: Visits, api: Api, view: str, told: str) -> None:
    """Where there is nothing yet, the next step stands."""
    visits.expect("404 /v1/entities/.*")
    page = await visits.open(str(api.http.make_url("/")), TOKEN, view)
    await expect(page.get_by_text(told).first).to_be_visible()


async def test_refused_input_is_told_next_to_its_field(visits: Visits, api: Api) -> None:
    """Each of the API's pointers is at the field that it names; the first of them has the focus, nothing is lost."""
    visits.expect("422 /v1/subscribers")
    page = await visits.open(str(api.http.make_url("/")), TOKEN, "#/subscribers/new")
    await page.get_by_label("URL").fill("ftp://example.org")
    await page.get_by_label("Event types").fill("lab.*\nlab.complete")
    await page.get_by_text("How it is sent").click()
    await page.get_by_label("Time-out").fill("soon")
    await page.get_by_label("Headers").fill("Host: example.org")
    await page.get_by_role("button", name="Register").click()
    await expect(page.get_by_label("URL")).to_be_focused()
    for label, told in {
        "URL": "must start with",
        "Event types": "line 2 (lab.complete): matches no event type: did you mean lab.completed",
        "Time-out": "number",
        "Headers": "the relay's own or the connection's",
    }.items():
        field = page.get_by_label(label)
        await expect(field).to_have_attribute("aria-invalid", "true")
        assert told in await field.evaluate("one => one.closest('.field').querySelector('.problem').textContent")
    await expect(page.get_by_label("Event types")).to_have_value("lab.*\nlab.complete")


async def test_a_view_is_a_link(visits: Visits, api: Api) -> None:
    """Filters are part of the address, so that a reload and the back button lead where one was."""
    subscriber = await api.subscribe(description="The LMS")
    page = await visits.open(str(api.http.make_url("/")), TOKEN, "#/deliveries")
    await page.get_by_label("Subscriber").fill("the lms")
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(f"{api.http.make_url('/')}#/deliveries?subscriber_id={subscriber['id']}")
    await page.reload()
    await expect(page.get_by_label("Subscriber")).to_have_value("The LMS")
    await page.go_back()
    await expect(page.get_by_label("Subscriber")).to_have_value("")


async def test_what_cannot_be_refreshed_stays_and_says_so(visits: Visits, api: Api) -> None:
    """While the relay is away the page keeps what it knows, marked as old; once it is back the mark goes."""
    visits.expect("503 /v1/sources")
    page = await visits.open(str(api.http.make_url("/")), None)
    await page.clock.install()
    await page.get_by_label("Admin token").fill(TOKEN)
    await page.keyboard.press("Enter")
    await page.get_by_role("link", name="Sources", exact=True).click()
    await expect(page.get_by_role("row").filter(has_text="exams")).to_be_visible()
    away = {"type": "/problems/store-unavailable", "title": "The store cannot be reached", "status": 503, "detail": ""}
    await page.route("**/v1/sources?*", lambda route: route.fulfill(status=503, json=away))
    await page.clock.run_for(3500)
    await expect(page.get_by_text("Not refreshed: The store cannot be reached.")).to_be_visible()
    await expect(page.get_by_role("row").filter(has_text="exams")).to_be_visible()
    await page.unroute("**/v1/sources?*")
    await page.clock.run_for(3500)
    await expect(page.get_by_text("Not refreshed")).to_have_count(0)


async def test_a_registration_whose_answer_was_lost_is_not_made_twice(visits: Visits, api: Api) -> None:
    """The button can be pressed again: the same intention has the same key, and the secret is shown after all."""
    visits.expect(".*net::ERR_FAILED.*")
    page = await visits.open(str(api.http.make_url("/")), TOKEN, "#/subscribers/new")
    await page.get_by_label("URL").fill("http://127.0.0.1:9/hooks")

    async def lose(route: Route) -> None:
        await route.fetch()
        await route.abort()

    await page.route("**/v1/subscribers", lose)
    await page.get_by_role("button", name="Register").click()
    await expect(page.get_by_text("The relay cannot be reached")).to_be_visible()
    await page.unroute("**/v1/subscribers")
    await page.get_by_role("button", name="Register").click()
    await expect(page.get_by_label("Signing secret")).to_have_value(re.compile("^whsec_"))
    assert len(await api.store.registry.all()) == 1


async def test_fields_of_an_upstream_can_be_read(visits: Visits, api: Api) -> None:
    """A moment in seconds is a time too, and a long name breaks between its words, if it must."""
    page = await visits.open(str(api.http.make_url("/")), TOKEN, timezone_id="UTC")
    told = await page.evaluate(
        """async () => {
            const { fieldName, fieldValue } = await import('/console/format.js');
            const { el } = await import('/console/dom.js');
            const text = (...value) => el('p', {}, fieldValue(...value)).textContent;
            const name = el('p', {}, fieldName('TaskCompletePercent'));
            return [name.innerHTML, text('End', 1795314195), text('End', null), text('ExamScore', 1795314195)];
        }"""
    )
    assert told[0] == "Task<wbr>Complete<wbr>Percent"
    assert told[1].endswith("02:23:15 (1795314195)")
    assert told[2:] == ["\u2013", "1795314195"]
