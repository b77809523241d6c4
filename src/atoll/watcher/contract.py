"""What a watcher reads from the distributor, and what it may send there."""

from collections.abc import Sequence
from typing import Any, Final

from atoll.core.errors import AtollError, Kind
from atoll.core.ports import Chain, ChainBlock, ChainCall, ChainLog, Clock
from atoll.economy.artifacts.load import load
from atoll.economy.chain import abi
from atoll.economy.chain.model import ChainEvent
from atoll.economy.settlement.model import TakeParameters
from atoll.economy.settlement.statement import Court, RootStated, root_statement
from atoll.economy.settlement.sumtree import sums_of
from atoll.watcher.model import Demand, Proposal, Proposed, Snapshot, Strike, Windows

MS_PER_S: Final = 1_000
_LOW_64: Final = (1 << 64) - 1
_LOW_32: Final = (1 << 32) - 1
TOLD: Final = ("Proposed", "Demanded", "Answered", "Rejected", "Finalised")
"""Events that matter to a watcher; claims, of which there are many, do not."""
Told = Proposed | Strike | tuple[str, int, int, bytes]


def as_bytes(address: str) -> bytes:
    """Return an address of an answer as bytes."""
    return bytes.fromhex(address.removeprefix("0x"))


class Distributor:
    """The contract at one address, read through any chain."""

    def __init__(self, address: bytes, clock: Clock, *, embedded: bool) -> None:
        """Read nothing yet. On an embedded chain no block tells the time while nobody trades."""
        self.address = address
        self._clock = clock
        self._embedded = embedded
        self.artifact = load("EpochDistributor")
        self._parameters_artifact = load("Parameters")
        self._stable_artifact = load("TestStable")
        self._court_artifact = load("SlashCourt")
        self._parameters = b""
        self.court = b""
        """Who knows the verifiers; empty before ``open``."""
        self.stable = b""
        """The stablecoin; empty before ``open``."""
        self._head, self._head_seen = b"", 0.0
        self._topics = {abi.event_topic(self.artifact, name) for name in TOLD}

    async def open(self, chain: Chain) -> None:
        """Make sure that it is the contract that this version knows. Raises ``CONFIG``."""
        code = await chain.code(self.address)
        if not self.artifact.is_code_of(code):
            what = "another contract" if code else "no contract"
            raise AtollError(
                Kind.CONFIG,
                "watch chain",
                f"{what} is at the address of the distributor",
                hint="name the address book of the cloud that is watched: watcher.contracts",
                about="0x" + self.address.hex(),
            )
        self._parameters = as_bytes(await self._ask(chain, "PARAMETERS"))
        self.stable = as_bytes(await self._ask(chain, "STABLE"))
        self.court = as_bytes(await self._ask(chain, "COURT"))

    async def _ask(self, chain: Chain, name: str, *given: Any, block: int | None = None) -> Any:
        call = ChainCall(self.address, abi.call_data(self.artifact, name, *given))
        return abi.read_answer(self.artifact, name, await chain.call(call, block))

    async def snapshot(self, chain: Chain) -> Snapshot:
        """Return what stands there after the newest block."""
        head = await chain.block()
        if head is None:
            raise AtollError(Kind.CORRUPT, "watch chain", "the chain has no newest block")
        at = head.number
        attempts = int(await self._ask(chain, "attempts", block=at))
        raw = await self._ask(chain, "proposal", block=at)
        last_epoch = int(await self._ask(chain, "last_epoch", block=at))
        last_root = bytes(await self._ask(chain, "final_root", last_epoch, block=at))
        now_s = self._now_s(head)
        return Snapshot(
            block=at,
            time_s=now_s,
            attempts=attempts,
            proposal=_proposal(attempts, raw),
            last_epoch=last_epoch,
            last_root=last_root,
        )

    def _now_s(self, head: ChainBlock) -> int:
        """Return the chain's time now: an embedded one makes a block only when it is told to.

        Its clock may differ from this machine's, but runs as fast: so what passed since its newest
        block was first seen passed there, too.
        """
        if not self._embedded:
            return head.time_s
        now = self._clock.monotonic()
        if head.hash != self._head:
            self._head, self._head_seen = head.hash, now
        return max(self._clock.now_ms() // MS_PER_S, head.time_s + int(now - self._head_seen))

    async def windows(self, chain: Chain) -> Windows:
        """Return the numbers that challenges go by, as they are now."""
        names = ("challenge_window_s", "answer_window_s", "demand_fee_micro")
        return Windows(*[int(await self._parameter(chain, name)) for name in names])

    async def take_parameters(self, chain: Chain, block: int | None) -> TakeParameters:
        """Return the numbers that govern epochs, as they were at a block; None: as they are."""
        return TakeParameters(
            take_bps=int(await self._parameter(chain, "take_bps", block)),
            shares_bps=tuple(await self._parameter(chain, "split_bps", block)),
            top_up_bps=int(await self._parameter(chain, "top_up_bps", block)),
            discount_bps_max=int(await self._parameter(chain, "discount_bps_max", block)),
            reporter_bps_max=int(await self._parameter(chain, "reporter_bps_max", block)),
        )

    async def _parameter(self, chain: Chain, name: str, block: int | None = None) -> Any:
        call = ChainCall(self._parameters, abi.call_data(self._parameters_artifact, name))
        answer = await chain.call(call, block)
        return abi.read_answer(self._parameters_artifact, name, answer)

    async def demand(
        self, chain: Chain, attempt: int, chunk: int, answered_by: bytes = b""
    ) -> Demand:
        """Return how a demand stands."""
        demander, deadline_s, fee = await self._ask(chain, "demands", attempt, chunk)
        return Demand(attempt, chunk, as_bytes(demander), int(deadline_s), int(fee), answered_by)

    async def root_of(self, chain: Chain, epoch: int) -> bytes:
        """Return the final root of an epoch; zeros for none."""
        return bytes(await self._ask(chain, "final_root", epoch))

    # --- money ---------------------------------------------------------------------------------

    async def balance_micro(self, chain: Chain, account: bytes) -> int:
        """Return what an account has of the stablecoin."""
        return int(await self._ask_stable(chain, "balanceOf", account))

    async def allowance_micro(self, chain: Chain, account: bytes) -> int:
        """Return what the distributor may take of an account."""
        return int(await self._ask_stable(chain, "allowance", account, self.address))

    async def _ask_stable(self, chain: Chain, name: str, *given: Any) -> Any:
        data = abi.call_data(self._stable_artifact, name, *given)
        answer = await chain.call(ChainCall(self.stable, data))
        return abi.read_answer(self._stable_artifact, name, answer)

    def approval(self, amount_micro: int) -> bytes:
        """Return the call that lets the distributor take fees."""
        return abi.call_data(self._stable_artifact, "approve", self.address, amount_micro)

    def tap(self, receiver: bytes, amount_micro: int) -> bytes:
        """Return the call that draws test euros."""
        return abi.call_data(self._stable_artifact, "faucet", receiver, amount_micro)

    def call(self, name: str, given: Sequence[Any]) -> bytes:
        """Return the data of a call of the distributor."""
        return abi.call_data(self.artifact, name, *given)

    async def accusations(self, chain: Chain, one: Proposed) -> list[bytes]:
        """Return the calls of the court that show who signed a proposal.

        None where the proposal was passed on by another contract.
        """
        call = await chain.sent(one.transaction)
        if call is None or call.to != self.address:
            return []
        given = abi.read_call(self.artifact, "propose", call.data)
        if given is None:
            return []
        stated = RootStated(one.epoch, one.attempt, one.root, one.content)
        # The chain's number is in what is signed, not in what is called.
        said = root_statement(Court(0, self.court, self.address), stated)
        words = (said.kind, said.subject, said.epoch, said.stated)
        return [
            abi.call_data(self._court_artifact, "accuse_signed_fraud", words, signature)
            for signature in given[-1]
        ]

    # --- what it said --------------------------------------------------------------------------

    def told(self, entry: ChainLog) -> Told | None:
        """Return what a log says, as far as it matters to a watcher."""
        if not entry.topics or entry.topics[0] not in self._topics:
            return None
        event = ChainEvent(
            0, entry.address, entry.topics, entry.data, entry.transaction, 0,
            entry.block_number, entry.block_hash,
        )  # fmt: skip
        read = abi.read_event(self.artifact, event)
        if read is None:
            return None
        name, said = read
        if name == "Proposed":
            return Proposed(
                said["attempt"], said["epoch"], bytes(said["root"]), bytes(said["content"]),
                said["count"], entry.transaction, entry.block_number,
            )  # fmt: skip
        if name == "Rejected":
            return Strike(
                said["attempt"], said["epoch"], said["fault"], as_bytes(said["challenger"]),
                said["reward_micro"],
            )  # fmt: skip
        if name == "Demanded":
            return name, said["attempt"], said["chunk"], as_bytes(said["demander"])
        if name == "Answered":
            return name, said["attempt"], said["chunk"], entry.transaction
        return None

    def read_answer(self, call: ChainCall) -> tuple[int, list[tuple[str, int]], list[bytes]] | None:
        """Return chunk, leaves and path of a transaction that answered; None for another one.

        An answer that another contract passed on is found in what was given to that one, as long
        as it stands there in one piece.
        """
        probe = abi.call_data(self.artifact, "answer", 0, [], [])[: abi.SELECTOR_BYTES]
        start = 0 if call.to == self.address else call.data.find(probe)
        if start < 0:
            return None
        try:
            found = abi.read_call(self.artifact, "answer", call.data[start:])
        except AtollError:
            return None
        if found is None:
            return None
        chunk, leaves, path = found
        return int(chunk), [(str(a), int(w)) for a, w in leaves], [bytes(one) for one in path]


def _proposal(attempt: int, raw: tuple[bytes, bytes, int, int, int]) -> Proposal | None:
    """Read the distributor's words (``EpochDistributor.vy``, struct ``Proposal``)."""
    root, content, sums, terms, state = raw
    if not state:
        return None
    released, held = sums_of(sums)
    return Proposal(
        attempt=attempt,
        epoch=(terms >> 64) & _LOW_64,
        root=bytes(root),
        content=bytes(content),
        released_micro=released,
        held_micro=held,
        count=terms & _LOW_64,
        bond_micro=terms >> 128,
        proposer=(state >> 96).to_bytes(20, "big"),
        ends_s=(state >> 32) & _LOW_64,
        demands_open=state & _LOW_32,
    )
