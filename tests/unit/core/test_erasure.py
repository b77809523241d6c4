"""Erasure coding: any k of n rebuild any shard, the same bytes from every backend."""

import ctypes
import hashlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.core import erasure
from atoll.core.erasure import Codec, codec, generator_matrix, kernel_named

SCHEMES = [(1, 4), (2, 4), (4, 8), (10, 20), (20, 40), (3, 3), (5, 6)]
HERE = [name for name in erasure.BACKENDS if kernel_named(name) is not None]


def shard(length: int, seed: int) -> bytes:
    return hashlib.shake_128(bytes((seed,))).digest(length)


def encoded(code: Codec, length: int) -> list[bytes]:
    columns = [shard(length, seed) for seed in range(code.k)]
    parity = [bytearray(length) for _ in range(code.n - code.k)]
    code.encode(columns, parity, length)
    return columns + [bytes(piece) for piece in parity]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(SCHEMES), st.integers(0, 3000), st.data())
def test_any_k_shards_rebuild_any_others(
    scheme: tuple[int, int], length: int, draw: st.DataObject
) -> None:
    k, n = scheme
    code = codec(k, n)
    shards = encoded(code, length)
    order = draw.draw(st.permutations(range(n)))
    have = order[:k]
    want = draw.draw(st.lists(st.sampled_from(range(n)), unique=True, max_size=n))
    targets = [bytearray(b"\xee" * (length + 3)) for _ in want]
    code.rebuild(have, [shards[i] for i in have], want, targets, length)
    for index, target in zip(want, targets, strict=True):
        assert target == shards[index] + b"\xee" * 3


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_backend_gives_the_same_bytes(name: str, scheme: tuple[int, int]) -> None:
    kernel, reference = kernel_named(name), kernel_named("python")
    assert kernel is not None
    assert reference is not None
    for length in (1, 31, 32, 33, 63, 64, 65, 127, 1040, 4099):
        assert encoded(Codec(*scheme, kernel), length) == encoded(Codec(*scheme, reference), length)


@pytest.mark.skipif("pyeclib-isal" not in HERE, reason="the pyeclib wheel has no ISA-L here")
@pytest.mark.parametrize(("k", "n"), [(2, 4), (10, 20), (20, 40), (29, 80)])
def test_the_matrix_is_isals_cauchy_matrix(k: int, n: int) -> None:
    path = erasure._bundled_isal()
    assert path is not None
    library = ctypes.CDLL(path)
    matrix = ctypes.create_string_buffer(n * k)
    library.gf_gen_cauchy1_matrix(matrix, n, k)
    assert matrix.raw == b"".join(generator_matrix(k, n))


@pytest.mark.skipif("pyeclib-isal" not in HERE, reason="the pyeclib wheel has no ISA-L here")
def test_parity_is_what_pyeclib_itself_makes() -> None:
    from pyeclib.ec_iface import ECDriver

    driver = ECDriver(k=4, m=4, ec_type="isa_l_rs_cauchy")
    data = b"".join(shard(1024, seed) for seed in range(4))
    fragments = [fragment[80:] for fragment in driver.encode(data)]
    assert fragments == encoded(codec(4, 8), 1024)


@given(st.integers(1, 255), st.integers(1, 255))
def test_field_elements_have_inverses(left: int, right: int) -> None:
    product = erasure.multiply(left, right)
    assert erasure.multiply(product, erasure.inverse(right)) == left
    assert erasure.multiply(left, 0) == 0


def test_zero_has_no_inverse() -> None:
    with pytest.raises(ZeroDivisionError):
        erasure.inverse(0)


def test_a_singular_matrix_is_refused() -> None:
    with pytest.raises(ValueError, match="singular"):
        erasure.invert((b"\1\2", b"\1\2"))


def test_writable_and_read_only_buffers_serve_alike() -> None:
    code = codec(2, 4)
    pool = memoryview(bytearray(shard(4096, 9)))
    writable = [pool[100:1124], pool[2000:3024]]
    parity = [memoryview(bytearray(1024)) for _ in range(4)]
    code.encode(writable, parity[:2], 1024)
    code.encode([view.toreadonly() for view in writable], parity[2:], 1024)
    assert parity[:2] == parity[2:]


def test_buffers_that_do_not_fit_are_refused() -> None:
    code = codec(2, 4)
    good = [bytearray(64), bytearray(64)]
    for columns, parity, length in (
        (good[:1], good, 64),
        (good, good[:1], 64),
        ([good[0], bytearray(63)], good, 64),
        (good, [good[0], bytes(64)], 64),
        (good, [good[0], memoryview(bytearray(128))[::2]], 64),
        (good, good, -1),
        (good, good, 1 << 31),
    ):
        with pytest.raises(ValueError, match=r"buffer|length"):
            code.encode(columns, parity, length)


def test_indexes_that_make_no_sense_are_refused() -> None:
    code = codec(2, 4)
    good = [bytearray(64), bytearray(64)]
    for have, want in (([0, 0], [1]), ([0], [1]), ([0, 4], [1]), ([0, 1], [4]), ([-1, 1], [0])):
        with pytest.raises(ValueError, match=r"shards|buffers"):
            code.rebuild(have, good, want, good[:1], 64)


@pytest.mark.parametrize(("k", "n"), [(0, 4), (5, 4), (4, 256)])
def test_codes_that_cannot_be_are_refused(k: int, n: int) -> None:
    with pytest.raises(ValueError, match="no code"):
        codec(k, n)


def test_a_library_without_isals_functions_is_not_trusted() -> None:
    assert erasure._open_isal(ctypes.util.find_library("c") or "", "system-isal") is None
    assert erasure._open_isal("/nowhere/libisal.so", "system-isal") is None


def test_a_library_that_computes_wrongly_is_not_trusted() -> None:
    class Wrong(erasure.PythonKernel):
        def prepare(self, rows: erasure.Matrix) -> erasure.Product:
            return super().prepare(rows[::-1])

    assert erasure.computes_rightly(erasure.PythonKernel())
    assert not erasure.computes_rightly(Wrong())


def test_the_backend_has_a_name() -> None:
    assert erasure.backend() == HERE[0]


def test_one_codec_serves_many_threads() -> None:
    code = codec(4, 8)
    shards = encoded(code, 50_000)

    def lose_and_rebuild(round_number: int) -> bool:
        have = [(round_number + i) % 8 for i in range(4)]
        want = [i for i in range(8) if i not in have]
        targets = [bytearray(50_000) for _ in want]
        code.rebuild(have, [shards[i] for i in have], want, targets, 50_000)
        return targets == [shards[i] for i in want]

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lose_and_rebuild, range(200)))
