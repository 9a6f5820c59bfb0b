"""Who asks a WebDAV server: a user and a password, as Basic or Digest authentication has them."""

from __future__ import annotations

import base64
import hashlib
import netrc
import re
import secrets
import threading
from collections.abc import Sequence
from urllib.request import parse_http_list, parse_keqv_list

from ibtfs.errors import StorageFailed

_DIGESTS = {"MD5": hashlib.md5, "SHA-256": hashlib.sha256}
_SCHEME = re.compile(r"(?:^|,)\s*(Basic|Digest)(?=\s|,|$)", re.IGNORECASE)


def known_login(host: str, user: str) -> tuple[str, str]:
    """What ``~/.netrc`` has for *host*, and for *user* if that is not empty; else two empty texts.

    Raises StorageFailed.
    """
    try:
        found = netrc.netrc().authenticators(host)
    except FileNotFoundError:
        return "", ""
    except netrc.NetrcParseError as error:
        # its message may hold a word of the file
        line = f", line {error.lineno}" if error.lineno else ""
        raise StorageFailed(
            f"~/.netrc{line}: cannot be used; only its owner may be able to read it"
        ) from None
    except (OSError, UnicodeError) as error:
        raise StorageFailed(f"~/.netrc: cannot be read: {error}") from error
    if found is None or (user and found[0] != user):
        return "", ""
    return found[0], found[2] or ""


class Login:
    """Answers what a server asks for; threads may share it.

    If *at_once*, the password is sent before it is asked for.
    """

    def __init__(self, user: str, password: str, *, at_once: bool) -> None:
        self._user, self._password = user, password
        self._is_known = bool(password)
        self._lock = threading.Lock()
        self._basic = at_once
        self._digest: dict[str, str] = {}
        self._count = 0

    def header(self, method: str, path: str) -> str:
        """What is to be said with a request; empty if nothing is."""
        if not self._is_known:
            return ""
        with self._lock:
            if self._digest:
                self._count += 1
                return self._digest_header(self._digest, self._count, method, path)
        if not self._basic:
            return ""
        return "Basic " + base64.b64encode(f"{self._user}:{self._password}".encode()).decode()

    def asked(self, challenges: Sequence[str], said: str) -> bool:
        """The server refused what was *said*, and asks by *challenges*.

        Whether there is something else to say.
        """
        if not self._is_known:
            return False
        found = dict(_challenges(challenges))
        digest = found.get("digest", {})
        can_digest = (
            digest.get("algorithm", "MD5").upper() in _DIGESTS
            and {"nonce", "realm"} <= digest.keys()
            and ("qop" not in digest or "auth" in re.split(r"[\s,]+", digest["qop"]))
        )
        with self._lock:
            if can_digest:
                self._digest, self._count = digest, 0
                # the same question again means a wrong answer, unless that was too old
                is_stale = digest.get("stale", "").lower() == "true"
                return is_stale or not said.startswith("Digest")
            self._basic = "basic" in found
            return self._basic and not said.startswith("Basic")

    def _digest_header(self, asked: dict[str, str], count: int, method: str, path: str) -> str:
        make = _DIGESTS[asked.get("algorithm", "MD5").upper()]

        def digest(*words: str) -> str:
            return make(":".join(words).encode()).hexdigest()

        who = digest(self._user, asked["realm"], self._password)
        what = digest(method, path)
        fields = {"username": self._user, "realm": asked["realm"], "nonce": asked["nonce"],
                  "uri": path}  # fmt: skip
        bare = {}
        if "qop" in asked:
            fields["cnonce"] = secrets.token_hex(8)
            bare = {"nc": f"{count:08x}", "qop": "auth"}
            words = (asked["nonce"], bare["nc"], fields["cnonce"], "auth")
            fields["response"] = digest(who, *words, what)
        else:
            fields["response"] = digest(who, asked["nonce"], what)
        if "opaque" in asked:
            fields["opaque"] = asked["opaque"]
        if "algorithm" in asked:
            bare["algorithm"] = asked["algorithm"]
        said = [f"{name}={_quoted(value)}" for name, value in fields.items()]
        said += [f"{name}={value}" for name, value in bare.items()]
        return ("Digest " + ", ".join(said)).encode().decode("latin-1")


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _challenges(headers: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    """The schemes that are asked for, and what belongs to each."""
    found = []
    for header in headers:
        pieces = _SCHEME.split(header)
        for scheme, text in zip(pieces[1::2], pieces[2::2]):
            words = [word for word in parse_http_list(text.strip().strip(",")) if "=" in word]
            fields = {name.lower(): value for name, value in parse_keqv_list(words).items()}
            found.append((scheme.lower(), fields))
    return found
