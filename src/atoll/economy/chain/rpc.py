"""The ``Chain`` port over JSON-RPC: web3.py carries, ``decode`` reads, nothing is believed.

One server is asked at a time. What it says about transactions is checked as far as can be: the
hash of what was sent is computed here, receipts and logs must be those that were asked for, the
chain's id is compared before anything is signed.
"""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import msgspec
from typing_extensions import override

from atoll.core.errors import AtollError, Kind
from atoll.core.ports import (
    ChainBlock,
    ChainCall,
    ChainFees,
    ChainLog,
    ChainReceipt,
    Compute,
)
from atoll.economy.chain import decode
from atoll.economy.keccak import keccak_256

if TYPE_CHECKING:
    from web3.providers.rpc import AsyncHTTPProvider

TIMEOUT_S: Final = 15.0
ANSWER_BYTES_MAX: Final = 32 << 20
CONNECTIONS_MAX: Final = 4
TIP_WEI: Final = 1_000_000_000
"""The tip where a server does not suggest one: 1 gwei."""
MESSAGE_CHARACTERS_MAX: Final = 200
_REVERTED: Final = 3
"""JSON-RPC code of a call that the contract reverted (execution-apis)."""
_KINDS: Final = {
    -32700: Kind.BAD_REQUEST,
    -32600: Kind.BAD_REQUEST,
    -32601: Kind.NOT_IMPLEMENTED,
    -32602: Kind.BAD_REQUEST,
    -32005: Kind.OVERLOADED,
}
_HTTP_KINDS: Final = {401: Kind.UNAUTHENTICATED, 403: Kind.FORBIDDEN, 429: Kind.OVERLOADED}
# A contract that halts without having reverted is told in words only, each server's own (geth,
# anvil, Erigon); so is that a transaction is known already.
_HALT_WORDS: Final = ("revert", "evm error", "invalid opcode", "stack underflow", "out of gas")
_KNOWN_WORDS: Final = ("already known", "already imported", "known transaction", "alreadyknown")


class _BoundedResponse(aiohttp.ClientResponse):
    """An answer of a named size at most; web3.py reads all that comes."""

    @override
    async def read(self) -> bytes:
        parts, total = [], 0
        async for part in self.content.iter_chunked(64 << 10):
            total += len(part)
            if total > ANSWER_BYTES_MAX:
                self.close()
                raise decode.wrong(f"more than {ANSWER_BYTES_MAX >> 20} MiB")
            parts.append(part)
        self.release()
        return b"".join(parts)


def _provider(url: str) -> "AsyncHTTPProvider":
    """Import web3.py, which takes a second, and make its way to a server. Raises ``CONFIG``."""
    try:
        from web3.providers.rpc import AsyncHTTPProvider
    except ImportError as cause:
        raise AtollError(
            Kind.CONFIG,
            "open chain",
            f"the libraries of the chain are not installed: {cause}",
            hint="pip install 'atoll[chain]'",
        ) from cause

    class StrictProvider(AsyncHTTPProvider):
        """As web3.py's, but for reading: nesting without end must not end this process."""

        @staticmethod
        @override
        def decode_rpc_response(raw_response: bytes) -> Any:
            return msgspec.json.decode(raw_response, type=dict[str, Any])

    return StrictProvider(
        url,
        request_kwargs={"timeout": aiohttp.ClientTimeout(total=TIMEOUT_S)},
        exception_retry_configuration=None,
    )


