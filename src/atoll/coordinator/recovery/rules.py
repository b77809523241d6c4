"""Decisions about manifests; pure."""

from atoll.coordinator.metadata.store.manifests import ManifestSums

DELTAS_MIN = 32
"""With fewer deltas a snapshot is not worth its writing."""
DELTAS_MAX = 1000
"""With so many a snapshot is made whatever it costs: each delta is a segment to find and read."""
MANIFEST_MODES = ("group", "sync")


def wants_snapshot(sums: ManifestSums) -> bool:
    """Say whether a bucket's deltas have outgrown its snapshot.

    A snapshot is written when the deltas hold as many bytes, so that all snapshots together cost
    about as much as the deltas did.
    """
    if sums.deltas < DELTAS_MIN:
        return False
    return sums.deltas >= DELTAS_MAX or sums.delta_bytes >= sums.snapshot_bytes
