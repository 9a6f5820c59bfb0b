"""What a server of S3, or the way to it, refused: in words of ours."""

from __future__ import annotations

import re

from ibtfs.errors import StorageFailed, StorageFull
from ibtfs.store.storage.objects.client import NotReached

_STATUS = re.compile(r"Server returned non-2xx status code: (\d{3})")
_CODE = re.compile(r"<Code>\s*([A-Za-z0-9_.-]{1,80})\s*</Code>")
_MESSAGE = re.compile(r"<Message>([^<]{1,300})</Message>")
_FULL = re.compile(r"quota|storagefull|insufficientstorage|cap exceeded|no space", re.IGNORECASE)
_LATER = {"RequestTimeout", "SlowDown", "InternalError", "ServiceUnavailable", "OperationAborted",
          "Throttling", "ThrottlingException", "TooManyRequests", "ConditionalRequestConflict",
          "RequestLimitExceeded", "BandwidthLimitExceeded", "Busy"}  # fmt: skip
_REGION = {"PermanentRedirect", "AuthorizationHeaderMalformed", "TemporaryRedirect",
           "IllegalLocationConstraintException"}  # fmt: skip
_NO_KEYS = re.compile(
    r"/latest/(?:api/token|meta-data/)|169\.254\.170\.2\b|MissingAccessKeyId|MissingSecretAccessKey"
)
_HELP = "see `ibtfs help remote`"


def status_of(error: Exception) -> int:
    """The status of HTTP that a server answered; 0 if it did not."""
    found = _STATUS.search(str(error))
    return int(found[1]) if found else 0


def code_of(error: Exception) -> str:
    """What S3 calls an error; empty if it was not told."""
    found = _CODE.search(str(error))
    return found[1] if found else ""


def refusal(error: Exception, shown: str) -> NotReached | StorageFailed | StorageFull:
    """What is to be raised for an *error* of the library that speaks S3; *shown* is where."""
    text = str(error)
    if _NO_KEYS.search(text.partition("<")[0]):
        return StorageFailed(f"{shown}: no keys for S3 were found; {_HELP}")
    status, code = status_of(error), code_of(error)
    if not status and not code:
        return _lost(text, shown)
    message = _MESSAGE.search(text)
    what = code or f"status {status}"
    detail = f"{what}: {message[1]}" if message else what
    if status == 507 or _FULL.search(detail):
        return StorageFull(f"{shown}: no room is left ({detail})")
    if code in _LATER or status in {408, 429} or (status >= 500 and status != 501):
        return NotReached(what)
    return StorageFailed(f"{shown}: {_told(status, code, detail)}")


def _told(status: int, code: str, detail: str) -> str:
    """What a server refused for good, and what can be done."""
    if code == "NoSuchBucket":
        return "there is no such bucket; make it first"
    if code == "RequestTimeTooSkewed":
        return "the clock of this machine is wrong, says the server"
    if code in _REGION or status in {301, 307, 308}:
        return f"another region or endpoint is the right one ({detail})"
    if status in {401, 403}:
        return (
            f"the server refuses access ({detail}): "
            f"are these the right keys, and may they do this? {_HELP}"
        )
    return f"the server refuses: {detail}"


def _lost(text: str, shown: str) -> NotReached | StorageFailed:
    """What is to be raised where no server answered."""
    if "certificate" in text:
        return StorageFailed(f"{shown}: the certificate of the server is not trusted")
    if "redirect without LOCATION" in text:
        return StorageFailed(f"{shown}: another region or endpoint is the right one; {_HELP}")
    if "BadScheme" in text or "kind: Builder" in text:
        return StorageFailed(f"{shown}: the endpoint is none; {_HELP}")
    if "HTTP error" in text or "RetryError" in text or "Error performing" in text:
        return NotReached(_reason(text))
    line = " ".join(text.partition("\n\nDebug source")[0].split())
    return StorageFailed(f"{shown}: {line[:300]}")


_REASONS = (
    ("ConnectionRefused", "connection refused"),
    ("dns error", "its name is not known"),
    ("TimedOut", "it does not answer"),
    ("kind: Timeout", "it does not answer"),
    ("kind: Connect", "no connection"),
)


def _reason(text: str) -> str:
    for sign, reason in _REASONS:
        if sign in text:
            return reason
    return "the connection was lost"
