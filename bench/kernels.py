"""The work that nobody can leave out, timed on this machine: hashes, ciphers, coding, copying.

``python -m bench.kernels`` prints the table; ``measure()`` returns it typed, for the floor that a
benchmark of the whole product is held against. Rates are MB (10^6 bytes) per CPU-second of the
thread that does the work, kernel time included; costs of small things are CPU microseconds.
All inputs are warm: touched before, larger than the first-level cache, smaller than the last.
"""

import argparse
import hashlib
import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from awscrt.checksums import crc32c, crc64nvme

from atoll.core import crypto, erasure, merkle
from atoll.core.identity import Identity, signature_holds

BLOCK_BYTES = 1 << 20
SOCKET_BLOCK_BYTES = 256 << 10
SOCKET_BLOCKS_MIN = 16
SECONDS_EACH = 0.1
ROUNDS = 3
"""The best of so many rounds counts: what others do on this machine only ever slows us."""


@dataclass(frozen=True, slots=True)
class Kernels:
    """What this machine does per CPU-second (``*_mb``, in MB) or per call (``*_us``, in µs)."""

    memcpy_mb: float
    md5_mb: float
    sha256_mb: float
    """One long message."""
    leaves_mb: float
    """The Merkle tree of a piece: 4 KiB leaves and the nodes above."""
    leaves_4k_us: float
    """The root of a piece of one leaf."""
    crc32c_mb: float
    crc64nvme_mb: float
    encrypt_1k_mb: float
    encrypt_4k_mb: float
    encrypt_16k_mb: float
    encrypt_64k_mb: float
    decrypt_1k_mb: float
    decrypt_4k_mb: float
    decrypt_16k_mb: float
    decrypt_64k_mb: float
    encode_4_8_mb: float
    """MB of object data whose parity is made, in units of 64 KiB."""
    encode_10_20_mb: float
    rebuild_4_8_mb: float
    """MB of object data read again with all data columns lost."""
    rebuild_10_20_mb: float
    sign_us: float
    verify_us: float
    socket_send_mb: float
    socket_receive_mb: float


def _cost_s(work: Callable[[], object], seconds: float) -> float:
    """Return the CPU seconds of one call: the best of the rounds."""
    work()
    best = float("inf")
    for _ in range(ROUNDS):
        calls, started = 0, time.thread_time()
        until = started + seconds / ROUNDS
        while (now := time.thread_time()) < until or not calls:
            work()
            calls += 1
        best = min(best, (now - started) / calls)
    return best


