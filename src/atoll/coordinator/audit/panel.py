"""The verifiers of a coordinator, and the beacon that their chains make."""

import logging
from collections import OrderedDict

from atoll.coordinator.audit import store
from atoll.coordinator.audit.model import EXCLUDED, GOOD, ProofTimes, Verifier, VerifierRow
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.messages.proofs import VerifierPlace
from atoll.core.ports import Clock, Database
from atoll.core.proofs.beacon import (
    BEACON_PURPOSE,
    VERIFIERS_MAX,
    BeaconValue,
    ChainCheck,
    Reveal,
    check_beacon,
    period_of,
    quorum,
    read_chain,
    reveal_signed,
)
from atoll.core.proofs.evidence import Accused, Evidence, Lie, check_evidence, make_evidence
from atoll.core.proofs.signed import (
    Signed,
    decode_statement,
    digest_of,
    encode_statement,
    sign_statement,
)

log = logging.getLogger("atoll.coordinator.audit")
BEACONS_KEPT = 8
REVEALS_KEPT = 4
ABSENT_SLOTS = 3
"""A verifier not heard for so many slots is left out of the draw until it is back."""
CHAINS_KEPT = 8
"""Chains kept of one verifier, the newest: longer than results are."""
SHARE_S = 0.25
"""While a beacon is awaited, what other processes heard is read so often."""
CHAIN_LEAD_SLOTS = 2
"""A chain counts from the slot so long after it was shown: by then nobody chose it for a slot."""


