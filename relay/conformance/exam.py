"""The examination: every check in turn, each bounded in time.

The invariant: it ends. One webhook takes no longer than a subscriber's time-out; a receiver that cannot be reached, or
that refuses what is genuine, is not asked the rest.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Final

from aiohttp import ClientSession, ClientTimeout, DummyCookieJar

from relay.conformance.checks import VALID, Check, Expectation, checks_for
from relay.conformance.forge import Forge, Webhook
from relay.conformance.judge import SLOW_S, Result, Verdict, judge, judge_get, judge_speed, skipped
from relay.core.errors import RelayError
from relay.core.outcome import Reply
from relay.egress import Sender
from relay.egress.failures import FAILURES

_GET_S: Final = 5.0


class UnreachableError(RelayError):
    """The receiver gave no answer at all to a genuine webhook; the message says what was seen, not the URL."""


class Exam:
    """Asks one receiver through the relay's own sender, so that what is judged is what a relay would see.

    `timeout_s` bounds each webhook, as a subscriber's does; a first byte after `slow_s` earns a warning.
    """

    def __init__(self, sender: Sender, forge: Forge, url: str, *, timeout_s: float, slow_s: float = SLOW_S) -> None:
        self._sender = sender
        self._forge = forge
        self._url = url
        self._timeout_s = timeout_s
        self._slow_s = slow_s
        self._timed: list[Reply] = []

    async def results(self) -> AsyncIterator[Result]:
        """Every row, each as soon as it is known; raises `UnreachableError` if there is nothing to examine."""
        first = await self._examine(VALID)
        if self._timed[0].status is None:
            raise UnreachableError(self._timed[0].detail)
        yield first
        remaining = iter(checks_for(self._forge))
        if first.verdict is not Verdict.PASS:
            for row in _rest(remaining, "a genuine webhook is not accepted"):
                yield row
            return
        for check in remaining:
            yield (row := await self._examine(check))
            if row.verdict is Verdict.FAIL and not await self._is_there():
                for left in _rest(remaining, "the receiver no longer answers"):
                    yield left
                return
        yield judge_speed(self._timed, self._timeout_s, self._slow_s)
        yield judge_get(await self._get())

    async def _examine(self, check: Check) -> Result:
        webhooks = check.make(self._forge)
        replies = await self._post_all(webhooks, check.at_once)
        if check.expected is Expectation.ACCEPT and check.at_once == 1:
            self._timed += replies
        return judge(check, webhooks, replies)

    async def _post_all(self, webhooks: Sequence[Webhook], at_once: int) -> Sequence[Reply]:
        """Post in order, or `at_once` of them together."""
        room = asyncio.Semaphore(at_once)

        async def post(webhook: Webhook) -> Reply:
            async with room:
                return await self._post(webhook)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(post(webhook)) for webhook in webhooks]
        return [task.result() for task in tasks]

    async def _post(self, webhook: Webhook) -> Reply:
        return await self._sender.post(self._url, webhook.headers, webhook.body, timeout_s=self._timeout_s)

    async def _is_there(self) -> bool:
        """Whether the receiver answers anything after a failure."""
        return (await self._post(self._forge.genuine())).status is not None

    async def _get(self) -> int | None:
        timeout = ClientTimeout(total=min(_GET_S, self._timeout_s))
        try:
            async with (
                ClientSession(timeout=timeout, auto_decompress=False, cookie_jar=DummyCookieJar()) as session,
                session.get(self._url, headers=self._forge.headers, allow_redirects=False) as answer,
            ):
                return answer.status
        except FAILURES:
            return None


def _rest(checks: Iterator[Check], because: str) -> Iterator[Result]:
    return (skipped(check, because) for check in checks)
