"""DELETE /v1/users/{user_id}: erases what is stored about a learner, in every source, and says what it did.

The id stands in the path, so no line of a log, no problem and no metric may show a path; the audit has the pseudonym.
"""

from collections.abc import Sequence
from datetime import timedelta

from aiohttp import web
from pydantic import ConfigDict

from relay.admin.examples import ERASURE
from relay.admin.fields import Described, Moment, example
from relay.admin.pages import json_response
from relay.admin.problems import ProblemError
from relay.admin.routes import Route
from relay.admin.security import audit
from relay.clock import Clock
from relay.core.events import rfc3339
from relay.erasure import Erasure, NotReplicatedError, Report
from relay.store.disk import GONE_S


class SourceErasure(Described):
    """What was erased of one source."""

    source: str
    entities: int
    """Entities whose snapshot named the learner; it holds a pseudonym now."""
    events: int
    """Events whose payload was erased."""
    retries: int
    """Deliveries that waited for another attempt and were cancelled; those not attempted yet are too, uncounted."""
    dead_letters: int
    answers: int
    """Subscribers' answers that were kept of failed attempts, and were emptied."""


class ErasureOut(Described):
    """An erasure; repeated, it finds nothing more."""

    model_config = ConfigDict(json_schema_extra=example(ERASURE))

    pseudonym: str
    """Stands for the learner in the audit; it cannot be turned back."""
    sources: list[SourceErasure]
    subscribers_naming_user: list[str]
    """Subscribers whose filter names the learner: change them yourself."""
    on_disk_by: Moment | None
    """When the bytes are gone from the store's append-only file at the latest; None: not by the relay's doing."""


class Users:
    """The route below /v1/users."""

    def __init__(self, erasure: Erasure, clock: Clock) -> None:
        self._erasure = erasure
        self._clock = clock

    def routes(self) -> Sequence[Route]:
        """Its part of the table."""
        summary = "Erase what is stored about a learner"
        return (Route("DELETE", "/v1/users/{user_id}", self._delete, summary, {200: ErasureOut}),)

    async def _delete(self, request: web.Request) -> web.Response:
        """Repeat it after a 503: it may be half done. It finds the rest, and what is done stays done."""
        user_id = request.match_info["user_id"]
        pseudonym = self._erasure.pseudonym(user_id)
        audit(request, "user.erase", pseudonym)  # whatever becomes of it: some may be gone before it fails
        try:
            report = await self._erasure.erase(user_id)
        except NotReplicatedError as error:
            raise ProblemError("store-unavailable", str(error), headers={"Retry-After": "5"}) from None
        audit(request, "user.erased", pseudonym)
        gone_at = self._clock.now() + timedelta(seconds=GONE_S)
        return json_response(_shown(report, rfc3339(gone_at) if report.on_disk else None))


def _shown(report: Report, on_disk_by: str | None) -> dict[str, object]:
    counts = {
        "entities": report.entities,
        "events": report.events,
        "retries": report.retries,
        "dead_letters": report.dead_letters,
        "answers": report.answers,
    }
    sources = sorted({source for count in counts.values() for source in count})
    return {
        "pseudonym": report.pseudonym,
        "sources": [{"source": one, **{name: count[one] for name, count in counts.items()}} for one in sources],
        "subscribers_naming_user": report.filters,
        "on_disk_by": on_disk_by,
    }
