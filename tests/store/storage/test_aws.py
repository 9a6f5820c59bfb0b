"""Addresses of S3, and what AWS's tools know: the environment and the files of profiles."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibtfs.errors import StorageFailed, UsageError
from ibtfs.store.storage.address import S3Address, address_of, at_endpoint, is_remote
from ibtfs.store.storage.objects.aws import Keys, Settings, settings_of
from tests.support.seaweed import KEY, SECRET, aws_environment

PLAIN = S3Address("bucket", "p")
CONFIG = """
[default]
region = eu-default
[profile nas]
region = eu-nas
endpoint_url = http://nas:9000/
s3 =
    max_concurrent_requests = 20
[profile sso]
sso_session = work
"""
KEYS = """
[default]
aws_access_key_id = default-key
aws_secret_access_key = default%secret
[nas]
aws_access_key_id=nas-key
aws_secret_access_key=nas-secret
aws_session_token=nas-token
"""


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (b"s3://bucket", S3Address("bucket", "")),
        (b"S3://bucket/", S3Address("bucket", "")),
        (b"s3://my.bucket-1/a/b/", S3Address("my.bucket-1", "a/b")),
        (b"s3://bucket/a%20b/%3F%23%25", S3Address("bucket", "a b/?#%")),
        ("s3://bucket/ä b#c".encode(), S3Address("bucket", "ä b#c")),
        (b"s3://bucket/a@b:c", S3Address("bucket", "a@b:c")),
        (b"s3://bucket/p?endpoint=http://127.0.0.1:8333/&region=eu-1&profile=nas%201",
         S3Address("bucket", "p", "http://127.0.0.1:8333", "eu-1", "nas 1")),
        (b"s3://bucket?endpoint=https://h.example/storage/v1",
         S3Address("bucket", "", "https://h.example/storage/v1")),
        (b"s3://bucket?endpoint=http://[::1]:9", S3Address("bucket", "", "http://[::1]:9")),
    ],
)  # fmt: skip
def test_addresses(text: bytes, address: S3Address) -> None:
    assert is_remote(text)
    assert address_of(text) == address


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"s3://", "'' cannot be the name of a bucket"),
        (b"s3:///a", "'' cannot be the name of a bucket"),
        (b"s3://ab", "'ab' cannot be"),
        (b"s3://-abc", "'-abc' cannot be"),
        (b"s3://a..b", "'a..b' cannot be"),
        (b"s3://b\xc3\xa4r", "cannot be the name of a bucket"),
        (b"s3://" + b"b" * 64, "cannot be the name of a bucket"),
        (b"s3://key:secret@bucket/p", "keys do not belong into an address"),
        (b"s3://key:secret/p", "keys do not belong into an address"),
        (b"s3://bucket/a//b", "cannot be what keys begin with"),
        (b"s3://bucket/a/../b", "cannot be what keys begin with"),
        (b"s3://bucket/a/.", "cannot be what keys begin with"),
        (b"s3://bucket/a\\b", "cannot be what keys begin with"),
        (b"s3://bucket/a%0Ab", "cannot be what keys begin with"),
        (b"s3://bucket/" + b"a" * 801, "cannot be what keys begin with"),
        (b"s3://bucket/a%FFb", "not text in UTF-8"),
        (b"s3://bucket/a?", ""),
        (b"s3://bucket/a?b", "'b' is not understood"),
        (b"s3://bucket/a?region=", "'region' is not understood"),
        (b"s3://bucket/a?region=a&region=b", "'region' is not understood"),
        (b"s3://bucket/a?secret_access_key=secret", "'secret_access_key' is not understood"),
        (b"s3://bucket/a?endpoint=ftp://h", "its endpoint is not like"),
        (b"s3://bucket/a?endpoint=h:80", "its endpoint is not like"),
        (b"s3://bucket/a?endpoint=https://u:secret@h", "its endpoint is not like"),
        (b"s3://bucket/a?endpoint=https://h:x", "its endpoint is not like"),
        (b"s3://bucket/a?endpoint=https://h:99999", "its endpoint is not like"),
        (b"s3://bucket/a?endpoint=https://", "its endpoint is not like"),
        (b"s3://bucket/a?endpoint=https://h/?secret", "its endpoint is not like"),
        (b"s4://bucket/a", "no storage is called s4://"),
    ],
)
def test_what_is_no_address(text: bytes, words: str) -> None:
    if not words:
        assert address_of(text) == S3Address("bucket", "a")
        return
    with pytest.raises(UsageError) as told:
        address_of(text)
    assert words in str(told.value)
    assert "secret" not in str(told.value).replace("'secret_access_key'", "")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without keys in the environment, and with files of AWS's tools."""
    aws_environment(monkeypatch)
    for name in ("CONFIG_FILE", "SHARED_CREDENTIALS_FILE", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        monkeypatch.delenv(f"AWS_{name}")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/config").write_text(CONFIG)
    (tmp_path / ".aws/credentials").write_text(KEYS)
    return tmp_path


DEFAULT = Keys("default-key", "default%secret", "")
NAS = Keys("nas-key", "nas-secret", "nas-token")


def test_profiles(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings_of(PLAIN) == Settings("", "eu-default", DEFAULT)
    nas = Settings("http://nas:9000", "eu-nas", NAS)
    assert settings_of(PLAIN._replace(profile="nas")) == nas
    monkeypatch.setenv("AWS_PROFILE", "nas")
    assert settings_of(PLAIN) == nas
    assert settings_of(PLAIN._replace(profile="default")).keys == DEFAULT
    assert settings_of(PLAIN._replace(endpoint="http://h", region="r")) == Settings(
        "http://h", "r", NAS
    )
    assert "nas-secret" not in repr(settings_of(PLAIN))


def test_the_environment_comes_before_profiles(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "second")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://second/")
    assert settings_of(PLAIN) == Settings("http://second", "second", None)
    monkeypatch.setenv("AWS_REGION", "first")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://first")
    assert settings_of(PLAIN) == Settings("http://first", "first", None)
    # but not before the profile that the address names
    assert settings_of(PLAIN._replace(profile="nas")).keys == NAS
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "nowhere")
    with pytest.raises(UsageError, match="endpoint is not like"):
        settings_of(PLAIN)


def test_files_elsewhere(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / ".aws/config").rename(home / "c")
    (home / ".aws/credentials").rename(home / "k")
    assert settings_of(PLAIN) == Settings("", "", None)
    monkeypatch.setenv("AWS_CONFIG_FILE", "~/c")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(home / "k"))
    assert settings_of(PLAIN) == Settings("", "eu-default", DEFAULT)


