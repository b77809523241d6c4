import logging

import pytest

from atoll.runtime.logs import start_logs


@pytest.fixture
def _restored():
    root, server = logging.getLogger(), logging.getLogger("uvicorn.error")
    before = root.handlers[:], root.level, server.level
    yield
    root.handlers[:], level, server_level = before
    root.setLevel(level)
    server.setLevel(server_level)


@pytest.mark.usefixtures("_restored")
def test_strangers_cannot_fill_the_log_with_broken_requests(capsys):
    start_logs()
    logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    logging.getLogger("uvicorn.error").error("a bug")
    told = capsys.readouterr().err
    assert "Invalid" not in told
    assert "a bug" in told
