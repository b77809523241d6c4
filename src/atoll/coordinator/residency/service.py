"""Answers about where data lies: policies set and tried, objects explained, lists signed."""

from atoll.coordinator.metadata.model import segment_usage
from atoll.coordinator.metadata.service import no_bucket, no_object
from atoll.coordinator.metadata.store import buckets, changes, objects
from atoll.coordinator.part import Part
from atoll.coordinator.placement.model import Policy
from atoll.coordinator.placement.service import PlacementService
from atoll.coordinator.policy.model import StoredPolicy
from atoll.coordinator.policy.service import PolicyService
from atoll.coordinator.registry.service import RegistryService
from atoll.coordinator.residency import pages
from atoll.coordinator.residency.rules import explained, fit_of, stated
from atoll.coordinator.residency.store import last_proven, lying
from atoll.core.attestation import Head, IssuerLine, Seal, check_seal, line_hash, line_of, sign_seal
from atoll.core.countries import GROUPS_DATE
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.ids import SHORT_ID_BYTES
from atoll.core.messages import BucketInfo, encode
from atoll.core.messages.policy import (
    AttestedPage,
    AttestPage,
    CheckPolicy,
    ExplainObject,
    ObjectExplained,
    PartyFacts,
    PolicyFit,
    PolicyVersion,
    SetPolicy,
    SignedPartyFacts,
)
from atoll.core.parties import read_party
from atoll.core.policy.model import RULES_ANYWHERE, Rules
from atoll.core.policy.text import parse, show
from atoll.core.ports import Clock, Database, Rng

EXPLAINED_MAX = 1000
"""Segments explained at a time."""


class ResidencyService(Part):
    """Policies against the nodes of now, explanations, attestations."""

    def __init__(
        self,
        clock: Clock,
        rng: Rng,
        database: Database,
        identity: Identity,
        registry: RegistryService,
        policies: PolicyService,
        placement: PlacementService,
        *,
        proof_slot_ms: int,
    ) -> None:
        """Sign attestations with ``identity``, the coordinator's.

        ``proof_slot_ms`` is how long a slot of possession proofs lasts.
        """
        self._clock = clock
        self._rng = rng
        self._database = database
        self._identity = identity
        self._registry = registry
        self._policies = policies
        self._placement = placement
        self._proof_slot_ms = proof_slot_ms
        self.handlers = {
            SetPolicy: self.set_policy,
            CheckPolicy: self.check_policy,
            ExplainObject: self.explain,
            AttestPage: self.attest,
        }

    async def _fresh(self) -> None:
        await self._registry.fresh()
        await self._policies.refresh()

    async def _bucket(self, bucket: bytes) -> BucketInfo:
        found = await self._database.read(lambda c: buckets.bucket_by_id(c, bucket))
        if found is None:
            raise no_bucket()
        return found

    # --- policies ---------------------------------------------------------------------------

    async def set_policy(self, request: SetPolicy) -> PolicyVersion:
        """Give a bucket a further version of its policy. Errors: see ``SetPolicy``."""
        rules = parse(request.text)
        info = await self._bucket(request.bucket)
        if info.account != request.account:
            raise AtollError(Kind.FORBIDDEN, "set policy", "the bucket belongs to another account")
        _check_mode(rules, info.mode)
        await self._fresh()
        fit = self._fit(rules, request.gateway)
        if not request.force:
            _check_fit(fit)
        text = "" if rules == RULES_ANYWHERE else show(rules)
        stored = await self._policies.add(
            request.bucket,
            request.account,
            text,
            request.expected_version,
            changes.note_catalogue,
        )
        return stored.message()

    async def check_policy(self, request: CheckPolicy) -> PolicyFit:
        """Return how a policy would do with the nodes of now."""
        await self._fresh()
        if request.text or not request.bucket:
            rules = parse(request.text)
        else:
            rules = self._policies.of_bucket(request.bucket).rules
        if request.bucket:
            _check_mode(rules, (await self._bucket(request.bucket)).mode)
        return self._fit(rules, request.gateway)

    def _fit(self, rules: Rules, gateway: SignedPartyFacts | None) -> PolicyFit:
        facts = _gateway_facts(gateway)
        objections = self._policies.objections(rules, facts)
        policy = Policy(0, show(rules), rules)
        return fit_of(policy, self._placement.nodes().values(), objections)

    # --- objects ----------------------------------------------------------------------------

    async def explain(self, request: ExplainObject) -> ObjectExplained:
        """Return where an object's pieces are and why. Errors: see ``ExplainObject``."""
        await self._fresh()
        key = request.key.encode()
        limit = max(1, min(request.limit, EXPLAINED_MAX))
        row = await self._database.read(lambda c: objects.find_object(c, request.bucket, key))
        if row is None:
            raise no_object(key)
        found = await self._database.read(
            lambda c: lying(c, row.stream, 0, request.after_segment + limit)
        )
        shown = found[request.after_segment :] if row.segments else []
        nodes = self._placement.nodes()
        policy = self._policies.of_bucket(request.bucket)
        now_ms = self._clock.now_ms()
        proven = await self._database.read(lambda c: last_proven(c, now_ms, self._proof_slot_ms))
        segments = [explained(one, nodes, _policy(policy), proven) for one in shown]
        return ObjectExplained(
            key=request.key,
            size=row.size,
            modified_ms=row.modified_ms,
            segments_total=row.segments,
            segments=segments,
            policy=policy.message(),
            survives_nodes=min((one.survives_nodes for one in segments), default=0),
            stored_bytes=sum(
                segment_usage(s.plain_bytes, s.k, s.n, s.unit_bytes, len(s.pieces)).piece_bytes
                for s in shown
            ),
            plain_bytes=sum(one.plain_bytes for one in shown),
            one_machine=self._registry.one_machine,
        )

    # --- attestations -----------------------------------------------------------------------

    async def attest(self, request: AttestPage) -> AttestedPage:
        """Return a page of an attestation with its seal. Errors: see ``AttestPage``."""
        info = await self._bucket(request.bucket)
        if info.account != request.account:
            raise AtollError(Kind.FORBIDDEN, "attest", "the bucket belongs to another account")
        await self._fresh()
        policy = self._policies.of_bucket(request.bucket)
        gateway = _gateway_facts(request.gateway)
        objections = self._policies.objections(policy.rules, gateway)
        before: Seal | None = None
        lines: list[bytes] = []
        if request.seal:
            before = self._own_seal(request.seal, policy)
            opening = pages.Opening(
                before.attestation, before.head, before.policy, before.begun_ms, bool(objections)
            )
        else:
            head = self._head(request, info, policy, objections)
            lines.append(line_of(head))
            opening = pages.Opening(
                head.attestation,
                line_hash(lines[0]),
                policy.policy,
                head.begun_ms,
                bool(objections),
            )
        start = pages.Cursor() if before is None else pages.read_cursor(before.cursor)
        gathered = await self._database.read(lambda c: pages.gather(c, request.bucket, start))
        page, sums = pages.page_lines(gathered, self._ground(policy), hashed=request.hash_keys)
        lines += page
        seal = pages.seal_of(opening, before, lines, sums, gathered.after, self._clock.now_ms())
        return AttestedPage(
            page=b"".join(line + b"\n" for line in lines),
            seal=sign_seal(self._identity, seal),
            last=seal.last,
        )

    def _own_seal(self, raw: bytes, policy: StoredPolicy) -> Seal:
        try:
            seal = check_seal(raw, (self._identity.public_key,))
        except AtollError as cause:
            raise AtollError(
                Kind.BAD_REQUEST, "attest", "the seal to go on from is not ours"
            ) from cause
        if seal.last:
            raise AtollError(Kind.BAD_REQUEST, "attest", "this attestation is complete")
        if seal.policy != policy.policy:
            raise AtollError(
                Kind.CONFLICT,
                "attest",
                "the bucket's policy changed while it was attested",
                hint="begin again",
            )
        return seal

    def _ground(self, policy: StoredPolicy) -> pages.Ground:
        return pages.Ground(
            nodes=self._placement.nodes(),
            view_of=self._registry.node,
            country_of=self._policies.country_of,
            policy=_policy(policy),
        )

    def _head(
        self, request: AttestPage, info: BucketInfo, policy: StoredPolicy, objections: list[str]
    ) -> Head:
        gateway = request.gateway
        return Head(
            version=1,
            attestation=self._rng.bytes(SHORT_ID_BYTES).hex(),
            bucket=info.name,
            bucket_id=info.bucket.hex(),
            account=info.account.hex(),
            policy=policy.policy,
            policy_version=policy.version,
            policy_text=policy.text or "anywhere",
            groups_date=GROUPS_DATE,
            begun_ms=self._clock.now_ms(),
            coordinator=encode(self._policies.own_facts()).hex(),
            gateway="" if gateway is None else encode(gateway).hex(),
            issuers=[
                IssuerLine(
                    key=issuer.key.hex(),
                    name=issuer.name,
                    statements=list(issuer.statements),
                    revocations=sequence,
                )
                for issuer, sequence in self._policies.issuers()
            ],
            objections=objections,
            stated=stated(policy.rules),
            keys_hashed=request.hash_keys,
        )


