"""Policies and trust as they are now, in memory; read again at most once a second.

Facts only: whether nodes satisfy a policy is placement's to say. Any process of a coordinator runs
one of these; what another wrote is seen within ``REFRESH_MS``, or at once where a question names a
version that is not known here yet.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy.engine import Connection

from atoll.coordinator.part import Part, Step
from atoll.coordinator.policy import store
from atoll.coordinator.policy.model import POLICY_ANYWHERE, OwnPlace, StoredPolicy
from atoll.core.addresses import NO_TABLE, AddressTable
from atoll.core.certificates import (
    Issuer,
    Judged,
    RevocationList,
    Trust,
    established,
    judge,
    read_revocations,
)
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.messages import decode
from atoll.core.messages.policy import (
    GetPolicy,
    GetTrust,
    IssuerInfo,
    ListPolicies,
    PartyFacts,
    PolicyList,
    PolicyVersion,
    PublishRevocations,
    RevocationsTaken,
    SignedPartyFacts,
    TrustInfo,
)
from atoll.core.parties import declared_by, sign_party
from atoll.core.policy.model import ANYWHERE as NO_DEMAND
from atoll.core.policy.model import Not, Rules, Subject
from atoll.core.policy.text import lack_words, parse
from atoll.core.ports import Clock, Database

log = logging.getLogger("atoll.coordinator.policy")

REFRESH_MS = 1_000
POLICIES_MAX = 1_000_000
"""Versions of all buckets together; beyond them no policy can be changed."""
PARTIES_KEPT_MAX = 1_000_000
LISTED_MAX = 1_000
_NOWHERE = Rules((("data", Not(NO_DEMAND)), ("metadata", Not(NO_DEMAND))))
"""What a stored text that this version cannot read stands for: better nowhere than anywhere."""


@dataclass(frozen=True, slots=True)
class Known:
    """A party as established, and what became of its certificates."""

    subject: Subject
    judged: tuple[Judged, ...]
    until_ms: int
    """Time alone may change it then."""


class PolicyService(Part):
    """The book of policies, the trust list, and what they make of parties."""

    def __init__(
        self,
        clock: Clock,
        database: Database,
        identity: Identity,
        place: OwnPlace,
        table: AddressTable = NO_TABLE,
    ) -> None:
        """``place`` is what the operator states about this coordinator."""
        self._clock = clock
        self._database = database
        self._identity = identity
        self.place = place
        self._table = table
        self._current: dict[bytes, StoredPolicy] = {}
        self._buckets: dict[int, bytes] = {}
        self._newest = POLICY_ANYWHERE.policy
        self._trust = Trust()
        self._issuers: list[tuple[bytes, str, tuple[str, ...]]] = []
        self._sequences: list[tuple[bytes, int]] | None = None
        self._lists: dict[bytes, RevocationList] = {}
        self._parties: dict[bytes, tuple[tuple[object, ...], Known]] = {}
        self._read_ms: int | None = None
        self._seen_ms = 0
        self._version = 0
        self._until_ms = 1 << 62
        self.handlers = {
            GetPolicy: self._get_policy,
            ListPolicies: self._list_policies,
            GetTrust: self._get_trust,
            PublishRevocations: self._publish,
        }
        self.steps = (Step("read policies", self.fresh, REFRESH_MS / 1000),)

    # --- the book ---------------------------------------------------------------------------

    async def fresh(self, at_least: int = 0) -> None:
        """Read again if it is time, or if a version with this id is not known yet."""
        now_ms = self._clock.now_ms()
        due = self._read_ms is None or not 0 <= now_ms - self._read_ms < REFRESH_MS
        if due or (at_least > POLICY_ANYWHERE.policy and at_least not in self._buckets):
            await self.refresh()

    async def refresh(self) -> None:
        """Read what changed."""
        now_ms, since_ms = self._clock.now_ms(), self._seen_ms

        def read(
            connection: Connection,
        ) -> tuple[
            list[store.PolicyRow],
            list[tuple[bytes, str, tuple[str, ...]]],
            list[tuple[bytes, int]],
        ]:
            return (
                store.changed_policies(connection, since_ms),
                store.issuers(connection),
                store.revocation_sequences(connection),
            )

        rows, issuers, sequences = await self._database.read(read)
        for row in rows:
            self._take(row)
        self._read_ms = self._seen_ms = now_ms
        if sequences != self._sequences:
            lists = await self._database.read(store.revocation_lists)
            self._lists = {one.issuer: one for one in map(read_revocations, lists)}
        if issuers != self._issuers or sequences != self._sequences:
            self._issuers, self._sequences = issuers, sequences
            self._trust = Trust(
                {key: Issuer(key, name, statements) for key, name, statements in issuers},
                frozenset(
                    (one.issuer, revoked.certificate)
                    for one in self._lists.values()
                    for revoked in one.revoked
                ),
            )
            self._parties.clear()
            self._version += 1

    def _take(self, row: store.PolicyRow) -> StoredPolicy:
        policy, bucket, version, text, created_ms = row
        self._buckets[policy] = bucket
        self._newest = max(self._newest, policy)
        found = StoredPolicy(policy, bucket, version, text, created_ms, _rules_of(text, policy))
        known = self._current.get(bucket)
        if bucket and (known is None or known.version < version):
            self._current[bucket] = found
        return found

    @property
    def newest(self) -> int:
        """The highest id known: it grows whenever a bucket gets another policy."""
        return self._newest

    def of_bucket(self, bucket: bytes) -> StoredPolicy:
        """Return the policy that decides about a bucket now."""
        return self._current.get(bucket, POLICY_ANYWHERE)

    def by_id(self, policy: int) -> StoredPolicy | None:
        """Return what decides now about segments placed under an id; None for an unknown one."""
        if policy == POLICY_ANYWHERE.policy:
            return POLICY_ANYWHERE
        bucket = self._buckets.get(policy)
        return None if bucket is None else self._current[bucket]

    async def add(
        self,
        bucket: bytes,
        account: bytes,
        text: str,
        expected_version: int,
        also: Callable[[Connection, bytes, int], None],
    ) -> StoredPolicy:
        """Give a bucket a further version; ``also`` notes the change in the same transaction.

        Raises ``BUCKET_NOT_FOUND``, ``FORBIDDEN``, ``PRECONDITION_FAILED``, ``OVERLOADED``.
        """
        if len(self._buckets) >= POLICIES_MAX:
            raise AtollError(Kind.OVERLOADED, "set policy", "there are too many policies")
        now_ms = self._clock.now_ms()

        def write(connection: Connection) -> store.PolicyRow:
            there = store.lock_bucket(connection, bucket)
            if there is None:
                raise AtollError(Kind.BUCKET_NOT_FOUND, "set policy", "there is no such bucket")
            if there[0] != account:
                raise AtollError(
                    Kind.FORBIDDEN, "set policy", "the bucket belongs to another account"
                )
            before = store.policies_of(connection, bucket, 1)
            version = before[0][2] if before else 0
            if expected_version not in (-1, version):
                raise AtollError(
                    Kind.PRECONDITION_FAILED,
                    "set policy",
                    f"the policy is at version {version}, not {expected_version}",
                    hint="look at it again: somebody else has changed it",
                )
            if before and before[0][3] == text:
                return before[0]
            also(connection, account, now_ms)
            return store.add_policy(connection, bucket, version + 1, text, now_ms)

        return self._take(await self._database.write(write))

    # --- parties ----------------------------------------------------------------------------

    @property
    def version(self) -> int:
        """Grows whenever a party may have to be judged anew: other trust, or time has passed."""
        now_ms = self._clock.now_ms()
        if now_ms >= self._until_ms:
            self._until_ms = 1 << 62
            for party, (_, known) in list(self._parties.items()):
                if known.until_ms <= now_ms:
                    del self._parties[party]
                else:
                    self._until_ms = min(self._until_ms, known.until_ms)
            self._version += 1
        return self._version

    def known(
        self, party: bytes, declared: Subject, host: str, certificates: Sequence[bytes]
    ) -> Known:
        """Return a party as it is known; remembered until trust, its facts or time change it."""
        asked = (declared, host, tuple(certificates))
        kept = self._parties.get(party)
        now_ms = self._clock.now_ms()
        if kept is not None and kept[0] == asked and now_ms < kept[1].until_ms:
            return kept[1]
        judged, until_ms = judge(certificates, party, self._trust, now_ms)
        found = Known(established(declared, host, judged, self._table), judged, until_ms)
        if len(self._parties) >= PARTIES_KEPT_MAX:
            self._parties.clear()
        self._parties[party] = (asked, found)
        self._until_ms = min(self._until_ms, until_ms)
        return found

    def known_party(self, facts: PartyFacts) -> Known:
        """Return a gateway or coordinator as it is known; its address is no evidence here."""
        declared = declared_by(facts)
        return self.known(declared.node_id, declared, "", facts.certificates)

    def country_of(self, host: str) -> str:
        """Return an address's country by the local table; empty where it does not know."""
        return self._table.country_of(host)

    def issuers(self) -> list[tuple[Issuer, int]]:
        """Return whom we trust, each with the sequence of the revocation list that counts."""
        return [
            (issuer, self._lists[key].sequence if key in self._lists else 0)
            for key, issuer in self._trust.issuers.items()
        ]

    def own_facts(self) -> SignedPartyFacts:
        """Return this coordinator's facts, signed."""
        place = self.place
        return sign_party(
            self._identity,
            PartyFacts(
                public_key=self._identity.public_key,
                role="coordinator",
                operator=place.operator,
                country=place.country,
                parent_country=place.parent_country,
                region=place.region,
                certificates=list(place.certificates),
                database_country=place.database_country,
            ),
        )

    def objections(self, rules: Rules, gateway: PartyFacts | None) -> list[str]:
        """Say in words what keeps this coordinator, or a gateway, from serving under a policy."""
        found: list[str] = []
        own = self.known_party(decode(self.own_facts().facts, PartyFacts)).subject
        found += lack_words("this coordinator", "metadata", rules, own)
        if self.place.database_country:
            database = Subject(
                country=self.place.database_country,
                parent_country=own.parent_country,
                region=own.region,
                operator=own.operator,
                certificates=own.certificates,
                evidence=own.evidence,
            )
            found += lack_words("its database", "metadata", rules, database)
        if gateway is not None:
            subject = self.known_party(gateway).subject
            for scope in ("gateway", "keys"):
                found += lack_words("this gateway", scope, rules, subject)
        return found

    def require(self, bucket: bytes) -> StoredPolicy:
        """Return a bucket's policy. Raises ``FORBIDDEN`` where it excludes this coordinator."""
        found = self.of_bucket(bucket)
        if found.rules.expression("metadata") == NO_DEMAND:
            return found
        objections = self.objections(found.rules, None)
        if objections:
            raise AtollError(
                Kind.FORBIDDEN,
                "place segment",
                f"the bucket's policy excludes this coordinator: {'; '.join(objections)}",
                hint="its operator corrects the coordinator's facts, or the owner the policy",
            )
        return found

    # --- answers ----------------------------------------------------------------------------

    async def _get_policy(self, request: GetPolicy) -> PolicyVersion:
        await self.fresh(request.policy)
        if request.bucket:
            return self.of_bucket(request.bucket).message()
        if request.policy == POLICY_ANYWHERE.policy:
            return POLICY_ANYWHERE.message()
        row = await self._database.read(lambda c: store.policy_by_id(c, request.policy))
        if row is None:
            raise AtollError(Kind.NOT_FOUND, "get policy", f"there is no policy {request.policy}")
        return self._take(row).message()

    async def _list_policies(self, request: ListPolicies) -> PolicyList:
        limit = max(1, min(request.limit, LISTED_MAX))
        rows = await self._database.read(lambda c: store.policies_of(c, request.bucket, limit))
        return PolicyList(versions=[self._take(row).message() for row in rows])

    async def _get_trust(self, _: GetTrust) -> TrustInfo:
        await self.refresh()
        return TrustInfo(
            issuers=[
                IssuerInfo(
                    key=key,
                    name=name,
                    statements=list(statements),
                    revoked=len(self._lists[key].revoked) if key in self._lists else 0,
                )
                for key, name, statements in self._issuers
            ],
            coordinator=self.own_facts(),
            addresses=len(self._table),
        )

    async def _publish(self, request: PublishRevocations) -> RevocationsTaken:
        return await self.publish(request.revocations)

    async def publish(self, raw: bytes) -> RevocationsTaken:
        """Take an issuer's revocation list. Raises ``UNAUTHENTICATED``, ``FORBIDDEN``."""
        taken = read_revocations(raw)
        await self.refresh()
        if taken.issuer not in self._trust.issuers:
            raise AtollError(
                Kind.FORBIDDEN,
                "publish revocations",
                "this issuer is not trusted here: nothing of his counts anyway",
                about=taken.issuer.hex(),
            )
        await self._database.write(
            lambda c: store.keep_revocations(c, taken.issuer, taken.sequence, raw)
        )
        await self.refresh()
        now = self._lists[taken.issuer]
        return RevocationsTaken(sequence=now.sequence, revoked=len(now.revoked))

    async def trust(self, issuer: Issuer) -> None:
        """Believe an issuer from now on (for the operator's own hand)."""
        now_ms = self._clock.now_ms()
        await self._database.write(
            lambda c: store.trust(c, issuer.key, issuer.name, issuer.statements, now_ms)
        )
        await self.refresh()

    async def distrust(self, key: bytes) -> bool:
        """Believe an issuer no longer; False if nobody did."""
        gone = await self._database.write(lambda c: store.distrust(c, key))
        await self.refresh()
        return gone


def _rules_of(text: str, policy: int) -> Rules:
    try:
        return parse(text)
    except AtollError as error:
        log.error("policy %d cannot be read by this version: %s", policy, error)
        return _NOWHERE
