"""Erasure coding: Cauchy Reed-Solomon over GF(2^8), systematic, any k of n rebuild the rest.

The field is GF(2^8) with polynomial 0x11D. Row ``i < k`` of the generator is the unit vector; row
``i >= k`` holds ``1 / (i xor j)`` in column ``j``: a Cauchy matrix, so that every choice of k rows
is invertible (ISA-L calls it ``gf_gen_cauchy1_matrix``; its Vandermonde matrix is not MDS and must
never be used).

Three backends give identical bytes: the ISA-L that the pyeclib wheel bundles, the system's ISA-L,
and a slow fallback in Python. ISA-L is called through ctypes: no copies, the GIL released.

Normative text: ``docs/spec/segment.md``. Vectors: ``tests/golden/vectors/erasure.json``.
"""

import ctypes
import ctypes.util
import importlib.util
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Protocol

from typing_extensions import Buffer

POLYNOMIAL = 0x11D
SHARDS_MAX = 255
LENGTH_BYTES_MAX = (1 << 31) - 1
"""ISA-L counts in a C int."""
REBUILD_TABLES_MAX = 256
"""Rebuild tables kept per process: one per pattern of (scheme, have, want) seen lately."""

# --- the field -----------------------------------------------------------------------------------


def _field() -> tuple[list[int], list[int]]:
    powers = [0] * 510
    logs = [0] * 256
    value = 1
    for exponent in range(255):
        powers[exponent] = powers[exponent + 255] = value
        logs[value] = exponent
        value <<= 1
        if value & 0x100:
            value ^= POLYNOMIAL
    return powers, logs


_POWERS, _LOGS = _field()


def multiply(left: int, right: int) -> int:
    """Return the product of two field elements (0..255)."""
    return _POWERS[_LOGS[left] + _LOGS[right]] if left and right else 0


def inverse(value: int) -> int:
    """Return 1 / value; ``value`` is 1..255."""
    if not 0 < value < 256:
        raise ZeroDivisionError("0 has no inverse in GF(2^8)")
    return _POWERS[255 - _LOGS[value]]


@cache
def _times(factor: int) -> bytes:
    """Return the table ``value -> factor * value``, for ``bytes.translate``."""
    return bytes(multiply(factor, value) for value in range(256))


def _xor(left: bytes, right: bytes) -> bytes:
    width = len(left)
    return (int.from_bytes(left, "little") ^ int.from_bytes(right, "little")).to_bytes(
        width, "little"
    )


Matrix = tuple[bytes, ...]
"""Rows of field elements."""


def generator_matrix(k: int, n: int) -> Matrix:
    """Return the n rows of k coefficients that make n shards of k columns."""
    unit = tuple(bytes(int(i == j) for j in range(k)) for i in range(k))
    return unit + tuple(bytes(inverse(i ^ j) for j in range(k)) for i in range(k, n))


def invert(matrix: Matrix) -> Matrix:
    """Return the inverse of a square matrix. Raises ``ValueError`` for a singular one."""
    size = len(matrix)
    rows = [row + bytes(int(i == j) for j in range(size)) for i, row in enumerate(matrix)]
    for column in range(size):
        pivot = next((r for r in range(column, size) if rows[r][column]), None)
        if pivot is None:
            raise ValueError("the matrix is singular")
        rows[column], rows[pivot] = rows[pivot], rows[column]
        lead = rows[column].translate(_times(inverse(rows[column][column])))
        rows[column] = lead
        for r in range(size):
            factor = rows[r][column]
            if r != column and factor:
                rows[r] = _xor(rows[r], lead.translate(_times(factor)))
    return tuple(row[size:] for row in rows)


def _combine(row: bytes, matrix: Matrix) -> bytes:
    """Return the row vector times the matrix."""
    total = bytes(len(matrix))
    for factor, source in zip(row, matrix, strict=True):
        if factor:
            total = _xor(total, source.translate(_times(factor)))
    return total


# --- backends ------------------------------------------------------------------------------------


class Kernel(Protocol):
    """Multiplies rows of coefficients with columns of bytes."""

    name: str

    def prepare(self, rows: Matrix) -> "Product":
        """Return a product with these rows, ready to be run many times, by many threads."""


class Product(Protocol):
    """``targets[r][:length] = sum over j of rows[r][j] * sources[j][:length]``."""

    def __call__(
        self, sources: Sequence[memoryview], targets: Sequence[memoryview], length: int
    ) -> None:
        """Compute; the buffers' number and sizes have been checked."""


