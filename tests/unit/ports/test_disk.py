import pytest

from atoll.core.errors import AtollError, Kind


def test_what_is_written_is_read(world):
    async def check(w):
        file = w.disk.open("logs/0001", create=True)
        assert file.write_at(10, [b"abc", b"", memoryview(b"defg")]) == 7
        assert file.size() == 17
        assert file.read_at(0, 100) == bytes(10) + b"abcdefg"
        buffer = bytearray(5)
        assert file.read_into(11, buffer) == 5
        assert buffer == b"bcdef"
        assert file.read_into(15, bytearray(5)) == 2
        assert file.read_at(17, 5) == b""
        file.sync()
        file.close()
        assert w.disk.open("logs/0001").read_at(10, 3) == b"abc"

    world.run(check)


def test_many_buffers_are_written_whole(world):
    async def check(w):
        file = w.disk.open("many", create=True)
        buffers = [bytes([i % 251]) * (i % 7) for i in range(3000)]
        assert file.write_at(0, buffers) == sum(map(len, buffers))
        assert file.read_at(0, 1 << 20) == b"".join(buffers)

    world.run(check)


def test_truncate_cuts_and_extends_with_zeros(world):
    async def check(w):
        file = w.disk.open("log", create=True)
        file.write_at(0, [b"x" * 200_000])
        file.truncate(70_000)
        file.truncate(140_000)
        assert file.size() == 140_000
        assert file.read_at(69_999, 3) == b"x\0\0"
        assert file.read_at(139_999, 10) == b"\0"

    world.run(check)


def test_allocate_extends_with_zeros_and_never_cuts(world):
    async def check(w):
        file = w.disk.open("log", create=True)
        file.write_at(0, [b"abc"])
        file.allocate(1 << 16)
        assert file.size() == 1 << 16
        file.allocate(10)
        assert file.size() == 1 << 16
        assert file.read_at(0, 4) == b"abc\0"

    world.run(check)


def test_absent_files_are_named_as_such(world):
    async def check(w):
        for act in (w.disk.open, w.disk.read):
            with pytest.raises(AtollError) as caught:
                act("nowhere/file")
            assert caught.value.kind is Kind.NOT_FOUND
        assert not w.disk.exists("nowhere/file")
        assert w.disk.names("nowhere") == []
        w.disk.remove("nowhere/file")
        w.disk.sync_folder("nowhere")

    world.run(check)


def test_replace_is_read_back_and_listed_alone(world):
    async def check(w):
        w.disk.replace("state/identity", b"one")
        w.disk.replace("state/identity", b"two")
        w.disk.replace("state/other", b"")
        assert w.disk.read("state/identity") == b"two"
        assert w.disk.names("state") == ["identity", "other"]
        assert w.disk.names("") == ["state"]
        w.disk.remove("state/identity")
        assert w.disk.names("state") == ["other"]

    world.run(check)


@pytest.mark.parametrize("name", ["", "/etc/passwd", "a/../b", "..", "a//b", ".", "a/", "x\0y"])
def test_names_outside_the_folder_are_refused(world, name):
    async def check(w):
        with pytest.raises(AtollError) as caught:
            w.disk.open(name, create=True)
        assert caught.value.kind is Kind.BAD_REQUEST

    world.run(check)


def test_free_room_and_scratch_place(world):
    async def check(w):
        import sqlite3

        assert w.disk.free_bytes() > 0
        sqlite3.connect(w.disk.scratch_database("index/pieces.sqlite")).close()

    world.run(check)
