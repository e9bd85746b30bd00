"""What a replica was told to forget, until those who remember it have time to.

A learner's pseudonym arrives at any moment; the holder of a source takes it to heart between two polls, so that nothing
is changed under the hands of one. The work is done off the event loop: there may be hundreds of thousands of entities.
"""

import asyncio
from collections.abc import Callable


class Forgetting:
    """Pseudonyms that are still to be applied."""

    def __init__(self) -> None:
        self.told = asyncio.Event()
        self._pseudonyms: list[str] = []

    def tell(self, pseudonym: str) -> None:
        """Have a learner forgotten soon."""
        self._pseudonyms.append(pseudonym)
        self.told.set()

    async def settle(self, *memories: Callable[[str], None]) -> None:
        """Have each of these forget whoever is to be forgotten."""
        self.told.clear()
        while self._pseudonyms:
            pseudonym = self._pseudonyms.pop()
            for forget in memories:
                await asyncio.to_thread(forget, pseudonym)
