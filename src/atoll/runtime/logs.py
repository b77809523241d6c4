"""Logs of a process: one line per event on standard error, plain text or JSON.

Secrets never reach a log: rooms log ids and counts, and this module never logs bodies or headers.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path

LEVELS = ("debug", "info", "warning", "error")
LOG_BYTES_MAX = 16 << 20
"""A child's log file is turned over at its start when it is larger than this."""


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        text = f"{time}.{int(record.msecs):03d}Z {record.levelname.lower():7} {record.name}: "
        text += record.getMessage()
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return text


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "part": record.name,
            "text": record.getMessage(),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def start_logs(level: str = "info", form: str = "text") -> None:
    """Send all logs of this process to standard error. ``form`` is ``text`` or ``json``."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if form == "json" else _Text())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # One line per request would be most of the work of a small request.
    for noisy in ("uvicorn.access", "aiohttp.access", "asyncio", "sqlalchemy.engine"):
        logging.getLogger(noisy).setLevel("WARNING")
    # It warns of every broken request: strangers could fill the disk with lines.
    logging.getLogger("uvicorn.error").setLevel("ERROR")


def turn_over(path: Path) -> None:
    """Set a log that has grown too large aside as ``NAME.1``; one older generation is kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > LOG_BYTES_MAX:
        path.replace(path.with_suffix(path.suffix + ".1"))