class RpcChain:
    """``core.ports.Chain`` at one URL. Use ``open``; close it at the end."""

    def __init__(self, provider: "AsyncHTTPProvider", session: aiohttp.ClientSession) -> None:
        self._provider = provider
        self._session = session

    @classmethod
    async def open(cls, url: str, compute: Compute) -> "RpcChain":
        """Get ready to ask a server; nothing is asked yet. Raises ``CONFIG``."""
        provider = await compute.run(_provider, url)
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX),
            response_class=_BoundedResponse,
        )
        await provider.cache_async_session(session)
        return cls(provider, session)

    async def close(self) -> None:
        """Release the connections."""
        await self._session.close()

    async def ask(self, method: str, *parameters: Any) -> Any:
        """Return what a method answers, unread. Raises as ``Chain`` says."""
        try:
            answer = await self._provider.make_request(method, list(parameters))
        except TimeoutError as cause:
            raise AtollError(
                Kind.TIMEOUT, "ask chain", f"no answer within {TIMEOUT_S:.0f} s"
            ) from cause
        except aiohttp.ClientResponseError as cause:
            kind = _HTTP_KINDS.get(cause.status, Kind.UNREACHABLE)
            raise AtollError(
                kind, "ask chain", f"the server answers HTTP {cause.status}"
            ) from cause
        except (aiohttp.ClientError, OSError) as cause:
            raise AtollError(
                Kind.UNREACHABLE, "ask chain", "the chain's server is not there"
            ) from cause
        except (ValueError, TypeError, RecursionError) as cause:
            raise decode.wrong("no JSON") from cause
        found = decode.fields(answer, "JSON-RPC answer")
        if found.get("error") is not None:
            raise _refusal(found["error"])
        if "result" not in found:
            raise decode.wrong("neither a result nor an error")
        return found["result"]

    async def chain_id(self) -> int:
        """Return the chain's number (EIP-155)."""
        return decode.quantity(await self.ask("eth_chainId"), 63)

    async def block(self, number: int | None = None) -> ChainBlock | None:
        """Return a block, the newest one for None; None where the chain is not that long."""
        found = await self.ask("eth_getBlockByNumber", _at(number), False)
        if found is None:
            return None
        block = decode.block(found)
        if number is not None and block.number != number:
            raise decode.wrong("another block")
        return block

    async def call(self, call: ChainCall, number: int | None = None) -> bytes:
        """Return what a contract answers. Raises ``PRECONDITION_FAILED`` where it reverts."""
        return decode.data(await self.ask("eth_call", _call(call), _at(number)))

    async def estimate_gas(self, call: ChainCall) -> int:
        """Return the gas that a transaction would need in the next block."""
        found = await self.ask("eth_estimateGas", _call(call), "pending")
        return decode.quantity(found, 63)

    async def send_raw(self, raw: bytes) -> bytes:
        """Hand in a signed transaction; return its hash. Raises ``CONFLICT`` if it is not taken."""
        wanted = keccak_256(raw)
        try:
            found = await self.ask("eth_sendRawTransaction", decode.hex_data(raw))
        except AtollError as error:
            if error.kind in (Kind.UNREACHABLE, Kind.TIMEOUT, Kind.CORRUPT, Kind.OVERLOADED):
                raise
            if any(word in error.message.lower() for word in _KNOWN_WORDS):
                return wanted
            raise AtollError(Kind.CONFLICT, "send transaction", error.message) from error
        if decode.data(found, decode.WORD_BYTES) != wanted:
            raise decode.wrong("another hash than that of the transaction")
        return wanted

    async def receipt(self, transaction: bytes) -> ChainReceipt | None:
        """Return the receipt; None while the transaction is in no block."""
        found = await self.ask("eth_getTransactionReceipt", decode.hex_data(transaction))
        return decode.receipt(found, transaction)

    async def sent(self, transaction: bytes) -> ChainCall | None:
        """Return what a transaction in a block asked, and of whom; None while it is in none."""
        found = await self.ask("eth_getTransactionByHash", decode.hex_data(transaction))
        return decode.sent(found, transaction)

    async def logs(self, first: int, last: int, addresses: Sequence[bytes]) -> list[ChainLog]:
        """Return what these contracts said in a range of blocks. Raises ``TOO_LARGE``."""
        if not addresses or last < first:
            return []
        wanted = {
            "fromBlock": decode.hex_quantity(first),
            "toBlock": decode.hex_quantity(last),
            "address": [decode.hex_data(address) for address in addresses],
        }
        try:
            found = decode.logs(await self.ask("eth_getLogs", wanted))
        except AtollError as error:
            if error.kind in (Kind.UNREACHABLE, Kind.TIMEOUT, Kind.CORRUPT) or first == last:
                raise
            # Every server has limits of its own, and words of its own for them.
            raise AtollError(Kind.TOO_LARGE, "ask chain", error.message) from error
        decode.check_logs(found, first, last, addresses)
        return found

    async def nonce(self, address: bytes) -> int:
        """Return how many transactions of an account stand in blocks."""
        found = await self.ask("eth_getTransactionCount", decode.hex_data(address), "latest")
        return decode.quantity(found, 63)

    async def balance(self, address: bytes) -> int:
        """Return what an account has of the chain's own coin, in wei."""
        return decode.quantity(await self.ask("eth_getBalance", decode.hex_data(address), "latest"))

    async def code(self, address: bytes) -> bytes:
        """Return the contract's code; empty where there is none."""
        return decode.data(await self.ask("eth_getCode", decode.hex_data(address), "latest"))

    async def fees(self) -> ChainFees:
        """Return what gas costs now: the newest block's base fee, the suggested tip."""
        newest = decode.fields(await self.ask("eth_getBlockByNumber", "latest", False), "block")
        base_wei = decode.quantity(newest.get("baseFeePerGas", "0x0"), 128)
        try:
            tip_wei = decode.quantity(await self.ask("eth_maxPriorityFeePerGas"), 128)
        except AtollError as error:
            if error.kind is not Kind.NOT_IMPLEMENTED:
                raise
            tip_wei = TIP_WEI
        return ChainFees(base_wei, tip_wei)


def _at(number: int | None) -> str:
    return "latest" if number is None else decode.hex_quantity(number)


def _call(call: ChainCall) -> dict[str, str]:
    words = {"data": decode.hex_data(call.data), "value": decode.hex_quantity(call.value_wei)}
    if call.to:
        words["to"] = decode.hex_data(call.to)
    if call.sender:
        words["from"] = decode.hex_data(call.sender)
    return words


def _refusal(error: Any) -> AtollError:
    """Return the error of our kinds that a JSON-RPC error amounts to."""
    found = error if isinstance(error, dict) else {"message": json.dumps(error)}
    code, message = found.get("code"), str(found.get("message", ""))[:MESSAGE_CHARACTERS_MAX]
    answer = found.get("data")
    if isinstance(answer, dict):  # some servers nest it
        answer = answer.get("data")
    if code == _REVERTED or any(word in message.lower() for word in _HALT_WORDS):
        try:
            reason = decode.revert_reason(decode.data(answer)) if answer else message
        except AtollError:
            reason = message
        return AtollError(Kind.PRECONDITION_FAILED, "call contract", f"it refuses: {reason}")
    kind = _KINDS.get(code, Kind.INTERNAL) if isinstance(code, int) else Kind.INTERNAL
    return AtollError(kind, "ask chain", f"the server refuses: {message or 'no reason given'}")
