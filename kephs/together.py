"""Two things begun in one turn of the event loop (`kephs.usecases.submission.reception`)."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

A = TypeVar("A")
B = TypeVar("B")


async def together(first: Coroutine[Any, Any, A], second: Coroutine[Any, Any, B]) -> tuple[A, B]:
    """Run both at once and return both results.

    Both begin in the next turn of the event loop, with those of all others who ask in this one: what they
    hand to a batch goes into one batch (`evidence.adapters.batch_stamper`). Were the first to begin at once,
    it would lead a batch that leaves without the second. Where one fails the other is cancelled and has
    ended before the error goes up.
    """
    try:
        async with asyncio.TaskGroup() as group:
            one, other = group.create_task(first), group.create_task(second)
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return one.result(), other.result()
