"""What AWS's tools know of S3: the environment, and the profiles in ``~/.aws``.

The environment is read by the standard library, as a shell would; what is not asked for here, such
as AWS_CA_BUNDLE or the keys of a machine of AWS, the library that speaks S3 finds for itself.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping
from typing import NamedTuple

from ibtfs.errors import StorageFailed
from ibtfs.store.storage.address import S3Address, check_endpoint

_ELSEWHERE = ("sso_session", "sso_start_url", "credential_process", "role_arn", "login_session")
"""How a profile may get its keys, other than by having them."""


class Keys(NamedTuple):
    """What requests are signed with; *token* may be empty."""

    access: str
    secret: str
    token: str

    def __repr__(self) -> str:
        return "Keys()"


class Settings(NamedTuple):
    """How S3 is reached; what is empty, or None, the library finds for itself."""

    endpoint: str
    region: str
    keys: Keys | None


def settings_of(address: S3Address) -> Settings:
    """How *address* is reached.

    The address comes first, then the environment, then the profile, as AWS's tools have it.
    Raises StorageFailed, UsageError.
    """
    shown = f"s3://{address.bucket}"
    name = address.profile or _said("AWS_PROFILE")
    profile = _profile(name or "default", shown)
    if name and not profile:
        raise StorageFailed(
            f"{shown}: there is no profile {name!r} in ~/.aws/config or ~/.aws/credentials"
        )
    said = _said("AWS_ENDPOINT_URL_S3") or _said("AWS_ENDPOINT_URL")
    endpoint = address.endpoint or (said or profile.get("endpoint_url", "")).rstrip("/")
    if endpoint:
        check_endpoint(endpoint, shown)
    region = _said("AWS_REGION") or _said("AWS_DEFAULT_REGION") or profile.get("region", "")
    is_signed = bool(_said("AWS_ACCESS_KEY_ID")) and not address.profile
    keys = None if is_signed else _keys(profile, name or "default", shown)
    return Settings(endpoint, address.region or region, keys)


def _said(name: str) -> str:
    """What the environment says of *name*; empty if nothing."""
    word = f"${{{name}}}"
    found = os.path.expandvars(word)
    return "" if found == word else found.strip()


def _keys(profile: Mapping[str, str], name: str, shown: str) -> Keys | None:
    access, secret = profile.get("aws_access_key_id"), profile.get("aws_secret_access_key")
    if access and secret:
        return Keys(access, secret, profile.get("aws_session_token", ""))
    for way in _ELSEWHERE:
        if way in profile:
            raise StorageFailed(
                f"{shown}: the profile {name!r} gets its keys by {way}, which is not known here; "
                f'eval "$(aws configure export-credentials --profile {name} --format env)" '
                "has them in the environment"
            )
    return None


def _profile(name: str, shown: str) -> dict[str, str]:
    """What the files of AWS's tools say of the profile *name*; the one of keys comes first."""
    config = _said("AWS_CONFIG_FILE") or "~/.aws/config"
    keys = _said("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials"
    title = name if name == "default" else f"profile {name}"
    return {**_section(config, title, shown), **_section(keys, name, shown)}


def _section(path: str, title: str, shown: str) -> dict[str, str]:
    parser = configparser.RawConfigParser(strict=False, default_section="", delimiters=("=",))
    try:
        with open(os.path.expanduser(path), encoding="utf-8") as file:
            parser.read_file(file)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise StorageFailed(f"{shown}: {path} cannot be read: {error.strerror}") from error
    except (configparser.Error, UnicodeDecodeError):
        # what it says of its lines may be a secret
        raise StorageFailed(f"{shown}: {path} is not a file of AWS's tools") from None
    return dict(parser.items(title)) if parser.has_section(title) else {}
