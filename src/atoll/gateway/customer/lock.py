"""Locks of objects and buckets' defaults, as a customer asks for them."""

import msgspec

from atoll.core.errors import AtollError, Kind
from atoll.core.messages import BucketInfo, Done
from atoll.core.messages.retention import (
    DefaultLock,
    GetDefaultLock,
    LockState,
    SetDefaultLock,
)
from atoll.core.retention import DAY_MS
from atoll.gateway.customer.call import CustomerCall
from atoll.gateway.locks import Change


class LockQuestion(msgspec.Struct, frozen=True):
    """A lock to be changed or shown: of an object, or with no key of a bucket's new objects."""

    bucket: str
    key: str = ""
    mode: str = ""
    """``governance`` or ``compliance``; empty leaves what is (``compliance`` for a new period)."""
    until_ms: int = 0
    days: int = 0
    legal_hold: bool | None = None
    clear: bool = False
    """End a governance period, or a bucket's default."""


class LockAnswer(msgspec.Struct, frozen=True):
    """How an object is locked now, or what new objects of a bucket get."""

    bucket: str
    key: str
    mode: str
    until_ms: int = 0
    legal_hold: bool = False
    locked: bool = False
    days: int = 0
    holders: int = 0
    """Pieces of the object that are stored."""
    confirmed: int = 0
    """Those whose holder has signed that it obeys the newest record."""


async def lock(call: CustomerCall) -> LockAnswer:
    """Show or change. Raises ``RETAINED`` where compliance would be shortened."""
    question = call.read(LockQuestion)
    bucket = await call.bucket(question.bucket)
    if not question.key:
        return await _default(call, question, bucket)
    keeper = call.services.locks
    if keeper is None:
        raise AtollError(Kind.NOT_IMPLEMENTED, "lock object", "this gateway signs no locks")
    asks = question.until_ms or question.days or question.clear
    if asks or question.mode or question.legal_hold is not None:
        report = await keeper.change(bucket, question.key, _change_of(question))
    else:
        report = await keeper.report(bucket, question.key)
    state = report.state
    return LockAnswer(
        bucket=question.bucket,
        key=question.key,
        mode=state.mode,
        until_ms=state.until_ms,
        legal_hold=state.legal_hold,
        locked=state.legal_hold or state.until_ms > call.services.clock.now_ms(),
        holders=report.holders,
        confirmed=report.confirmed,
    )


def _change_of(question: LockQuestion) -> Change:
    if question.clear and (question.until_ms or question.days or question.mode):
        raise AtollError(Kind.BAD_REQUEST, "lock object", "clear goes with no period")
    if question.until_ms and question.days:
        raise AtollError(Kind.BAD_REQUEST, "lock object", "give an end or days, not both")

    def change(old: LockState, now_ms: int, /) -> LockState:
        mode, until_ms = old.mode, old.until_ms
        if question.clear:
            mode, until_ms = "", 0
        elif question.until_ms or question.days:
            until_ms = question.until_ms or now_ms + question.days * DAY_MS
            mode = question.mode or old.mode or "compliance"
        elif question.mode:
            if not until_ms:
                raise AtollError(Kind.BAD_REQUEST, "lock object", "a mode needs a period")
            mode = question.mode
        hold = old.legal_hold if question.legal_hold is None else question.legal_hold
        return LockState(mode=mode, until_ms=until_ms, legal_hold=hold)

    return change


async def _default(call: CustomerCall, question: LockQuestion, bucket: BucketInfo) -> LockAnswer:
    control = call.services.control
    if question.until_ms or question.legal_hold is not None:
        raise AtollError(
            Kind.BAD_REQUEST, "set default lock", "a bucket's default is a number of days"
        )
    if question.days or question.clear:
        wanted = DefaultLock()
        if question.days:
            wanted = DefaultLock(mode=question.mode or "compliance", days=question.days)
        await control.ask(SetDefaultLock(bucket=bucket.bucket, lock=wanted), Done)
        call.services.buckets.forget(question.bucket)
    found = await control.ask(GetDefaultLock(bucket=bucket.bucket), DefaultLock)
    return LockAnswer(bucket=question.bucket, key="", mode=found.mode, days=found.days)
