"""Money for requests under way: none goes out that could pass the cap, and what comes back lets others go."""

import asyncio
from collections.abc import Callable
from typing import Any

from distill.config.remote import RemoteModel
from distill.errors import ServiceError
from distill.remote.journal import Journal
from distill.remote.replies import Reply


class Purse:
    """Reserves what requests may cost, and charges what they did.

    A reservation is the bound of the request, times the most by which a charge of this run passed its bound. Until a
    first charge has shown whether the server keeps to bounds, one request is under way.

    Args:
        config: prices and cap.
        journal: open, of all charges.
        price: what a token costs, as a share of the config's prices.
    """

    def __init__(self, config: RemoteModel, journal: Journal, price: float = 1.0):
        self._config, self._journal, self._price = config, journal, price
        self._excess, self._is_known = 1.0, False
        self._changed = asyncio.Condition()

    def usd(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Returns what so many tokens cost."""
        prices = self._config.price_per_million_input_tokens, self._config.price_per_million_output_tokens
        return self._price * (prompt_tokens * prices[0] + completion_tokens * prices[1]) / 1e6

    def cost(self, reply: Reply, bound: float) -> float:
        """Returns what a reply cost; one without a count, or one that was lost, costs its bound."""
        if reply.tokens:
            return self.usd(*reply.tokens)
        return bound if reply.billed else 0.0

    def room(self) -> float:
        """Returns how much may still be reserved."""
        return self._config.spend_cap_usd - self._journal.spent_usd - self._journal.in_flight_usd

    async def reserve(self, bound: float, look: Callable[[], None]) -> str:
        """Waits until a request of this bound may go out, and returns its token; `look` raises where it may not.

        Raises:
            ServiceError: nothing is under way whose money could come back.
        """
        async with self._changed:
            while True:
                look()
                usd, under_way = bound * self._excess, self._journal.in_flight_usd > 0
                if usd <= self.room() and (self._is_known or not under_way):
                    return self._journal.send(usd)
                if not under_way:
                    raise self.refusal(usd)
                await self._changed.wait()

    def refusal(self, usd: float) -> ServiceError:
        """Returns the error of a request that the cap does not allow."""
        spent, under_way = self._journal.spent_usd, self._journal.in_flight_usd
        return ServiceError(
            f"{self._config.section}.spend_cap_usd: expected requests to stay within {self._config.spend_cap_usd:g} "
            f"USD, found {spent:.6f} spent, {under_way:.6f} under way and up to {usd:.6f} for the next one; raise the "
            f"cap or lower {self._config.fewer}, then rerun to continue: {self._config.kept}"
        )

    async def wake(self) -> None:
        """Lets those that wait look again."""
        async with self._changed:
            self._changed.notify_all()

    async def settle(self, token: str, bound: float, usd: float, key: str, answer: Any) -> None:
        """Charges a request; what answers `key` is kept, None for nothing."""
        async with self._changed:
            self._journal.put(token, usd, key, answer)
            if usd:
                self._is_known, self._excess = True, max(self._excess, usd / bound) if bound else self._excess
            self._changed.notify_all()
