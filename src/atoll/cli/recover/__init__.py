"""``atoll recover``: buckets back from nodes alone, with the recovery phrase and nothing else."""

from atoll.cli.recover.command import recover

__all__ = ["recover"]
