"""`make bench`: runs every benchmark a few times and prints medians and their ratios."""

import asyncio

from tests.benchmarks import commit, delivery, isolation


def main() -> None:
    """Run them one after the other."""
    asyncio.run(commit.main())
    asyncio.run(delivery.main())
    asyncio.run(isolation.main())


if __name__ == "__main__":
    main()
