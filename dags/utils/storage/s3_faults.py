"""Map S3 error codes, HTTP statuses and botocore's classes to Delaywatch errors and messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from utils.errors import DelaywatchError, InvalidInput, Missing, Unavailable
from utils.settings import Settings

TRIES = 4  # per request to S3, including the first try

MAY_PASS = {"408", "409", "425", "429"}  # 4xx statuses that may not occur again on a later try

Fault = tuple[type[DelaywatchError], str]  # `s3_error` fills in the names in braces

_NO_ANSWER = Unavailable, "S3{at} does not answer while {doing}; start it or correct AWS_ENDPOINT_URL."
_BROKEN = Unavailable, "S3{at} broke the connection while {doing}; run the step again."
_BUSY = (
    Unavailable,
    "S3{at} answered {code} in each of {tries} tries while {doing}; wait a few minutes and run the step again.",
)
_UNKNOWN = Unavailable, "S3{at} failed while {doing} ({code}); look up the code in its manual and run the step again."
_FULL = Unavailable, "No space left on S3{at} while {doing}; free some space and run the step again."
_CHANGED = Unavailable, "The object changed while {doing}; run the step again after its upload has ended."
_GONE = Missing, "An object has disappeared while {doing}; restore it and run the step again."
_KEYS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the connection aws_default."
_TLS = (
    InvalidInput,
    "The TLS connection to S3{at} failed while {doing}; if the server has no TLS, write http:// in AWS_ENDPOINT_URL, "
    "otherwise set AWS_CA_BUNDLE to its certificate.",
)
_REFUSED = (
    InvalidInput,
    "S3{at} refuses the request while {doing} ({code}); look up the code in its manual and correct the settings.",
)
_NAME = InvalidInput, "The name of the bucket in {lake} is not allowed by S3; correct DELAYWATCH_LAKE."
_TOKEN = InvalidInput, "The S3 session token is invalid or has expired; renew the credentials of {lake}."
_DENIED = (
    InvalidInput,
    "No permission on {lake} while {doing}; allow this key to list, read, write and delete there.",
)
_CLOSED = InvalidInput, "S3{at} has closed the bucket or the account of {lake}; ask its provider."
_ELSEWHERE = (
    InvalidInput,
    "S3{at} says that {lake} is in another region or at another address; correct AWS_DEFAULT_REGION and "
    "AWS_ENDPOINT_URL, or aws_default.",
)

FAULTS: Mapping[str, Fault] = {
    # Classes of botocore, for requests without an answer.
    "ConnectionError": _NO_ANSWER,
    "ReadTimeoutError": _NO_ANSWER,
    "HTTPClientError": _BROKEN,
    "IncompleteReadError": _BROKEN,
    "CertificateExpired": (
        InvalidInput,
        "The certificate of S3{at} has expired; renew it there, then run the step again.",
    ),
    "SSLError": _BROKEN,  # a restarting server or load balancer aborts handshakes
    "CertificateUnknown": _TLS,
    "NoTls": _TLS,
    "EndpointProviderError": (
        InvalidInput,
        "The S3 endpoint{at} is not a URL; set AWS_ENDPOINT_URL to a URL such as http://localhost:8333.",
    ),
    "InvalidRegionError": (
        InvalidInput,
        "{region} is not a region of S3; correct AWS_DEFAULT_REGION or aws_default.",
    ),
    # At AWS the machine's role may provide keys; the metadata service does not always answer.
    "NoRole": (
        Unavailable,
        "The S3 credentials for {lake} are missing; give this machine a role that may use the bucket, or " + _KEYS,
    ),
    "NoCredentialsError": (InvalidInput, "The S3 credentials for {lake} are missing; " + _KEYS),
    "PartialCredentialsError": (InvalidInput, "One of the two S3 credentials for {lake} is missing; " + _KEYS),
    "ProfileNotFound": (InvalidInput, "The profile in AWS_PROFILE is not in ~/.aws; correct AWS_PROFILE."),
    "ParamValidationError": _NAME,
    # Error codes of S3.
    "InvalidBucketName": _NAME,
    "NoSuchBucket": (
        Missing,
        "The bucket of the lake {lake} does not exist{at}; correct DELAYWATCH_LAKE, or create it with "
        "`aws s3 mb s3://{bucket}`.",
    ),
    "InvalidAccessKeyId": (
        InvalidInput,
        "S3{at} does not know this access key; correct AWS_ACCESS_KEY_ID or aws_default.",
    ),
    "SignatureDoesNotMatch": (
        InvalidInput,
        "S3{at} rejects the secret key; correct AWS_SECRET_ACCESS_KEY or aws_default.",
    ),
    "InvalidToken": _TOKEN,
    "ExpiredToken": _TOKEN,
    "TokenRefreshRequired": _TOKEN,
    "RequestTimeTooSkewed": (
        InvalidInput,
        "The clock of this machine differs too much from the clock of S3; set the time (for example with chrony).",
    ),
    "AuthorizationHeaderMalformed": _ELSEWHERE,
    "PermanentRedirect": _ELSEWHERE,
    "AccessDenied": _DENIED,
    "Forbidden": _DENIED,
    "AllAccessDisabled": _CLOSED,
    "AccountProblem": _CLOSED,
    "InsufficientStorage": _FULL,
    "NoSuchKey": _GONE,
    "InvalidObjectState": (
        InvalidInput,
        "S3{at} keeps an object in its archive, so {doing} failed; restore it and run the step again.",
    ),
    "NotImplemented": (
        InvalidInput,
        "S3{at} does not support the request while {doing}; choose a server with conditional writes (If-Match on PUT), "
        "such as AWS or SeaweedFS.",
    ),
    "PreconditionFailed": _CHANGED,
    "SlowDown": _BUSY,
    "ServiceUnavailable": _BUSY,
    "InternalError": _BUSY,
    "RequestTimeout": _BUSY,
    # HTTP statuses; answers to HEAD have no error code.
    "301": _ELSEWHERE,
    "403": _DENIED,
    "404": _GONE,
    "412": _CHANGED,
    "500": _BUSY,
    "502": _BUSY,
    "503": _BUSY,
    "504": _BUSY,
    "507": _FULL,
}


def s3_error(codes: Sequence[str], settings: Settings, endpoint: str | None, doing: str) -> DelaywatchError:
    """Return the error for the first known code.

    codes: S3 error code and HTTP status, or botocore classes, most specific first. endpoint: the address of an S3
    server other than AWS. doing: the request in words, for the message.
    """
    is_refused = any(code.isdigit() and 400 <= int(code) < 500 and code not in MAY_PASS for code in codes)
    kind, message = next((FAULTS[code] for code in codes if code in FAULTS), _REFUSED if is_refused else _UNKNOWN)
    text = message.format(
        at=f" at {endpoint}" if endpoint else "",
        doing=doing,
        code=codes[0],
        tries=TRIES,
        lake=settings.lake,
        bucket=settings.lake.partition("://")[2].partition("/")[0],
        region=settings.aws_region or "The default",
    )
    return kind(text)