class Panel:
    """Verifiers, their chains, and the beacon. Answers ``core.ports.Beacon``."""

    def __init__(
        self,
        clock: Clock,
        database: Database,
        identity: Identity,
        times: ProofTimes,
        trusted: frozenset[bytes],
    ) -> None:
        """``trusted`` are the keys of verifiers that may take part."""
        self._clock = clock
        self._database = database
        self._identity = identity
        self._times = times
        self._trusted = trusted
        self._verifiers: dict[bytes, Verifier] = {}
        self._beacons: OrderedDict[int, tuple[Signed, BeaconValue]] = OrderedDict()
        self._draws: dict[int, list[bytes]] = {}
        self._shared_s = -SHARE_S
        """By the monotonic clock, when what other processes heard was read last."""
        self._told: dict[bytes, tuple[int, bool]] = {}
        """By verifier, the slot and whether its value are written down for other processes."""

    async def load(self) -> None:
        """Read the verifiers that were there before."""
        for row in await self._database.read(store.all_verifiers):
            checks = [ChainCheck(read_chain(chain)) for chain in row.chains]
            self._verifiers[row.place.key] = Verifier(row, checks)

    async def refresh(self) -> None:
        """Take over what other processes of this coordinator heard from verifiers."""
        now_s = self._clock.monotonic()
        if now_s - self._shared_s < SHARE_S:
            return
        self._shared_s = now_s
        slot = self.slot_now()
        rows, words, beacon = await self._database.read(
            lambda c: (
                store.all_verifiers(c),
                store.words(c, slot - ABSENT_SLOTS),
                store.read_beacon(c, slot),
            )
        )
        for row in rows:
            self._take_row(row, slot)
        for word in words:
            known = self._verifiers.get(word.key)
            if known is None:
                continue
            known.seen_ms = max(known.seen_ms, word.heard_ms)
            if word.reveal is not None:
                known.reveals.setdefault(word.slot, word.reveal)
        for known in self._verifiers.values():
            known.reveals = {s: r for s, r in known.reveals.items() if s > slot - REVEALS_KEPT}
        if beacon is not None and slot not in self._beacons:
            self._keep(beacon)

    def _take_row(self, row: VerifierRow, slot: int) -> None:
        known = self._verifiers.get(row.place.key)
        if known is not None and known.row == row:
            return
        checks = [ChainCheck(read_chain(chain)) for chain in row.chains]
        if known is None:
            known = self._verifiers[row.place.key] = Verifier(row, checks)
        had = {check.commit.period for check in known.checks}
        for period in {check.commit.period for check in checks} - had:
            known.since[period] = slot
        known.row, known.checks = row, checks

    async def note(self, verifier: Verifier) -> None:
        """Let other processes know that a verifier was heard, and its value of this slot."""
        slot = self.slot_now()
        reveal = verifier.reveals.get(slot)
        told = (slot, reveal is not None)
        if self._told.get(verifier.key) != told:
            now_ms = self._clock.now_ms()
            await self._database.write(lambda c: store.hear(c, slot, verifier.key, reveal, now_ms))
            self._told[verifier.key] = told

    # --- who --------------------------------------------------------------------------------

    def active(self) -> list[Verifier]:
        """Return the verifiers that were heard lately and are no proven liars, by key."""
        since_ms = self._clock.now_ms() - ABSENT_SLOTS * self._times.slot_ms
        return [
            one
            for _, one in sorted(self._verifiers.items())
            if one.row.status == GOOD and one.key in self._trusted and one.seen_ms >= since_ms
        ]

    def places(self) -> list[VerifierPlace]:
        """Return where the active verifiers listen."""
        return [one.row.place for one in self.active()]

    def chains(self) -> list[Signed]:
        """Return all chains of all verifiers."""
        return [chain for _, one in sorted(self._verifiers.items()) for chain in one.row.chains]

    def excluded(self) -> list[bytes]:
        """Return the keys of proven liars."""
        return [key for key, one in sorted(self._verifiers.items()) if one.row.status == EXCLUDED]

    def verifier(self, key: bytes) -> Verifier | None:
        """Return a verifier by its key."""
        return self._verifiers.get(key)

    def require_trusted(self, key: bytes) -> None:
        """Raise ``FORBIDDEN`` for a verifier that may not take part."""
        if key not in self._trusted:
            raise AtollError(
                Kind.FORBIDDEN,
                "hear verifier",
                "this coordinator does not trust this verifier's key",
                hint="`atoll coordinator trust-verifier KEY` on the coordinator's machine",
                about=key.hex(),
            )

    async def meet(self, place: VerifierPlace, chain: Signed) -> Verifier:
        """Hear a verifier; take its chain if it is of this period or the next.

        Raises ``FORBIDDEN`` for one that is not trusted, ``CONFLICT`` for a chain of another period
        or a second one of the same (which excludes it), ``CORRUPT`` and ``UNAUTHENTICATED`` for
        none at all.
        """
        self.require_trusted(place.key)
        commit = read_chain(chain)
        if commit.verifier_key != place.key or commit.coordinator_key != self._identity.public_key:
            raise AtollError(Kind.UNAUTHENTICATED, "hear verifier", "the chain is not for us")
        known = self._verifiers.get(place.key)
        if known is None:
            if len(self._verifiers) >= VERIFIERS_MAX:
                raise AtollError(Kind.OVERLOADED, "hear verifier", "there are too many verifiers")
            known = Verifier(VerifierRow(place, [], GOOD), [])
        chains = known.row.chains
        if all(chain.body != old.body for old in chains):
            await self._check_new(known, chain, commit.period)
            chains = [*chains, chain][-CHAINS_KEPT:]
            known.since[commit.period] = self.slot_now()
        if chains != known.row.chains or place != known.row.place:
            known.row = VerifierRow(place, chains, known.row.status)
            known.checks = [ChainCheck(read_chain(one)) for one in chains]
            await self._write(known)
        self._verifiers[place.key] = known
        known.seen_ms = self._clock.now_ms()
        return known

    async def _check_new(self, known: Verifier, chain: Signed, period: int) -> None:
        for old, check in zip(known.row.chains, known.checks, strict=True):
            if check.commit.period == period:
                await self.accuse(make_evidence(Lie.CHAIN, old, chain))
                raise AtollError(
                    Kind.CONFLICT, "hear verifier", f"it signed two chains for period {period}"
                )
        now = period_of(self.slot_now())
        if not now <= period <= now + 1:
            raise AtollError(
                Kind.CONFLICT,
                "hear verifier",
                f"its chain is of period {period}; this is period {now}",
                hint="set the clocks of both machines (NTP)",
            )

    async def _write(self, verifier: Verifier) -> None:
        now_ms = self._clock.now_ms()
        row = verifier.row
        await self._database.write(lambda c: store.put_verifier(c, row, now_ms))

    # --- the beacon -------------------------------------------------------------------------

    def slot_now(self) -> int:
        """Return the number of the slot that time is in."""
        return self._clock.now_ms() // self._times.slot_ms

    async def reveal(self, verifier: Verifier, reveal: Reveal) -> Evidence | None:
        """Take a value for the current slot. Returns evidence where it contradicts another."""
        slot = self.slot_now()
        named = (reveal.verifier_key, reveal.coordinator_key)
        if named != (verifier.key, self._identity.public_key) or not reveal_signed(reveal):
            raise AtollError(Kind.UNAUTHENTICATED, "take reveal", "its signature does not hold")
        before = verifier.reveals.get(reveal.slot)
        if before is not None and before.value != reveal.value:
            return make_evidence(Lie.REVEAL, before, reveal)
        if reveal.slot != slot or before is not None:
            return None
        if not any(check.accepts(slot, reveal.value) for check in verifier.checks):
            raise AtollError(Kind.CORRUPT, "take reveal", "it is not of the verifier's chain")
        verifier.reveals[slot] = reveal
        while len(verifier.reveals) > REVEALS_KEPT:
            del verifier.reveals[min(verifier.reveals)]
        await self.combine(slot)
        return None

    async def combine(self, slot: int) -> None:
        """Make the slot's beacon if all reveals are there, or enough of them and time is over."""
        if slot in self._beacons:
            return
        await self.refresh()
        if slot in self._beacons:
            return
        # Who may reveal and judge is fixed when the slot is first looked at.
        members = self._draws.get(slot)
        if members is None:
            kept = await self._database.read(lambda c: store.read_beacon(c, slot))
            if kept is not None:
                self._keep(kept)
                return
            members = self._draws[slot] = [one.key for one in self._eligible(slot)]
            self._draws = {s: m for s, m in self._draws.items() if s >= slot - 2}
        reveals = [
            self._verifiers[key].reveals[slot]
            for key in members
            if slot in self._verifiers[key].reveals
        ]
        late = self._clock.now_ms() - slot * self._times.slot_ms >= self._times.gathering_ms
        if len(reveals) < len(members) and not late:
            return
        if not members or len(reveals) < quorum(len(members)):
            return
        for key in members:
            if slot not in self._verifiers[key].reveals:
                log.warning("slot %d: verifier %s revealed nothing", slot, key.hex()[:16])
        value = BeaconValue(
            coordinator_key=self._identity.public_key,
            slot=slot,
            opened_ms=slot * self._times.slot_ms,
            verifiers=members,
            reveals=reveals,
        )
        signed = sign_statement(self._identity, BEACON_PURPOSE, encode_statement(value))
        # Whoever of several coordinators writes first has made the beacon.
        self._keep(await self._database.write(lambda c: store.keep_beacon(c, slot, signed)))

    def _eligible(self, slot: int) -> list[Verifier]:
        period = period_of(slot)
        return [
            one
            for one in self.active()
            if any(
                check.commit.period == period
                and one.since.get(period, 0) + CHAIN_LEAD_SLOTS <= slot
                for check in one.checks
            )
        ]

    def _keep(self, signed: Signed) -> None:
        value = check_beacon(signed, self._identity.public_key)
        self._beacons[value.slot] = (signed, value)
        while len(self._beacons) > BEACONS_KEPT:
            self._beacons.popitem(last=False)

    def signed_beacon(self, slot: int) -> tuple[Signed, BeaconValue] | None:
        """Return a slot's beacon if it was made."""
        return self._beacons.get(slot)

    async def value(self, slot: int) -> bytes | None:
        """Return a slot's 32 bytes, or None while nobody knows them."""
        found = self._beacons.get(slot)
        return found[1].value if found is not None else None

    # --- liars ------------------------------------------------------------------------------

    async def accuse(self, evidence: Evidence) -> Accused | None:
        """Check evidence and keep it; exclude a verifier that it is against.

        Returns the accused where the evidence is new. Raises what ``check_evidence`` raises.
        """
        accused = check_evidence(evidence)
        encoded = encode_statement(evidence)
        now_ms = self._clock.now_ms()
        fresh = await self._database.write(
            lambda c: store.add_evidence(
                c, digest_of(encoded), accused.key, evidence.lie, encoded, now_ms
            )
        )
        verifier = self._verifiers.get(accused.key)
        if verifier is not None and verifier.row.status != EXCLUDED:
            verifier.row = VerifierRow(verifier.row.place, verifier.row.chains, EXCLUDED)
            await self._write(verifier)
            log.error(
                "verifier %s is excluded: it signed %s (slot %d)",
                accused.key.hex()[:16],
                evidence.lie,
                accused.slot,
            )
        return accused if fresh else None

    def read_evidence(self, body: bytes) -> Evidence:
        """Read evidence. Raises ``CORRUPT``."""
        return decode_statement(body, Evidence)
