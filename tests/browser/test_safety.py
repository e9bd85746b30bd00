"""Whatever the relay holds is text on the page: nothing of it is markup, and nothing leaves the origin."""

from urllib.parse import quote

import msgspec
import pytest
from playwright.async_api import Page, expect

from relay.core.diff import Transition
from relay.core.events import build
from relay.core.log import Entry
from relay.core.model import Change, Details, Observation
from tests.browser.chromium import Visits, go
from tests.service.admin_api import TOKEN, Api, attempt

pytestmark = pytest.mark.asyncio(loop_scope="session")

HOSTILE = '"\'><img src=x onerror="window.taken=1"><script>window.taken=1</script>{{7*7}}'
LONG = "https://127.0.0.1/" + "x" * 1500


async def hostile_event(api: Api) -> Entry:
    """An event of an entity whose id, user and status are hostile."""
    await api.mint(1)
    transition = Transition("session", HOSTILE, 1, "session.completed", HOSTILE, HOSTILE, {}, None, first_seen=True)
    record = msgspec.json.encode({"session_id": HOSTILE, HOSTILE: HOSTILE})
    event = build(
        transition,
        Observation("exams", api.clock.now()),
        Details(None, None, HOSTILE, HOSTILE, record, b""),
        after=None,
    )
    token, _ = await api.store.snapshots.fence("lod")
    changes = [("exams", Change(HOSTILE, b"", b"x", (event,)))]
    await api.store.snapshots.mint("lod", token, 2, changes)
    entry = await api.store.log.find(event.id)
    assert entry is not None
    return entry


async def untouched(page: Page) -> None:
    """Nothing of the hostile text has become an element or has run."""
    assert await page.evaluate("window.taken") is None
    assert await page.locator("img[src=x], main script").count() == 0


async def test_hostile_texts_are_shown_as_they_are(visits: Visits, api: Api) -> None:
    """Descriptions, URLs, ids, answers and details are text on every view that shows them."""
    subscriber = await api.subscribe(
        url=f"http://127.0.0.1/?{quote(HOSTILE)}'{{7*7}}", description=HOSTILE, event_types=["*"]
    )
    entry = await hostile_event(api)
    failed = attempt(subscriber, entry, 1, "dead")
    failed = msgspec.structs.replace(failed, detail=HOSTILE, body=HOSTILE.encode())
    await api.settle(subscriber["id"], failed, cursor=entry)
    delivery = f"dlv_{subscriber['id'][4:]}_{entry.event_id[4:]}"
    views = [
        "#/subscribers",
        f"#/subscribers/{subscriber['id']}",
        f"#/subscribers/{subscriber['id']}/edit",
        "#/deliveries?status=dead",
        f"#/deliveries/{delivery}",
        f"#/events/{entry.event_id}",
        f"#/entities/exams/{quote(HOSTILE, safe='')}",
        "#/events",
        "#/",
    ]
    page = await visits.open(str(api.http.make_url("/")), TOKEN, "#/sources")
    for view in views:
        await go(page, view)
        shown = page.get_by_role("main").get_by_text(HOSTILE).filter(visible=True)
        where = page.get_by_label("Description") if view.endswith("edit") else shown
        await expect(where.first).to_be_visible()
        await untouched(page)


async def test_a_hostile_hash_is_no_more_than_a_path(visits: Visits, api: Api) -> None:
    """Ids from the address bar are encoded into the request, and told back as text."""
    visits.expect("(404|422) .*")
    page = await visits.open(str(api.http.make_url("/")), TOKEN, "#/sources")
    for view in (
        "#/events/..%2F..%2Fv1%2Fsubscribers",
        f"#/entities/lod/{quote(HOSTILE, safe='')}",
        "#/deliveries/%E0%A4%A",
        "#/a/b/c/d",
    ):
        await go(page, view)
        await expect(page.get_by_role("heading", level=1)).to_have_text(
            # an id is looked for; what is no view at all is not
            "There is no such page" if view == "#/a/b/c/d" else _heading(view)
        )
        await untouched(page)


def _heading(view: str) -> str:
    return "Delivery" if "deliveries" in view else "Not found"


async def test_the_page_can_be_read_only_by_itself(visits: Visits, api: Api) -> None:
    """Inline code, markup from strings and requests elsewhere are refused by the browser, not only unused by us."""
    page = await visits.open(str(api.http.make_url("/")), TOKEN)
    refused = await page.evaluate(
        """async () => {
            const found = [];
            document.addEventListener('securitypolicyviolation', (event) => found.push(event.effectiveDirective));
            try { document.body.innerHTML = '<b>x</b>'; } catch { found.push('innerHTML'); }
            try { await fetch('http://127.0.0.2:9/'); } catch { found.push('fetch'); }
            while (!found.includes('connect-src') || !found.includes('require-trusted-types-for'))
                await new Promise((resolve) => setTimeout(resolve, 5));
            return found;
        }"""
    )
    assert {"innerHTML", "fetch", "connect-src", "require-trusted-types-for"} <= set(refused)
    assert visits.faults
    visits.faults.clear()  # these were ours


async def test_a_long_url_stays_on_its_line(visits: Visits, api: Api) -> None:
    """On a phone nothing makes the page wider than the screen; the whole text is in the title."""
    await api.subscribe(url=LONG)
    page = await visits.open(
        str(api.http.make_url("/")), TOKEN, "#/subscribers", viewport={"width": 360, "height": 700}
    )
    await expect(page.locator(f"[title='{LONG}']").first).to_be_visible()
    assert await page.evaluate("document.documentElement.scrollWidth") <= 360
