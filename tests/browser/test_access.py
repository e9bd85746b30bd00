"""The console for everybody: by keyboard alone, read aloud, in the dark, and on a phone."""

from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, expect

from tests.browser.chromium import DESKTOP, PHONE, Visits, go, settled
from tests.service.admin_api import TOKEN, Api, attempt

pytestmark = pytest.mark.asyncio(loop_scope="session")

SERIOUS = ("serious", "critical")


async def furnished(api: Api) -> list[str]:
    """Views with something on each of them."""
    subscriber = await api.subscribe(description="The LMS", headers={"X-Tenant": "a"})
    entries = await api.mint(3)
    results = [attempt(subscriber, entries[0], 1, "delivered"), attempt(subscriber, entries[1], 1, "dead")]
    await api.settle(subscriber["id"], *results, cursor=entries[1])
    delivery = f"dlv_{subscriber['id'][4:]}_{entries[1].event_id[4:]}"
    one, event = subscriber["id"], entries[1]
    return [
        *("#/events", "#/sources", "#/sources/lod", "#/deliveries", "#/deliveries?status=dead", "#/nowhere/at/all"),
        *("#/subscribers", "#/subscribers/new", f"#/subscribers/{one}", f"#/subscribers/{one}/edit"),
        *(f"#/deliveries/{delivery}", f"#/events/{event.event_id}", f"#/entities/lod/{event.entity_id}"),
        *("#/search?q=nothing", "#/"),
    ]


@pytest.mark.parametrize(("scheme", "viewport"), [("light", DESKTOP), ("dark", PHONE)])
async def test_no_view_has_a_serious_barrier(visits: Visits, api: Api, scheme: str, viewport: dict[str, int]) -> None:
    """Axe finds nothing serious: names, roles, contrast, structure; and no view is wider than the screen."""
    visits.expect("404 .*")
    views = await furnished(api)
    page = await visits.open(
        str(api.http.make_url("/")),
        None,
        color_scheme=scheme,
        viewport=viewport,
        reduced_motion="reduce",
        bypass_csp=True,
    )
    barriers = [("sign-in", one) for one in await _barriers(page)]
    await page.get_by_label("Admin token").fill(TOKEN)
    await page.keyboard.press("Enter")
    for view in views:
        await go(page, view)
        barriers += [(view, one) for one in await _barriers(page)]
        assert await page.evaluate("document.documentElement.scrollWidth") <= viewport["width"], view
    assert barriers == []


async def _barriers(page: Page) -> list[str]:
    found: dict[str, Any] = (await Axe().run(page, options={"resultTypes": ["violations"]})).response
    return [
        f"{one['id']}: {one['nodes'][0]['html'][:200]} {one['nodes'][0].get('failureSummary', '')[:300]}"
        for one in found["violations"]
        if one["impact"] in SERIOUS
    ]


async def test_everything_is_done_by_keyboard(visits: Visits, api: Api) -> None:
    """Sign in, skip the navigation, register, answer a dialog: without a pointer, and the focus is never lost."""
    page = await visits.open(str(api.http.make_url("/")), None)
    await page.keyboard.type(TOKEN)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    await settled(page)
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("button", name="Skip to content")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("main")).to_be_focused()
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Register a subscriber")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Register a subscriber")).to_be_focused()
    await page.keyboard.press("Tab")
    await page.keyboard.type("http://127.0.0.1:9/hooks")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("dialog")).to_be_visible()
    await page.get_by_role("button", name="I have stored it").focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_be_focused()
    await page.get_by_role("button", name="Disable").focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("button", name="Cancel")).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("button", name="Disable")).to_be_focused()


async def test_plots_are_read_out_and_are_tables_too(visits: Visits, api: Api) -> None:
    """Arrow keys move a read-out with time and units; the table holds the same figures."""
    await furnished(api)
    page = await visits.open(str(api.http.make_url("/")), TOKEN)
    plot = page.get_by_role("slider", name="Attempts per minute")
    await settled(page)
    await plot.focus()
    last = await plot.get_attribute("aria-valuetext")
    await page.keyboard.press("ArrowLeft")
    await expect(plot).not_to_have_attribute("aria-valuetext", str(last))
    figure = page.get_by_role("figure").filter(has_text="Attempts per minute")
    await figure.get_by_text("Show as a table").click()
    await expect(figure.get_by_role("row").nth(60)).to_be_visible()
    told = await figure.get_by_role("cell").all_inner_texts()
    assert sorted(one for one in told if one != "0") == ["1", "1"]


async def test_colours_are_chosen_and_remembered(visits: Visits, api: Api) -> None:
    """The switch wins over the system's scheme, in the next visit too."""
    page = await visits.open(str(api.http.make_url("/")), TOKEN, color_scheme="light")
    paper = "getComputedStyle(document.body).backgroundColor"
    light = await page.evaluate(paper)
    await page.get_by_label("Colours").select_option("Dark")
    dark = await page.evaluate(paper)
    await page.reload()
    await expect(page.get_by_label("Colours")).to_have_value("dark")
    assert light != dark == await page.evaluate(paper)
