"""Who asks: reads what a request claims (header or presigned query) and verifies the signature."""

import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from atoll.core import sigv4
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import ControlPlane, Credential, GetCredential
from atoll.core.ports import Clock
from atoll.gateway.s3 import signature_v2
from atoll.gateway.s3.codec.values import http_date, iso_date, parse_date
from atoll.gateway.s3.errors import S3Error, invalid_argument, not_implemented
from atoll.gateway.s3.request import Request

SKEW_MS_MAX = 15 * 60 * 1000
SIGNING_KEYS_MAX = 1024
CREDENTIALS_MAX = 4096

_HEX_SHA256 = re.compile(r"[0-9a-fA-F]{64}\Z")
_PAYLOADS = frozenset(
    {
        sigv4.UNSIGNED_PAYLOAD,
        sigv4.STREAMING_SIGNED,
        sigv4.STREAMING_SIGNED_TRAILER,
        sigv4.STREAMING_UNSIGNED_TRAILER,
    }
)
_SIGV2_REFUSED = (
    "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256 "
    "(boto3: signature_version='s3v4'; aws: configure set default.s3.signature_version s3v4)."
)


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request says about its own signature."""

    access_key: str
    date: str
    region: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str
    timestamp: str
    payload_hash: str
    presigned: bool
    expires_s: int = 0


@dataclass(frozen=True, slots=True)
class Caller:
    """A verified customer."""

    account: bytes
    access_key: str
    owner_name: str

    @property
    def owner_id(self) -> str:
        """The account as S3 shows it."""
        return self.account.hex()


@dataclass(frozen=True, slots=True)
class Verified:
    """A request whose signature held."""

    caller: Caller
    payload_hash: str
    """A hex SHA-256, ``UNSIGNED-PAYLOAD`` or a ``STREAMING-…`` value."""
    signer: sigv4.ChunkSigner | None
    """Where the body's chunks are signed: the chain that begins at this request."""


