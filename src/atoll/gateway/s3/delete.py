"""DeleteObject and DeleteObjects."""

from typing import Any

from atoll.core.messages import Condition, DeletedKeys, DeleteObjects
from atoll.gateway.s3.call import Call
from atoll.gateway.s3.conditions import strip_etag
from atoll.gateway.s3.errors import TABLE, S3Error, header_not_implemented
from atoll.gateway.s3.get import check_version
from atoll.gateway.s3.metadata import KEY_BYTES_MAX, check_key
from atoll.gateway.s3.request import Response

DELETE_KEYS_MAX = 1000


async def delete_object(call: Call) -> Response:
    """Remove an object; an absent one counts as removed."""
    params = call.params
    check_version(call)
    check_key(call.request.key)
    for name, header in (
        ("IfMatchLastModifiedTime", "x-amz-if-match-last-modified-time"),
        ("IfMatchSize", "x-amz-if-match-size"),
    ):
        if params.get(name) is not None:
            raise header_not_implemented(header)
    bucket = await call.bucket(fresh=True)
    condition = Condition(if_match=strip_etag(params.get("IfMatch") or ""))
    answer = await call.ask(
        DeleteObjects(bucket=bucket.bucket, keys=[call.request.key], condition=condition),
        DeletedKeys,
    )
    if answer.locked:
        raise S3Error("AccessDenied")
    return call.answer({})


async def delete_objects(call: Call) -> Response:
    """Remove up to 1,000 keys; each one's failure is told in the answer."""
    delete = call.params["Delete"]
    asked: list[dict[str, Any]] = delete.get("Objects") or []
    if not asked or len(asked) > DELETE_KEYS_MAX:
        raise S3Error("MalformedXML")
    bucket = await call.bucket(fresh=True)
    keys: list[str] = []
    locked: set[str] = set()
    errors: list[dict[str, str]] = []
    for entry in asked:
        refused = _refusal(entry)
        if refused is None:
            keys.append(entry["Key"])
        else:
            errors.append(refused)
    if keys:
        distinct = list(dict.fromkeys(keys))
        answer = await call.ask(DeleteObjects(bucket=bucket.bucket, keys=distinct), DeletedKeys)
        locked = set(answer.locked)
        errors += [_error(entry, "AccessDenied") for entry in asked if entry["Key"] in locked]
    values: dict[str, Any] = {"Errors": errors}
    if not delete.get("Quiet"):
        values["Deleted"] = [
            {"Key": entry["Key"], **({"VersionId": "null"} if entry.get("VersionId") else {})}
            for entry in asked
            if _refusal(entry) is None and entry["Key"] not in locked
        ]
    return call.answer(values)


def _refusal(entry: dict[str, Any]) -> dict[str, str] | None:
    """Return the Error element for a key that cannot be deleted as asked; None if it can."""
    key = entry["Key"]
    code = ""
    if not key:
        code = "MalformedXML"
    elif len(key.encode("utf-8")) > KEY_BYTES_MAX:
        code = "KeyTooLongError"
    elif entry.get("VersionId", "null") != "null":
        code = "NoSuchVersion"
    elif any(entry.get(name) is not None for name in ("ETag", "LastModifiedTime", "Size")):
        code = "NotImplemented"
    return _error(entry, code) if code else None


def _error(entry: dict[str, Any], code: str) -> dict[str, str]:
    refused = {"Key": entry["Key"], "Code": code, "Message": TABLE[code][1]}
    if entry.get("VersionId"):
        refused["VersionId"] = entry["VersionId"]
    return refused
