"""Operations on buckets, and the truth about what is never configured on them."""

import base64
import binascii
from collections.abc import Awaitable, Callable

from atoll.core.errors import AtollError, Kind
from atoll.core.messages import (
    BucketInfo,
    BucketList,
    CreateBucket,
    DeleteBucket,
    Done,
    ListBuckets,
)
from atoll.gateway.s3.call import Call
from atoll.gateway.s3.codec.encode import XML_DECLARATION
from atoll.gateway.s3.errors import S3Error, header_not_implemented, invalid_argument
from atoll.gateway.s3.metadata import check_acl
from atoll.gateway.s3.names import check_new_bucket
from atoll.gateway.s3.quirks import NAMESPACE
from atoll.gateway.s3.request import Response

BUCKETS_PAGE_MAX = 10_000
FIRST_REGION = "us-east-1"
_XML = ("content-type", "application/xml")


async def create_bucket(call: Call) -> Response:
    """Make a bucket in this endpoint's region."""
    params, region = call.params, call.config.region
    name = call.request.bucket
    check_new_bucket(name)
    configuration = params.get("CreateBucketConfiguration") or {}
    wanted = configuration.get("LocationConstraint") or region
    if wanted != region and not (wanted == "EU" and region == "eu-west-1"):
        raise S3Error(
            "IllegalLocationConstraintException",
            f"The {wanted} location constraint is incompatible for the region specific endpoint "
            "this request was sent to.",
        )
    for member in ("Location", "Bucket", "Tags"):
        if configuration.get(member):
            raise header_not_implemented(f"CreateBucketConfiguration.{member}")
    if params.get("ObjectLockEnabledForBucket"):
        raise header_not_implemented("x-amz-bucket-object-lock-enabled")
    if params.get("ObjectOwnership", "BucketOwnerEnforced") != "BucketOwnerEnforced":
        raise header_not_implemented("x-amz-object-ownership")
    if params.get("ACL", "private") != "private" or any(
        params.get(f"Grant{kind}") for kind in ("FullControl", "Read", "ReadACP", "Write")
    ):
        raise S3Error("InvalidBucketAclWithObjectOwnership")
    call.services.buckets.forget(name)
    request = CreateBucket(account=call.caller.account, name=name, region=region)
    try:
        await call.ask(request, BucketInfo)
    except AtollError as error:
        # The oldest region has always let an owner make the same bucket again.
        if error.kind is not Kind.BUCKET_OWNED or region != FIRST_REGION:
            raise
    return call.answer({"Location": f"/{name}"})


async def list_buckets(call: Call) -> Response:
    """List the caller's buckets in name order."""
    params = call.params
    limit = params.get("MaxBuckets", BUCKETS_PAGE_MAX)
    if not 1 <= limit <= BUCKETS_PAGE_MAX:
        raise invalid_argument("max-buckets", str(limit), "max-buckets must be between 1 and 10000")
    prefix = params.get("Prefix", "")
    after = ""
    if "ContinuationToken" in params:
        after = read_token(params["ContinuationToken"])
    page = await call.ask(
        ListBuckets(account=call.caller.account, prefix=prefix, after=after, limit=limit),
        BucketList,
    )
    wanted = params.get("BucketRegion")
    paged = "MaxBuckets" in params or "ContinuationToken" in params
    values = {
        "Buckets": [
            {
                "Name": bucket.name,
                "CreationDate": bucket.created_ms // 1000 * 1000,
                **({"BucketRegion": bucket.region} if paged or wanted else {}),
            }
            for bucket in page.buckets
            if wanted is None or bucket.region == wanted
        ],
        "Owner": call.owner(),
        "Prefix": params.get("Prefix"),
    }
    if page.truncated and page.buckets:
        values["ContinuationToken"] = make_token(page.buckets[-1].name)
    return call.answer(values)


def make_token(key: str) -> str:
    """Return an opaque continuation token for the place after ``key``."""
    return base64.urlsafe_b64encode(b"1" + key.encode("utf-8")).decode("ascii")


def read_token(token: str) -> str:
    """Return the place a continuation token stands for. Raises ``InvalidArgument``."""
    try:
        raw = base64.b64decode(token, altchars=b"-_", validate=True)
        if raw[:1] == b"1":
            return raw[1:].decode("utf-8")
    except (binascii.Error, ValueError):
        pass
    raise invalid_argument(
        "continuation-token", token, "The continuation token provided is incorrect"
    )