class _PyBuffer(ctypes.Structure):
    """CPython's ``Py_buffer``, to learn the address of a read-only buffer."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.py_object),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    )


_get_buffer = ctypes.pythonapi.PyObject_GetBuffer
_get_buffer.argtypes = (ctypes.py_object, ctypes.POINTER(_PyBuffer), ctypes.c_int)
_release_buffer = ctypes.pythonapi.PyBuffer_Release
_release_buffer.argtypes = (ctypes.POINTER(_PyBuffer),)
_release_buffer.restype = None


def _address(view: memoryview) -> int:
    """Return where a buffer starts; valid while the caller holds ``view``."""
    if not view.readonly:
        return ctypes.addressof(ctypes.c_char.from_buffer(view))
    buffer = _PyBuffer()
    _get_buffer(view, ctypes.byref(buffer), 0)
    address = int(buffer.buf)
    _release_buffer(ctypes.byref(buffer))
    return address


class IsalKernel:
    """ISA-L through ctypes."""

    def __init__(self, library: ctypes.CDLL, name: str) -> None:
        self.name = name
        self._init_tables = library.ec_init_tables
        self._init_tables.argtypes = (
            ctypes.c_int,
            ctypes.c_int,
            ctypes.c_char_p,
            ctypes.c_char_p,
        )
        self._init_tables.restype = None
        self._encode_data = library.ec_encode_data
        self._encode_data.argtypes = (
            ctypes.c_int,
            ctypes.c_int,
            ctypes.c_int,
            ctypes.c_void_p,
            ctypes.c_void_p,
            ctypes.c_void_p,
        )
        self._encode_data.restype = None

    def prepare(self, rows: Matrix) -> Product:
        """Return a product with tables made once."""
        count, width = len(rows), len(rows[0])
        tables = ctypes.create_string_buffer(32 * width * count)
        self._init_tables(width, count, b"".join(rows), tables)
        source_array = ctypes.c_void_p * width
        target_array = ctypes.c_void_p * count
        encode_data = self._encode_data

        def product(
            sources: Sequence[memoryview], targets: Sequence[memoryview], length: int
        ) -> None:
            encode_data(
                length,
                width,
                count,
                tables,
                source_array(*map(_address, sources)),
                target_array(*map(_address, targets)),
            )

        return product


class PythonKernel:
    """The same bytes by table look-ups and wide XORs: slow, but everywhere."""

    name = "python"

    def prepare(self, rows: Matrix) -> Product:
        """Return a product that goes target by target."""

        def product(
            sources: Sequence[memoryview], targets: Sequence[memoryview], length: int
        ) -> None:
            columns = [bytes(source[:length]) for source in sources]
            for row, target in zip(rows, targets, strict=True):
                total = 0
                for factor, column in zip(row, columns, strict=True):
                    if factor:
                        total ^= int.from_bytes(column.translate(_times(factor)), "little")
                target[:length] = total.to_bytes(length, "little")

        return product


def _open_isal(path: str, name: str) -> IsalKernel | None:
    """Load a library and let it prove itself before it is trusted."""
    try:
        kernel = IsalKernel(ctypes.CDLL(path), name)
    except (OSError, AttributeError):
        return None
    return kernel if computes_rightly(kernel) else None


def computes_rightly(kernel: Kernel) -> bool:
    """Say whether a backend gives the bytes of the fallback, on a small product."""
    sources = [memoryview(bytes((i * 7 + j) & 0xFF for j in range(100))) for i in range(3)]
    rows = generator_matrix(3, 5)[3:]
    answers = []
    for candidate in (kernel, PythonKernel()):
        targets = [memoryview(bytearray(100)) for _ in rows]
        candidate.prepare(rows)(sources, targets, 100)
        answers.append([bytes(target) for target in targets])
    return answers[0] == answers[1]


def _bundled_isal() -> str | None:
    found = importlib.util.find_spec("pyeclib")
    if found is None or found.origin is None:
        return None
    libraries = Path(found.origin).parent.parent / "pyeclib.libs"
    paths = sorted(libraries.glob("libisal*.so*"))
    return str(paths[0]) if paths else None


@cache
def kernel_named(name: str) -> Kernel | None:
    """Return a backend by name, or ``None`` where this machine does not have it."""
    if name == "python":
        return PythonKernel()
    path = _bundled_isal() if name == "pyeclib-isal" else ctypes.util.find_library("isal")
    return _open_isal(path, name) if path else None


BACKENDS = ("pyeclib-isal", "system-isal", "python")
"""In order of preference."""


@cache
def _kernel() -> Kernel:
    return next(kernel for name in BACKENDS if (kernel := kernel_named(name)) is not None)


def backend() -> str:
    """Return the name of the backend in use: one of ``BACKENDS``."""
    return _kernel().name


# --- codecs --------------------------------------------------------------------------------------


def _views(buffers: Sequence[Buffer], count: int, length: int, writable: bool) -> list[memoryview]:
    if len(buffers) != count:
        raise ValueError(f"{count} buffers are needed, not {len(buffers)}")
    views = [memoryview(buffer) for buffer in buffers]
    for view in views:
        if not view.c_contiguous or view.nbytes < length or (writable and view.readonly):
            raise ValueError(
                f"a buffer must be contiguous{', writable' if writable else ''}"
                f" and hold at least {length} bytes"
            )
    return [view if view.format == "B" and view.ndim == 1 else view.cast("B") for view in views]


class Codec:
    """Encodes and rebuilds shards of one (k, n). Safe for use by many threads at once."""

    __slots__ = ("_encode", "_kernel", "_matrix", "_tables", "k", "n")

    def __init__(self, k: int, n: int, kernel: Kernel) -> None:
        if not 1 <= k <= n <= SHARDS_MAX:
            raise ValueError(f"no code {k}/{n}")
        self.k = k
        self.n = n
        self._kernel = kernel
        # One data column is replication: parity rows of a 1-column Cauchy matrix would scale it.
        self._matrix = generator_matrix(k, n) if k > 1 else (b"\x01",) * n
        self._encode = kernel.prepare(self._matrix[k:]) if 1 < k < n else None
        self._tables = lru_cache(maxsize=REBUILD_TABLES_MAX)(self._make_tables)

    def encode(self, columns: Sequence[Buffer], parity: Sequence[Buffer], length: int) -> None:
        """Fill the first ``length`` bytes of n-k parity buffers from those of k columns.

        Works in place and releases the GIL. Raises ``ValueError`` for buffers that do not fit.
        """
        if not 0 <= length <= LENGTH_BYTES_MAX:
            raise ValueError(f"length is 0..{LENGTH_BYTES_MAX}")
        sources = _views(columns, self.k, length, writable=False)
        targets = _views(parity, self.n - self.k, length, writable=True)
        if not length:
            return
        if self._encode is not None:
            self._encode(sources, targets, length)
        else:
            for target in targets:
                target[:length] = sources[0][:length]

    def rebuild(
        self,
        have: Sequence[int],
        sources: Sequence[Buffer],
        want: Sequence[int],
        targets: Sequence[Buffer],
        length: int,
    ) -> None:
        """Fill the shards ``want`` (data or parity) from k shards ``have``, in the same order.

        Works in place and releases the GIL. Raises ``ValueError`` for indexes that repeat, are out
        of range or not k in number, and for buffers that do not fit.
        """
        if not 0 <= length <= LENGTH_BYTES_MAX:
            raise ValueError(f"length is 0..{LENGTH_BYTES_MAX}")
        if len(have) != self.k or len(set(have)) != self.k:
            raise ValueError(f"{self.k} different shards rebuild, not {list(have)}")
        if any(not 0 <= index < self.n for index in (*have, *want)):
            raise ValueError(f"shards of {self.k}/{self.n} are 0..{self.n - 1}")
        source_views = _views(sources, self.k, length, writable=False)
        target_views = _views(targets, len(want), length, writable=True)
        if not want or not length:
            return
        if self.k == 1:
            for target in target_views:
                target[:length] = source_views[0][:length]
        else:
            self._tables(tuple(have), tuple(want))(source_views, target_views, length)

    def _make_tables(self, have: tuple[int, ...], want: tuple[int, ...]) -> Product:
        inverted = invert(tuple(self._matrix[index] for index in have))
        return self._kernel.prepare(tuple(_combine(self._matrix[i], inverted) for i in want))


@lru_cache(maxsize=64)
def codec(k: int, n: int) -> Codec:
    """Return the codec of k data columns among n shards, on the best backend here.

    Raises ``ValueError`` unless 1 <= k <= n <= 255.
    """
    return Codec(k, n, _kernel())