def _cipher_mb(unit_bytes: int, seconds: float) -> tuple[float, float]:
    cipher = crypto.SegmentCipher(bytes(32), bytes(16))
    count = max(1, BLOCK_BYTES // unit_bytes)
    plain = [memoryview(bytearray(unit_bytes - 16)) for _ in range(count)]
    units = [memoryview(bytearray(unit_bytes)) for _ in range(count)]

    def encrypt() -> None:
        for number in range(count):
            cipher.encrypt_chunk(number, False, plain[number], units[number])

    def decrypt() -> None:
        for number in range(count):
            cipher.decrypt_chunk(number, False, units[number], plain[number])

    megabytes = count * (unit_bytes - 16) / 1e6
    return megabytes / _cost_s(encrypt, seconds), megabytes / _cost_s(decrypt, seconds)


def _coding_mb(k: int, n: int, seconds: float) -> tuple[float, float]:
    length = 64 << 10
    code = erasure.codec(k, n)
    columns = [
        memoryview(bytearray(hashlib.shake_128(bytes((i,))).digest(length))) for i in range(k)
    ]
    parity = [memoryview(bytearray(length)) for _ in range(n - k)]
    have, want = range(n - k, n), range(k)
    megabytes = k * length / 1e6
    encode_s = _cost_s(lambda: code.encode(columns, parity, length), seconds)
    rebuild_s = _cost_s(lambda: code.rebuild(have, parity, want, columns, length), seconds)
    return megabytes / encode_s, megabytes / rebuild_s


def _socket_mb(seconds: float) -> tuple[float, float]:
    """Loopback TCP: CPU of the sending and of the receiving thread, each apart.

    The kernel bills work for either end to whichever thread is running, so the two vary against
    each other; the round whose sum is least counts.
    """
    costs = [_socket_costs_s(seconds) for _ in range(ROUNDS)]
    sent_s, received_s = min(costs, key=sum)
    return 1 / sent_s, 1 / received_s


def _socket_costs_s(seconds: float) -> tuple[float, float]:
    """Return the CPU seconds per MB of the sender and of the receiver in one round."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        sender = socket.create_connection(server.getsockname())
        receiver, _ = server.accept()
    sent_s = 0.0

    def send() -> None:
        nonlocal sent_s
        block = memoryview(bytearray(SOCKET_BLOCK_BYTES))
        blocks, started, deadline = 0, time.thread_time(), time.monotonic() + seconds
        while blocks < SOCKET_BLOCKS_MIN or time.monotonic() < deadline:
            sender.sendall(block)
            blocks += 1
        sent_s = time.thread_time() - started
        sender.close()

    thread = threading.Thread(target=send)
    thread.start()
    buffer = bytearray(SOCKET_BLOCK_BYTES)
    total, started = 0, time.thread_time()
    while received := receiver.recv_into(buffer):
        total += received
    received_s = time.thread_time() - started
    thread.join()
    receiver.close()
    return max(sent_s, 1e-9) / total * 1e6, max(received_s, 1e-9) / total * 1e6


def measure(seconds_each: float = SECONDS_EACH) -> Kernels:
    """Time every kernel for about ``seconds_each`` and return the table."""
    block = memoryview(bytearray(hashlib.shake_128(b"block").digest(BLOCK_BYTES)))
    other = memoryview(bytearray(BLOCK_BYTES))
    identity = Identity(bytes(32))
    signature = identity.sign(b"bench/1", bytes(100))

    def rate(work: Callable[[], object]) -> float:
        return BLOCK_BYTES / 1e6 / _cost_s(work, seconds_each)

    def cost_us(work: Callable[[], object]) -> float:
        return _cost_s(work, seconds_each) * 1e6

    def copy() -> None:
        other[:] = block

    ciphers = {unit: _cipher_mb(unit << 10, seconds_each) for unit in (1, 4, 16, 64)}
    narrow, wide = _coding_mb(4, 8, seconds_each), _coding_mb(10, 20, seconds_each)
    sent, received = _socket_mb(seconds_each)
    return Kernels(
        memcpy_mb=rate(copy),
        md5_mb=rate(lambda: hashlib.md5(block, usedforsecurity=False)),
        sha256_mb=rate(lambda: hashlib.sha256(block)),
        leaves_mb=rate(lambda: merkle.piece_root(block)),
        leaves_4k_us=cost_us(lambda: merkle.piece_root(block[:4096])),
        crc32c_mb=rate(lambda: crc32c(block)),
        crc64nvme_mb=rate(lambda: crc64nvme(block)),
        encrypt_1k_mb=ciphers[1][0],
        encrypt_4k_mb=ciphers[4][0],
        encrypt_16k_mb=ciphers[16][0],
        encrypt_64k_mb=ciphers[64][0],
        decrypt_1k_mb=ciphers[1][1],
        decrypt_4k_mb=ciphers[4][1],
        decrypt_16k_mb=ciphers[16][1],
        decrypt_64k_mb=ciphers[64][1],
        encode_4_8_mb=narrow[0],
        encode_10_20_mb=wide[0],
        rebuild_4_8_mb=narrow[1],
        rebuild_10_20_mb=wide[1],
        sign_us=cost_us(lambda: identity.sign(b"bench/1", bytes(100))),
        verify_us=cost_us(
            lambda: signature_holds(identity.public_key, b"bench/1", bytes(100), signature)
        ),
        socket_send_mb=sent,
        socket_receive_mb=received,
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seconds-each", type=float, default=SECONDS_EACH)
    options = parser.parse_args()
    kernels = asdict(measure(options.seconds_each))
    if options.json:
        print(json.dumps({"backend": erasure.backend()} | kernels))
        return
    print(f"erasure coding by {erasure.backend()}")
    for name, value in kernels.items():
        kernel, unit = name.rsplit("_", 1)
        print(f"{kernel:18} {value:10,.1f} {'MB per CPU-s' if unit == 'mb' else 'CPU-µs'}")


if __name__ == "__main__":
    main()