async def head_bucket(call: Call) -> Response:
    """Say that the bucket exists and is the caller's."""
    bucket = await call.bucket(fresh=True)
    return call.answer({"BucketRegion": bucket.region, "AccessPointAlias": False})


async def delete_bucket(call: Call) -> Response:
    """Remove an empty bucket."""
    bucket = await call.bucket(fresh=True)
    call.services.buckets.forget(bucket.name)
    await call.ask(DeleteBucket(name=bucket.name, account=bucket.account), Done)
    return call.answer({})


async def get_bucket_location(call: Call) -> Response:
    """Name the region; the first one is nameless, as it has always been."""
    bucket = await call.bucket(fresh=True)
    name = "" if bucket.region == FIRST_REGION else bucket.region
    body = f'{XML_DECLARATION}<LocationConstraint xmlns="{NAMESPACE}">{name}</LocationConstraint>'
    return Response(200, [_XML], body.encode())


async def get_bucket_acl(call: Call) -> Response:
    """Say that the owner, and nobody else, has full control."""
    await call.bucket()
    return call.answer(owner_only(call))


async def put_bucket_acl(call: Call) -> Response:
    """Accept the access control list that every bucket has; refuse any other."""
    await call.bucket(fresh=True)
    check_owner_only(call)
    return call.answer({})


def check_owner_only(call: Call) -> None:
    """Raise ``AccessControlListNotSupported`` for a list other than owner-has-full-control."""
    check_acl(call.params)
    policy = call.params.get("AccessControlPolicy")
    for grant in (policy or {}).get("Grants") or []:
        grantee = grant.get("Grantee") or {}
        if (grantee.get("ID"), grant.get("Permission")) != (call.caller.owner_id, "FULL_CONTROL"):
            raise S3Error("AccessControlListNotSupported")
    if policy is not None and not policy.get("Grants"):
        raise S3Error("AccessControlListNotSupported")


def owner_only(call: Call) -> dict[str, object]:
    """Return the access control list that every bucket and object here has."""
    grantee = {"Type": "CanonicalUser", **call.owner()}
    grant = {"Grantee": grantee, "Permission": "FULL_CONTROL"}
    return {"Owner": call.owner(), "Grants": [grant]}


def always(values: dict[str, object]) -> Callable[[Call], Awaitable[Response]]:
    """Return an operation that answers the same for every bucket of the caller."""

    async def answer(call: Call) -> Response:
        await call.bucket()
        return call.answer(values)

    return answer


def never(code: str) -> Callable[[Call], Awaitable[Response]]:
    """Return an operation that answers with the code for what is not configured."""

    async def refuse(call: Call) -> Response:
        bucket = await call.bucket()
        raise S3Error(code, BucketName=bucket.name)

    return refuse


_ENCRYPTION = {
    "ServerSideEncryptionConfiguration": {
        "Rules": [
            {
                "ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"},
                "BucketKeyEnabled": False,
            }
        ]
    }
}
_BLOCKED = {
    "PublicAccessBlockConfiguration": {
        "BlockPublicAcls": True,
        "IgnorePublicAcls": True,
        "BlockPublicPolicy": True,
        "RestrictPublicBuckets": True,
    }
}

CONFIGURATION_READS: dict[str, Callable[[Call], Awaitable[Response]]] = {
    "GetBucketAccelerateConfiguration": always({}),
    "GetBucketCors": never("NoSuchCORSConfiguration"),
    "GetBucketEncryption": always(dict(_ENCRYPTION)),
    "GetBucketLifecycleConfiguration": never("NoSuchLifecycleConfiguration"),
    "GetBucketLogging": always({}),
    "GetBucketNotificationConfiguration": always({}),
    "GetBucketOwnershipControls": always(
        {"OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}}
    ),
    "GetBucketPolicy": never("NoSuchBucketPolicy"),
    "GetBucketPolicyStatus": never("NoSuchBucketPolicy"),
    "GetBucketReplication": never("ReplicationConfigurationNotFoundError"),
    "GetBucketRequestPayment": always({"Payer": "BucketOwner"}),
    "GetBucketTagging": never("NoSuchTagSet"),
    "GetBucketVersioning": always({}),
    "GetBucketWebsite": never("NoSuchWebsiteConfiguration"),
    "GetObjectLockConfiguration": never("ObjectLockConfigurationNotFoundError"),
    "GetPublicAccessBlock": always(dict(_BLOCKED)),
}
"""Reads that tools make first. Each answer is true of every bucket here."""