class Authenticator:
    """Verifies requests; remembers credentials and signing keys for a bounded while."""

    def __init__(
        self, control: ControlPlane, clock: Clock, region: str, credential_cache_s: float
    ) -> None:
        self._control = control
        self._clock = clock
        self._region = region
        self._cache_s = credential_cache_s
        self._credentials: OrderedDict[str, tuple[float, Credential]] = OrderedDict()
        self._keys: OrderedDict[tuple[str, str, str], bytes] = OrderedDict()

    async def authenticate(self, request: Request) -> Verified:
        """Return who signed the request. Raises the exact ``S3Error`` otherwise."""
        if "authorization" not in request.headers and signature_v2.is_link(request):
            return await self._authenticate_link(request)
        claim = read_claim(request)
        self._check_scope(claim)
        self._check_time(claim)
        credential = await self._credential(claim.access_key)
        _check_signed_headers(request, claim)
        self._check_signature(request, claim, credential)
        self._check_token(request)
        if claim.presigned:
            request.adopt_query_headers()
        signer = None
        if claim.payload_hash in (sigv4.STREAMING_SIGNED, sigv4.STREAMING_SIGNED_TRAILER):
            scope = sigv4.scope_of(claim.date, claim.region, claim.service)
            key = self._signing_key(credential.secret, claim.date, claim.region)
            signer = sigv4.ChunkSigner(key, claim.timestamp, scope, claim.signature)
        caller = Caller(credential.account, credential.access_key, credential.owner_name)
        return Verified(caller, claim.payload_hash, signer)

    async def _authenticate_link(self, request: Request) -> Verified:
        """A presigned link of version 2, as aws-cli and boto3 make them by default."""
        link = signature_v2.read_link(request, self._clock.now_ms())
        credential = await self._credential(link.access_key)
        signature_v2.check_link(request, link, credential.secret)
        self._check_token(request)
        request.adopt_query_headers()
        caller = Caller(credential.account, credential.access_key, credential.owner_name)
        return Verified(caller, sigv4.UNSIGNED_PAYLOAD, None)

    def _check_scope(self, claim: Claim) -> None:
        code = (
            "AuthorizationQueryParametersError"
            if claim.presigned
            else "AuthorizationHeaderMalformed"
        )
        kind = "query parameters are" if claim.presigned else "header is"
        if claim.service != "s3":
            raise S3Error(
                code,
                f"The authorization {kind} malformed; incorrect service "
                f'"{claim.service}". This endpoint belongs to "s3".',
            )
        if claim.region != self._region:
            raise S3Error(
                code,
                f"The authorization {kind} malformed; the region '{claim.region}' is wrong; "
                f"expecting '{self._region}'",
                Region=self._region,
            )
        if claim.timestamp[:8] != claim.date:
            raise S3Error(
                code,
                f'Invalid credential date "{claim.date}". This date is not the same as '
                f'X-Amz-Date: "{claim.timestamp[:8]}".',
            )

    def _check_time(self, claim: Claim) -> None:
        now_ms = self._clock.now_ms()
        signed_ms = sigv4.amz_date_ms(claim.timestamp)
        if claim.presigned:
            if signed_ms > now_ms + SKEW_MS_MAX:
                raise S3Error("AccessDenied", "Request is not valid yet")
            expires_ms = signed_ms + claim.expires_s * 1000
            if now_ms > expires_ms:
                raise S3Error(
                    "AccessDenied",
                    "Request has expired",
                    **{
                        "X-Amz-Expires": str(claim.expires_s),
                        "Expires": iso_date(expires_ms),
                        "ServerTime": iso_date(now_ms),
                    },
                )
        elif abs(now_ms - signed_ms) > SKEW_MS_MAX:
            raise S3Error(
                "RequestTimeTooSkewed",
                RequestTime=http_date(signed_ms),
                ServerTime=iso_date(now_ms),
                MaxAllowedSkewMilliseconds=str(SKEW_MS_MAX),
            )

    async def _credential(self, access_key: str) -> Credential:
        now = self._clock.monotonic()
        cached = self._credentials.get(access_key)
        if cached is not None and now - cached[0] < self._cache_s:
            return cached[1]
        try:
            found = await self._control.ask(GetCredential(access_key=access_key), Credential)
        except AtollError as error:
            self._credentials.pop(access_key, None)
            if error.kind is Kind.KEY_NOT_FOUND:
                raise S3Error("InvalidAccessKeyId", AWSAccessKeyId=access_key) from error
            raise
        if found.status != "active":
            raise S3Error("InvalidAccessKeyId", AWSAccessKeyId=access_key)
        self._credentials[access_key] = (now, found)
        self._credentials.move_to_end(access_key)
        if len(self._credentials) > CREDENTIALS_MAX:
            self._credentials.popitem(last=False)
        return found

    def _signing_key(self, secret: str, date: str, region: str) -> bytes:
        name = (secret, date, region)
        key = self._keys.get(name)
        if key is None:
            key = self._keys[name] = sigv4.signing_key(secret, date, region)
            if len(self._keys) > SIGNING_KEYS_MAX:
                self._keys.popitem(last=False)
        return key

    def _check_signature(self, request: Request, claim: Claim, credential: Credential) -> None:
        key = self._signing_key(credential.secret, claim.date, claim.region)
        headers = [(name, request.headers.get(name, "")) for name in claim.signed_headers]
        query = sigv4.canonical_query(request.pairs)
        scope = sigv4.scope_of(claim.date, claim.region, claim.service)
        path = sigv4.canonical_path(request.raw_path)
        canonical = sigv4.canonical_request(
            request.method, path, query, headers, claim.payload_hash
        )
        text = sigv4.string_to_sign(claim.timestamp, scope, canonical)
        if sigv4.same(sigv4.sign(key, text), claim.signature):
            return
        # Some clients sign the path as they wrote it, encoded otherwise than AWS would.
        as_sent = request.raw_path.decode("latin-1")
        if as_sent != path:
            other = sigv4.canonical_request(
                request.method, as_sent, query, headers, claim.payload_hash
            )
            second = sigv4.string_to_sign(claim.timestamp, scope, other)
            if sigv4.same(sigv4.sign(key, second), claim.signature):
                return
        raise S3Error(
            "SignatureDoesNotMatch",
            AWSAccessKeyId=claim.access_key,
            StringToSign=text,
            SignatureProvided=claim.signature,
            CanonicalRequest=canonical,
        )

    @staticmethod
    def _check_token(request: Request) -> None:
        """Refuse session tokens: no session was ever given out by this endpoint."""
        if "x-amz-security-token" in request.headers or "X-Amz-Security-Token" in request.query:
            raise S3Error("InvalidToken")


def read_claim(request: Request) -> Claim:
    """Return what the request claims. Raises the exact ``S3Error`` for none or a broken one."""
    header = request.headers.get("authorization")
    presigned = "X-Amz-Algorithm" in request.query
    if header is not None and presigned:
        raise S3Error(
            "InvalidArgument",
            "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, "
            "Signature query string parameter or the Authorization header should be specified",
            ArgumentName="Authorization",
            ArgumentValue=header,
        )
    if presigned:
        return _query_claim(request)
    if header is None:
        raise S3Error("AccessDenied")
    scheme, _, rest = header.partition(" ")
    if scheme == "AWS":
        raise S3Error("InvalidRequest", _SIGV2_REFUSED)
    if scheme.startswith("AWS4-ECDSA"):
        raise not_implemented("AWS4-ECDSA-P256-SHA256")
    if scheme != sigv4.ALGORITHM:
        raise invalid_argument("Authorization", header, "Unsupported Authorization Type")
    return _header_claim(request, rest)


