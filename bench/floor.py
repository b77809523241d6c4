"""The floor: CPU time that the unavoidable work of one operation costs, summed from kernels.

Per byte of an object, PUT at k/n: receive it once from the client; MD5 and CRC64NVME; encrypt;
encode; Merkle tree and CRC32C of n/k bytes at the gateway and again at the nodes; send and receive
n/k bytes; copy n/k bytes into the page cache. GET: copy out of the page cache, send and receive
once from the nodes, decrypt, send to the client. Parsing, signatures of requests, SQL and Python
itself are not in it: they are what is to be kept small.
"""

from bench.kernels import Kernels


def _unit_name(object_bytes: int) -> str:
    if object_bytes >= 16 << 20:
        return "64k"
    if object_bytes >= 4 << 20:
        return "16k"
    if object_bytes >= 1 << 20:
        return "4k"
    return "1k" if object_bytes > 8 << 10 else "4k"


def mb_per_cpu_s(kernels: Kernels, method: str, object_bytes: int, k: int, n: int) -> float:
    """Return the MB per CPU-second that the kernels alone would allow."""
    unit = _unit_name(object_bytes)
    if method == "GET":
        per_mb = (
            1 / kernels.memcpy_mb
            + 2 / kernels.socket_send_mb
            + 1 / kernels.socket_receive_mb
            + 1 / getattr(kernels, f"decrypt_{unit}_mb")
        )
        return 1 / (per_mb + kernels.verify_us / object_bytes)
    spread = n / k
    wide = "10_20" if k >= 10 else "4_8"
    coding = 0.0 if k == 1 else 1 / getattr(kernels, f"encode_{wide}_mb")
    per_mb = (
        1 / kernels.socket_receive_mb
        + 1 / kernels.md5_mb
        + 1 / kernels.crc64nvme_mb
        + 1 / getattr(kernels, f"encrypt_{unit}_mb")
        + coding
        + 2 * spread / kernels.leaves_mb
        + 2 * spread / kernels.crc32c_mb
        + spread / kernels.socket_send_mb
        + spread / kernels.socket_receive_mb
        + spread / kernels.memcpy_mb
    )
    # One signature over all piece roots by the gateway, one over the order limits, and both are
    # checked by each node: costs of an operation, not of a byte (µs per byte is s per MB).
    signatures = (2 * kernels.sign_us + 2 * n * kernels.verify_us) / object_bytes
    return 1 / (per_mb + signatures)