def test_what_is_wrong_with_profiles(home: Path) -> None:
    with pytest.raises(StorageFailed, match="there is no profile 'none'"):
        settings_of(PLAIN._replace(profile="none"))
    with pytest.raises(StorageFailed, match=r"gets its keys by sso_session.*export-credentials"):
        settings_of(PLAIN._replace(profile="sso"))
    for wrong in (b"aws_secret_access_key = SECRET\n", b"[default]\nSECRET\n", b"\xff\xfe"):
        (home / ".aws/credentials").write_bytes(wrong)
        with pytest.raises(StorageFailed, match="is not a file of AWS's tools") as told:
            settings_of(PLAIN)
        assert "SECRET" not in str(told.value)
    (home / ".aws/credentials").unlink()
    (home / ".aws/credentials").mkdir()
    with pytest.raises(StorageFailed, match="cannot be read"):
        settings_of(PLAIN)


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (b"s3://bucket/p", S3Address("bucket", "p", "http://h:1/a b")),
        (b"S3://bucket?profile=x", S3Address("bucket", "", "http://h:1/a b", "", "x")),
        (b"s3://bucket/p?endpoint=http://own", S3Address("bucket", "p", "http://own")),
    ],
)
def test_an_endpoint_is_for_addresses_that_name_none(place: bytes, expected: S3Address) -> None:
    assert address_of(at_endpoint(place, "http://h:1/a b")) == expected


@pytest.mark.parametrize("place", [b"/folder", b"me@host:s3", b"sftp://host/s3", b"davs://h/s3"])
def test_an_endpoint_is_for_no_others(place: bytes) -> None:
    assert at_endpoint(place, "http://h:1") == place
