"""What the parties say to each other: requests and answers of the control plane.

Two families, both msgspec structs, both MessagePack on the wire:

* node requests: a node to a coordinator, signed by the node's key.
* control requests: a gateway to the metadata. In process where it shares the database, over TLS
  where it does not; one port (``ControlPlane``), one suite of tests.

One module per topic; each names its requests and, for every one, exactly one answer. This page puts
the tables together; messages of the first topics are also found here by name.
Byte strings are ids, hashes or opaque blobs; ``*_ms`` are milliseconds since the Unix epoch.
"""

from typing import Any, Union

from atoll.core.messages import (
    customers,
    entries,
    market,
    metering,
    nodes,
    objects,
    packing,
    payouts,
    policy,
    proofs,
    recovery,
    relays,
    repairs,
    reputation,
    retention,
    sets,
    settlement,
    status,
    terms,
    traffic,
    upgrades,
)
from atoll.core.messages.base import (
    MESSAGE_BYTES_MAX,
    Answer,
    ControlPlane,
    Failure,
    Message,
    decode,
    encode,
    failure_of,
)
from atoll.core.messages.nodes import (
    Heartbeat,
    HeartbeatAnswer,
    NodeCounters,
    NodeFacts,
    Register,
    Registered,
    SignedFacts,
)
from atoll.core.messages.objects import (
    LIST_KEYS_MAX,
    AbandonedSegment,
    AbortUpload,
    BucketInfo,
    BucketList,
    CommitObject,
    CommitPart,
    CompletePart,
    CompleteUpload,
    Condition,
    CreateBucket,
    CreateUpload,
    Credential,
    DeleteBucket,
    DeletedKeys,
    DeleteObjects,
    DiscardSegments,
    Done,
    GetBucket,
    GetCredential,
    GetUpload,
    GrantList,
    GrantReads,
    ListBuckets,
    ListObjects,
    ListParts,
    ListUploads,
    ObjectFacts,
    ObjectInfo,
    ObjectList,
    ObjectRead,
    OrderSegment,
    PartInfo,
    PartList,
    PieceGrant,
    ReadObject,
    ReplaceGrants,
    ReportLiar,
    SegmentGrant,
    SegmentRecord,
    StoredPiece,
    UploadInfo,
    UploadList,
)
from atoll.core.messages.status import (
    CloudStatus,
    GetStatus,
    NodeStatus,
    RepairStatus,
    Survival,
)

_LATER = (
    sets,
    proofs,
    reputation,
    terms,
    retention,
    policy,
    recovery,
    packing,
    repairs,
    relays,
    upgrades,
    market,
    metering,
    traffic,
    settlement,
    payouts,
    customers,
    entries,
)

NODE_REQUESTS: dict[type[Message], type[Message]] = dict(nodes.NODE_REQUESTS)
"""What a node may ask, and the answer of each."""
CONTROL_REQUESTS: dict[type[Message], type[Message]] = {
    **objects.CONTROL_REQUESTS,
    **status.CONTROL_REQUESTS,
}
"""What a gateway may ask, and the answer of each."""
OPERATOR_REQUESTS: frozenset[type[Message]] = (
    customers.OPERATOR_REQUESTS | payouts.OPERATOR_REQUESTS
)
"""Control requests that only the coordinator's own key may bring over the network."""
for _topic in _LATER:
    NODE_REQUESTS.update(_topic.NODE_REQUESTS)
    CONTROL_REQUESTS.update(_topic.CONTROL_REQUESTS)

ANSWERS: dict[type[Message], type[Message]] = {**NODE_REQUESTS, **CONTROL_REQUESTS}

NodeRequest: Any = Union[tuple(NODE_REQUESTS)]  # noqa: UP007 - made of the tables
ControlRequest: Any = Union[tuple(CONTROL_REQUESTS)]  # noqa: UP007 - made of the tables

__all__ = [
    "ANSWERS",
    "CONTROL_REQUESTS",
    "LIST_KEYS_MAX",
    "MESSAGE_BYTES_MAX",
    "NODE_REQUESTS",
    "OPERATOR_REQUESTS",
    "AbandonedSegment",
    "AbortUpload",
    "Answer",
    "BucketInfo",
    "BucketList",
    "CloudStatus",
    "CommitObject",
    "CommitPart",
    "CompletePart",
    "CompleteUpload",
    "Condition",
    "ControlPlane",
    "ControlRequest",
    "CreateBucket",
    "CreateUpload",
    "Credential",
    "DeleteBucket",
    "DeleteObjects",
    "DeletedKeys",
    "DiscardSegments",
    "Done",
    "Failure",
    "GetBucket",
    "GetCredential",
    "GetStatus",
    "GetUpload",
    "GrantList",
    "GrantReads",
    "Heartbeat",
    "HeartbeatAnswer",
    "ListBuckets",
    "ListObjects",
    "ListParts",
    "ListUploads",
    "Message",
    "NodeCounters",
    "NodeFacts",
    "NodeRequest",
    "NodeStatus",
    "ObjectFacts",
    "ObjectInfo",
    "ObjectList",
    "ObjectRead",
    "OrderSegment",
    "PartInfo",
    "PartList",
    "PieceGrant",
    "ReadObject",
    "Register",
    "Registered",
    "RepairStatus",
    "ReplaceGrants",
    "ReportLiar",
    "SegmentGrant",
    "SegmentRecord",
    "SignedFacts",
    "StoredPiece",
    "Survival",
    "UploadInfo",
    "UploadList",
    "decode",
    "encode",
    "failure_of",
]
