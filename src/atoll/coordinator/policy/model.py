"""Nouns of policies: a version with its rules, the place this coordinator itself is in."""

from dataclasses import dataclass

from atoll.core.messages.policy import PolicyVersion
from atoll.core.policy.model import RULES_ANYWHERE, Rules

ANYWHERE_ID = 1
"""Id of the policy of buckets that have none."""


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """One version of a bucket's policy."""

    policy: int
    bucket: bytes
    version: int
    text: str
    created_ms: int
    rules: Rules

    def message(self) -> PolicyVersion:
        """Return the message form."""
        return PolicyVersion(
            policy=self.policy,
            bucket=self.bucket,
            version=self.version,
            text=self.text or "anywhere",
            created_ms=self.created_ms,
        )


POLICY_ANYWHERE = StoredPolicy(ANYWHERE_ID, b"", 0, "", 0, RULES_ANYWHERE)


@dataclass(frozen=True, slots=True)
class OwnPlace:
    """What a coordinator's operator states about it in its settings. Empty: not said."""

    operator: str = ""
    country: str = ""
    parent_country: str = ""
    region: str = ""
    database_country: str = ""
    certificates: tuple[bytes, ...] = ()
