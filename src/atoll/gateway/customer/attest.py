"""Residency attestations, page by page, with this gateway's own signature under the last."""

import msgspec

from atoll.core.messages.policy import AttestedPage, AttestPage
from atoll.gateway.customer.call import CustomerCall


class AttestAsked(msgspec.Struct, frozen=True):
    """Body of ``residency-attest``: the seal of the page before, or nothing for the first."""

    bucket: str
    seal: str = ""
    hash_keys: bool = False


class Attested(msgspec.Struct, frozen=True):
    """One page. Lines as they belong into the file, each with its newline."""

    lines: str
    seal: str
    """The seal's line alone: to ask for the next page with."""
    last: bool


async def attest(call: CustomerCall) -> Attested:
    """Return a page of an attestation of a bucket of the caller."""
    asked = call.read(AttestAsked)
    bucket = await call.bucket(asked.bucket, served=False)
    place = call.services.place
    page = await call.services.control.ask(
        AttestPage(
            bucket=bucket.bucket,
            account=call.caller.account,
            seal=asked.seal.encode(),
            gateway=place.signed(),
            hash_keys=asked.hash_keys,
        ),
        AttestedPage,
    )
    lines = page.page + page.seal + b"\n"
    witness = place.witness(page.seal) if page.last else ""
    return Attested(
        lines=lines.decode() + (f"{witness}\n" if witness else ""),
        seal=page.seal.decode(),
        last=page.last,
    )
