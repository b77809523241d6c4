"""A node's figures in Prometheus's text form."""

from dataclasses import fields

from atoll.node.store.store import PieceStore

_GAUGES = (
    ("used_bytes", "Bytes of live piece records."),
    ("trash_bytes", "Bytes of deleted piece records that wait in the trash."),
    ("free_bytes", "Bytes of new pieces that would be taken now."),
    ("pieces", "Live pieces."),
)


def metrics_text(store: PieceStore) -> bytes:
    """Return all figures of a node's store."""
    lines: list[str] = []

    def add(name: str, kind: str, about: str, value: int) -> None:
        full = f"atoll_node_{name}"
        lines.extend((f"# HELP {full} {about}", f"# TYPE {full} {kind}", f"{full} {value}"))

    counters = store.counters()
    for name, about in _GAUGES:
        add(name, "gauge", about, getattr(counters, name))
    volume = store.volume
    add("physical_bytes", "gauge", "Bytes that the logs take.", volume.logs.physical_bytes)
    add("logs", "gauge", "Log files.", len(volume.logs.files))
    add("failed", "gauge", "1 after a failed sync: no more writes.", int(store.failed))
    add("syncs_total", "counter", "Group syncs.", volume.commit.syncs)
    add("synced_changes_total", "counter", "Changes made durable.", volume.commit.synced_changes)
    for field in fields(store.counts):
        about = f"Events since the start: {field.name.replace('_', ' ')}."
        add(f"{field.name}_total", "counter", about, getattr(store.counts, field.name))
    return ("\n".join(lines) + "\n").encode()