def _header_claim(request: Request, rest: str) -> Claim:
    code = "AuthorizationHeaderMalformed"
    fields: dict[str, str] = {}
    for part in rest.split(","):
        name, _, value = part.strip().partition("=")
        fields[name] = value
    for name in ("Credential", "SignedHeaders", "Signature"):
        if not fields.get(name):
            raise S3Error(
                code, f"The authorization header is malformed; {name} is missing or empty."
            )
    access_key, date, region, service = _credential_scope(fields["Credential"], code)
    payload = request.headers.get("x-amz-content-sha256")
    if payload is None:
        raise S3Error(
            "InvalidRequest", "Missing required header for this request: x-amz-content-sha256"
        )
    _check_payload_hash(payload)
    return Claim(
        access_key=access_key,
        date=date,
        region=region,
        service=service,
        signed_headers=tuple(fields["SignedHeaders"].lower().split(";")),
        signature=fields["Signature"],
        timestamp=_header_timestamp(request.headers),
        payload_hash=payload,
        presigned=False,
    )


def _header_timestamp(headers: Mapping[str, str]) -> str:
    try:
        if "x-amz-date" in headers:
            timestamp = headers["x-amz-date"]
            sigv4.amz_date_ms(timestamp)
            return timestamp
        return sigv4.amz_date(parse_date(headers["date"]))
    except (KeyError, ValueError, OverflowError) as cause:
        raise S3Error(
            "AccessDenied", "AWS authentication requires a valid Date or x-amz-date header"
        ) from cause


def _query_claim(request: Request) -> Claim:
    code = "AuthorizationQueryParametersError"
    query = request.query
    if query["X-Amz-Algorithm"] != sigv4.ALGORITHM:
        if query["X-Amz-Algorithm"].startswith("AWS4-ECDSA"):
            raise not_implemented("AWS4-ECDSA-P256-SHA256")
        raise S3Error(code, 'X-Amz-Algorithm only supports "AWS4-HMAC-SHA256"')
    needed = ("Credential", "Date", "Expires", "SignedHeaders", "Signature")
    if any(not query.get(f"X-Amz-{name}") for name in needed):
        raise S3Error(
            code,
            "Query-string authentication version 4 requires the X-Amz-Algorithm, "
            "X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and "
            "X-Amz-Expires parameters.",
        )
    access_key, date, region, service = _credential_scope(query["X-Amz-Credential"], code)
    try:
        sigv4.amz_date_ms(query["X-Amz-Date"])
    except ValueError as cause:
        raise S3Error(
            code, "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\""
        ) from cause
    expires = query["X-Amz-Expires"]
    if expires.startswith("-"):
        raise S3Error(code, "X-Amz-Expires must be non-negative")
    if not (expires.isascii() and expires.isdigit() and len(expires) < 10):
        raise S3Error(code, "X-Amz-Expires should be a number")
    if int(expires) > sigv4.PRESIGN_SECONDS_MAX:
        raise S3Error(code, "X-Amz-Expires must be less than a week (in seconds) 604800")
    signed = tuple(query["X-Amz-SignedHeaders"].lower().split(";"))
    payload = query.get("X-Amz-Content-Sha256") or sigv4.UNSIGNED_PAYLOAD
    if "x-amz-content-sha256" in signed:
        payload = request.headers.get("x-amz-content-sha256", payload)
    _check_payload_hash(payload)
    return Claim(
        access_key=access_key,
        date=date,
        region=region,
        service=service,
        signed_headers=signed,
        signature=query["X-Amz-Signature"],
        timestamp=query["X-Amz-Date"],
        payload_hash=payload,
        presigned=True,
        expires_s=int(expires),
    )


def _credential_scope(text: str, code: str) -> tuple[str, str, str, str]:
    parts = text.rsplit("/", 4)
    if len(parts) != 5 or not all(parts) or parts[4] != "aws4_request":
        raise S3Error(
            code,
            "The Credential is mal-formed; expecting "
            '"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request".',
        )
    return parts[0], parts[1], parts[2], parts[3]


def _check_payload_hash(value: str) -> None:
    if value in _PAYLOADS or _HEX_SHA256.match(value):
        return
    if value.startswith("STREAMING-AWS4-ECDSA"):
        raise not_implemented(value)
    raise invalid_argument(
        "x-amz-content-sha256",
        value,
        "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, "
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a "
        "valid sha256 value.",
    )


def _check_signed_headers(request: Request, claim: Claim) -> None:
    signed = claim.signed_headers
    missing = [
        name
        for name in request.headers
        if (name == "host" or name.startswith("x-amz-")) and name not in signed
    ]
    if claim.presigned and "x-amz-content-sha256" in missing:
        # It is not believed either: the payload hash of a presigned request is in its query.
        missing.remove("x-amz-content-sha256")
    if "host" not in signed and "host" not in missing:
        missing.append("host")
    if missing:
        raise S3Error(
            "AccessDenied",
            "There were headers present in the request which were not signed",
            HeadersNotSigned=", ".join(missing),
        )
