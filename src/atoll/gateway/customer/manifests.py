"""How a bucket's writes wait for its manifests: shown and set by its owner."""

import msgspec

from atoll.core.messages import BucketInfo
from atoll.core.messages.recovery import ManifestLag, ManifestState, SetManifestMode
from atoll.gateway.customer.call import CustomerCall


class ModeWanted(msgspec.Struct, frozen=True):
    """The bucket, and the mode it shall have; empty to ask only."""

    bucket: str
    mode: str = ""


class ModeShown(msgspec.Struct, frozen=True):
    """A bucket's mode and how far its manifests are behind."""

    bucket: str
    mode: str
    waiting: int
    """Changes that are in no manifest yet."""
    lag_ms: int
    """Age of the oldest of them."""
    manifests: int
    manifest_bytes: int


async def bucket_mode(call: CustomerCall) -> ModeShown:
    """Return a bucket's mode, set first if one is given. Raises ``BAD_REQUEST``, ``FORBIDDEN``."""
    wanted = call.read(ModeWanted)
    bucket = await call.bucket(wanted.bucket)
    control = call.services.control
    if wanted.mode:
        request = SetManifestMode(bucket=bucket.bucket, mode=wanted.mode)
        bucket = await control.ask(request, BucketInfo)
    state = await control.ask(ManifestLag(bucket=bucket.bucket), ManifestState)
    now_ms = call.services.clock.now_ms()
    return ModeShown(
        bucket=bucket.name,
        mode=bucket.manifests,
        waiting=state.waiting,
        lag_ms=max(0, now_ms - state.oldest_ms) if state.waiting else 0,
        manifests=state.manifests,
        manifest_bytes=state.manifest_bytes,
    )
