"""Many questions to one server: bounded in concurrency, and stopped together."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from distill.remote.purse import Purse
from distill.remote.server import Server
from distill.stopping import check

LOOK_EVERY = 40
"""Items after which it is looked whether the answers tell anything, before more are paid."""

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class _Ended(Exception):  # noqa: N818
    """Another item failed: this one is not asked again."""


async def ask_all(
    server: Server,
    purse: Purse,
    workers: int,
    items: Sequence[Item],
    ask: Callable[[Item, Callable[[], None]], Awaitable[Answer]],
    told: Callable[[dict[int, Answer]], None],
) -> list[Answer]:
    """Returns the answer to each item, in order.

    A request to stop, or a failure, lets replies under way come in and keeps them; no further request is sent.

    Args:
        server: opened and closed here.
        purse: whose waiting requests a failure wakes.
        workers: items in work at once.
        items: what is asked.
        ask: asks for one item; it calls the function that it is given before each request, which raises where none
            shall go out.
        told: sees the answers so far, by index, after each one.
    """
    answers: dict[int, Answer] = {}
    errors: list[Exception] = []
    queue = iter(enumerate(items))

    def look() -> None:
        check()
        if errors:
            raise _Ended

    async def work() -> None:
        for index, item in queue:
            try:
                look()
                answers[index] = await ask(item, look)
                told(answers)
            except _Ended:
                return
            except Exception as error:
                errors.append(error)
                await purse.wake()
                return

    async with server:
        await asyncio.gather(*(work() for _ in range(workers)))
    if errors:
        raise errors[0]
    return [answers[index] for index in range(len(items))]
