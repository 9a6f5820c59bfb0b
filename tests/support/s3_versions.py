"""A bucket that keeps every version of each object, as its owner sees it: by plain signed requests.

Signature Version 4 of Amazon, as far as it is needed here.
"""

from __future__ import annotations

import hashlib
import hmac
import time
import urllib.parse
import urllib.request
import xml.etree.ElementTree as ET
from typing import NamedTuple

from tests.support.seaweed import KEY, SECRET

_REGION = "us-east-1"


class Version(NamedTuple):
    """One version of an object; *is_deletion*: it says that there is none any more."""

    key: str
    id: str
    modified: str
    is_deletion: bool


class Bucket:
    """The bucket *name* at *endpoint*; whoever asks may do everything."""

    def __init__(self, endpoint: str, name: str) -> None:
        self._endpoint, self._name = endpoint, name

    def ask(
        self, method: str, key: str = "", query: dict[str, str] | None = None, body: bytes = b"",
        **headers: str,
    ) -> bytes:  # fmt: skip
        """The answer to one request.  Raises HTTPError."""
        path = urllib.parse.quote(f"/{self._name}/{key}" if key else f"/{self._name}")
        words = "&".join(f"{urllib.parse.quote(name, safe='')}={urllib.parse.quote(value, safe='')}"
                         for name, value in sorted((query or {}).items()))  # fmt: skip
        digest, now = hashlib.sha256(body).hexdigest(), time.gmtime()
        host = urllib.parse.urlsplit(self._endpoint).netloc
        signed = {"host": host, "x-amz-content-sha256": digest,
                  "x-amz-date": time.strftime("%Y%m%dT%H%M%SZ", now), **headers}  # fmt: skip
        names = ";".join(sorted(signed))
        lines = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
        asked = "\n".join((method, path, words, lines, names, digest))
        day = time.strftime("%Y%m%d", now)
        scope = f"{day}/{_REGION}/s3/aws4_request"
        text = "\n".join(("AWS4-HMAC-SHA256", signed["x-amz-date"], scope,
                          hashlib.sha256(asked.encode()).hexdigest()))  # fmt: skip
        key_now = f"AWS4{SECRET}".encode()
        for part in (day, _REGION, "s3", "aws4_request", text):
            key_now = hmac.new(key_now, part.encode(), hashlib.sha256).digest()
        authority = (f"AWS4-HMAC-SHA256 Credential={KEY}/{scope}, SignedHeaders={names}, "
                     f"Signature={key_now.hex()}")  # fmt: skip
        request = urllib.request.Request(
            f"{self._endpoint}{path}{'?' * bool(words)}{words}", body or None, method=method,
            headers={**signed, "Authorization": authority},
        )  # fmt: skip
        with urllib.request.urlopen(request) as answer:
            found: bytes = answer.read()
            return found

    def make(self) -> None:
        """Make it, so that it keeps versions, and lets nobody remove one."""
        self.ask("PUT", **{"x-amz-bucket-object-lock-enabled": "true"})
        self.ask("PUT", query={"versioning": ""}, body=(
            b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
        ))  # fmt: skip
        self.ask("PUT", query={"object-lock": ""}, body=(
            b"<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule>"
            b"<DefaultRetention><Mode>COMPLIANCE</Mode><Days>1</Days></DefaultRetention></Rule>"
            b"</ObjectLockConfiguration>"
        ))  # fmt: skip

    def versions(self, prefix: str) -> list[Version]:
        """All versions of all objects under *prefix*, of each the newest first."""
        text = self.ask("GET", query={"versions": "", "prefix": prefix, "max-keys": "1000"})
        found = []
        for one in ET.fromstring(text):
            kind = one.tag.rpartition("}")[2]
            if kind in ("Version", "DeleteMarker"):
                values = {part.tag.rpartition("}")[2]: part.text or "" for part in one}
                found.append(Version(values["Key"], values["VersionId"], values["LastModified"],
                                     kind == "DeleteMarker"))  # fmt: skip
        return found

    def read(self, version: Version) -> bytes:
        """What an object was."""
        return self.ask("GET", version.key, {"versionId": version.id})
