"""News within one transfer."""

import asyncio


class Signal:
    """Wakes whoever waits for news; cheaper than an event, and with a time limit of its own."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[bool]] = []

    def tell(self) -> None:
        """Wake all that wait now."""
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for one in waiting:
                _wake(one, True)

    async def wait(self, timeout_s: float | None = None) -> bool:
        """Return ``True`` at the next news, ``False`` when the time is over."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()
        self._waiting.append(future)
        timer = None if timeout_s is None else loop.call_later(timeout_s, _wake, future, False)
        try:
            return await future
        finally:
            if timer is not None:
                timer.cancel()
            if future in self._waiting:
                self._waiting.remove(future)


def _wake(future: "asyncio.Future[bool]", news: bool) -> None:
    if not future.done():
        future.set_result(news)