def _policy(stored: StoredPolicy) -> Policy:
    return Policy(stored.policy, stored.text, stored.rules)


def _gateway_facts(signed: SignedPartyFacts | None) -> PartyFacts | None:
    return None if signed is None else read_party(signed)


def _check_mode(rules: Rules, mode: str) -> None:
    """Raise ``BAD_REQUEST`` where a bucket's mode contradicts who shall be able to decrypt."""
    if rules.decrypt == "owner" and mode != "sealed":
        raise AtollError(
            Kind.BAD_REQUEST,
            "set policy",
            "`decrypt by owner` cannot be: this bucket is managed, its gateway can decrypt it",
            hint="only a sealed bucket is decrypted by its owner alone",
        )
    if rules.decrypt == "gateway" and mode != "managed":
        raise AtollError(
            Kind.BAD_REQUEST,
            "set policy",
            "`decrypt by gateway` cannot be: this bucket is sealed",
            hint="leave the clause out",
        )


def _check_fit(fit: PolicyFit) -> None:
    """Raise ``PRECONDITION_FAILED`` for a policy that could not be kept now."""
    if fit.objections:
        raise AtollError(
            Kind.PRECONDITION_FAILED,
            "set policy",
            "; ".join(fit.objections),
            hint="correct what they state about themselves, or set it all the same with --force",
        )
    unfit = [one for one in fit.schemes if not one.fits]
    if unfit:
        parts = ", ".join(f"`{one.part}` keeps out {one.nodes}" for one in fit.refusals)
        raise AtollError(
            Kind.PRECONDITION_FAILED,
            "set policy",
            f"{fit.nodes_admitted} of {fit.nodes_alive} nodes satisfy it and make "
            f"{fit.independent} independent operators; {unfit[0].scheme} needs {unfit[0].needed}"
            + (f": {parts}" if parts else ""),
            hint="loosen it, win more providers, or set it all the same with --force",
        )
