"""A Chromium, and pages of it that are watched: whatever goes wrong on one of them is a fault of the test."""

import os
import re
import shutil
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 360, "height": 740}
TIMEOUT_MS = 30_000


def chromium() -> str:
    """Where it is. Without one the test is skipped, in CI it fails."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("there is no Chromium: apt-get install chromium")
    return found


async def go(page: Page, view: str) -> None:
    """Lead a page that has signed in to a view, and wait until that is all there."""
    await expect(page.locator("nav")).to_be_visible()
    there = await page.evaluate("view => { location.hash = view; return location.hash; }", view)
    await expect(page.get_by_role("main")).to_have_attribute("data-view", there)
    await settled(page)


async def settled(page: Page) -> None:
    """Wait until nothing is being loaded."""
    await expect(page.get_by_role("heading", level=1)).to_be_visible()
    await expect(page.locator("[aria-busy]")).to_have_count(0)


class Visits:
    """Opens pages, each in a fresh profile, and keeps what went wrong on them."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._contexts: list[BrowserContext] = []
        self._expected: list[re.Pattern[str]] = []
        self.faults: list[str] = []

    def expect(self, pattern: str) -> None:
        """A failed request (`422 /v1/subscribers`) that belongs to the test."""
        self._expected.append(re.compile(pattern))

    async def open(self, url: str, token: str | None, view: str = "#/", **options: Any) -> Page:
        """Open a view; with a token as a tab that has signed in."""
        context = await self._browser.new_context(**{"viewport": DESKTOP, **options})
        self._contexts.append(context)
        context.set_default_timeout(TIMEOUT_MS)
        if token is not None:
            await context.add_init_script(f"sessionStorage.setItem('relay.token', '{token}')")
        page = await context.new_page()
        origin = urlsplit(url)[:2]
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.faults.append(f"exception: {error}"))
        page.on("request", lambda request: self._request(request, origin))
        await page.goto(f"{url.rstrip('/')}/{view}")
        return page

    async def close(self) -> None:
        """Close every page."""
        while self._contexts:
            await self._contexts.pop().close()

    def _console(self, message: ConsoleMessage) -> None:
        if message.type not in ("error", "warning"):
            return
        told = f"{message.text} {message.location.get('url', '')}"
        failed = re.search(r"status of (\d+).* (https?://\S+)", told)
        request = f"{failed[1]} {urlsplit(failed[2]).path}" if failed else told
        if not any(one.fullmatch(request) for one in self._expected):
            self.faults.append(f"console: {told}")

    def _request(self, request: Request, origin: tuple[str, str]) -> None:
        if urlsplit(request.url)[:2] != origin and not request.url.startswith("data:"):
            self.faults.append(f"left the origin: {request.url}")
