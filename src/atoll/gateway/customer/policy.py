"""Policies through the gateway's door: the owner of a bucket sets, reads and tries them."""

import msgspec

from atoll.core.messages.policy import (
    CheckPolicy,
    GetTrust,
    ListPolicies,
    PolicyFit,
    PolicyList,
    PolicyVersion,
    PublishRevocations,
    RevocationsTaken,
    SetPolicy,
    TrustInfo,
)
from atoll.gateway.customer.call import CustomerCall


class PolicyAsked(msgspec.Struct, frozen=True):
    """Body of ``policy-set``, ``policy-show`` and ``policy-check``."""

    bucket: str = ""
    text: str = ""
    expected_version: int = -1
    force: bool = False


async def set_policy(call: CustomerCall) -> PolicyVersion:
    """Give a bucket of the caller a further version of its policy."""
    asked = call.read(PolicyAsked)
    bucket = await call.bucket(asked.bucket, served=False)
    answer = await call.services.control.ask(
        SetPolicy(
            bucket=bucket.bucket,
            account=call.caller.account,
            text=asked.text,
            expected_version=asked.expected_version,
            force=asked.force,
            gateway=call.services.place.signed(),
        ),
        PolicyVersion,
    )
    call.services.buckets.forget(asked.bucket)
    return answer


async def show_policy(call: CustomerCall) -> PolicyList:
    """Return the versions of a bucket's policy, the newest first; none: it may lie anywhere."""
    bucket = await call.bucket(call.read(PolicyAsked).bucket, served=False)
    return await call.services.control.ask(ListPolicies(bucket=bucket.bucket), PolicyList)


async def check_policy(call: CustomerCall) -> PolicyFit:
    """Return how a policy, or that of a bucket, does with the nodes of now."""
    asked = call.read(PolicyAsked)
    bucket = b""
    if asked.bucket:
        bucket = (await call.bucket(asked.bucket, served=False)).bucket
    question = CheckPolicy(text=asked.text, bucket=bucket, gateway=call.services.place.signed())
    return await call.services.control.ask(question, PolicyFit)


class PublishAsked(msgspec.Struct, frozen=True):
    """Body of ``revocations-publish``: the signed list, in base64."""

    revocations: bytes


async def publish_revocations(call: CustomerCall) -> RevocationsTaken:
    """Hand an issuer's list in; his signature decides, not who brings it."""
    asked = call.read(PublishAsked)
    question = PublishRevocations(revocations=asked.revocations)
    return await call.services.control.ask(question, RevocationsTaken)


async def trust(call: CustomerCall) -> TrustInfo:
    """Return whom the coordinator believes about nodes."""
    return await call.services.control.ask(GetTrust(), TrustInfo)
