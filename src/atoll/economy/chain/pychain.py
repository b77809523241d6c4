"""An embedded chain in Python (eth-tester over py-evm), for machines that anvil does not run on.

It speaks the part of JSON-RPC that ``rpc`` asks for. It is slow (some 20 transactions a second) and
keeps nothing: after a restart the outbox sends again what it had, to the same hashes.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from atoll.core.errors import AtollError, Kind
from atoll.economy.chain.model import EMBEDDED_CHAIN_ID
from atoll.economy.chain.signer import TRANSACTION_TYPE

REQUEST_BYTES_MAX: Final = 1 << 20
FUNDS_PARTS: Final = 10
"""No account is given more than such a part of what the tap has."""
_REVERTED: Final = 3
_REFUSED: Final = -32000
_UNKNOWN: Final = -32601
_INVALID: Final = -32600
METHODS: Final = frozenset(
    {
        "eth_blockNumber",
        "eth_call",
        "eth_estimateGas",
        "eth_getBalance",
        "eth_getBlockByNumber",
        "eth_getCode",
        "eth_getLogs",
        "eth_getTransactionCount",
        "eth_getTransactionReceipt",
        "eth_sendRawTransaction",
    }
)
"""What is passed on; ``eth_chainId``, ``anvil_setBalance`` and ``evm_mine`` are answered here."""


class PythonChain:
    """The chain in memory. ``answer`` blocks and must not run twice at once."""

    def __init__(self, now_s: Callable[[], int]) -> None:
        """``now_s``: the time that blocks get. Raises ``CONFIG`` without the libraries."""
        try:
            from eth_tester import EthereumTester, PyEVMBackend
            from web3 import EthereumTesterProvider, Web3
        except ImportError as cause:
            raise AtollError(
                Kind.CONFIG,
                "run chain",
                f"the chain in Python is not installed: {cause}",
                hint="pip install 'atoll[chain,pychain]'",
            ) from cause
        backend = PyEVMBackend()
        type(backend.chain).chain_id = EMBEDDED_CHAIN_ID
        self._now_s = now_s
        self._tester = EthereumTester(backend)
        provider = EthereumTesterProvider(self._tester)
        web3 = Web3(provider)
        # ``make_request`` would take hexadecimal parameters for texts.
        self._ask = provider.request_func(web3, web3.middleware_onion)

    def answer(self, body: bytes) -> bytes:
        """Answer one JSON-RPC request; what is wrong with it is in the answer."""
        number: object = None
        try:
            request = msgspec.json.decode(body, type=dict[str, Any])
            number = request.get("id")
            parameters = request.get("params", [])
            if not isinstance(parameters, list):
                raise TypeError("params is no list")
            found = self._call(str(request.get("method")), parameters)
        except (msgspec.MsgspecError, TypeError) as error:
            found = _error(_INVALID, str(error))
        return msgspec.json.encode({"jsonrpc": "2.0", "id": number, **found})

    def _call(self, method: str, parameters: list[Any]) -> dict[str, Any]:
        if method == "eth_chainId":
            return {"result": hex(EMBEDDED_CHAIN_ID)}
        if method == "eth_maxPriorityFeePerGas":
            return {"result": hex(10**9)}
        if method == "evm_mine":
            self._keep_time()
            self._tester.mine_block()
            return {"result": "0x0"}
        if method == "anvil_setBalance" and len(parameters) == 2:
            return self._set_balance(str(parameters[0]), int(str(parameters[1]), 16))
        if method not in METHODS:
            return _error(_UNKNOWN, f"there is no {method} here")
        if method == "eth_sendRawTransaction":
            if (chain_id := _chain_of(parameters)) != EMBEDDED_CHAIN_ID:
                return _error(_REFUSED, f"a transaction of chain {chain_id}, not of this one")
            self._keep_time()
        if method == "eth_estimateGas":
            # eth-tester has no pending state to estimate in, and does not say why it cannot; a
            # call does, in a block that has today's time.
            latest = int(self._tester.get_block_by_number("latest")["timestamp"])
            if self._now_s() > latest:
                self._keep_time()
                self._tester.mine_block()
            called = self._pass_on("eth_call", [*parameters[:1], "latest"])
            if "error" in called:
                return called
            parameters = [*parameters[:1], "latest"]
        return self._pass_on(method, parameters)

    def _pass_on(self, method: str, parameters: list[Any]) -> dict[str, Any]:
        try:
            found = self._ask(method, parameters)
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller has to hear it
            return _refusal(error)
        if found.get("error") is not None:
            return {"error": _plain(found["error"])}
        return {"result": _plain(found.get("result"))}

    def _keep_time(self) -> None:
        """Let the next block have today's time; blocks of eth-tester follow each other at once."""
        pending = int(self._tester.get_block_by_number("pending")["timestamp"])
        if self._now_s() > pending:
            self._tester.time_travel(self._now_s())

    def _set_balance(self, address: str, wanted_wei: int) -> dict[str, Any]:
        """Give an account more of the coin, from an account that has nearly all."""
        tap = self._tester.get_accounts()[0]
        has_wei = int(self._tester.get_balance(address))
        most_wei = int(self._tester.get_balance(tap)) // FUNDS_PARTS
        if has_wei < wanted_wei:
            self._tester.send_transaction(
                {
                    "from": tap,
                    "to": address,
                    "value": min(wanted_wei - has_wei, most_wei),
                    "gas": 21_000,
                    "max_fee_per_gas": 10**12,
                    "max_priority_fee_per_gas": 1,
                }
            )
        return {"result": None}


def _chain_of(parameters: list[Any]) -> int:
    """Return the chain that a transaction is signed for (EIP-1559); -1 for what is none."""
    import rlp

    try:
        raw = bytes.fromhex(str(parameters[0]).removeprefix("0x"))
        return int.from_bytes(rlp.decode(raw[1:])[0], "big") if raw[0] == TRANSACTION_TYPE else -1
    except (ValueError, IndexError, TypeError, rlp.exceptions.RLPException):
        return -1


def _refusal(error: Exception) -> dict[str, Any]:
    """Return the error that a real server would answer."""
    name = type(error).__name__
    data = getattr(error, "data", None)
    if name in ("TransactionFailed", "ContractLogicError", "ContractCustomError"):
        answer = _error(_REVERTED, f"execution reverted: {str(error)[:200]}")
        if isinstance(data, str) and data.startswith("0x"):
            answer["error"]["data"] = data
        return answer
    if name in ("BlockNotFound", "TransactionNotFound"):
        return {"result": None}
    return _error(_REFUSED, f"{name}: {str(error)[:200]}")


def _error(code: int, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}


def _plain(value: Any, name: str = "") -> Any:
    """Return what JSON-RPC would say: hexadecimal numbers and bytes, plain lists and objects."""
    if isinstance(value, Mapping):
        return {key: _plain(entry, str(key)) for key, entry in value.items()}
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return hex(value)
    if isinstance(value, list | tuple):
        return [_plain(entry, name) for entry in value]
    return value
