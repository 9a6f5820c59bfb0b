"""Addresses of the same folder of another machine are one, however they are spelt."""

from __future__ import annotations

import pytest

from ibtfs.store.storage.address import canonical

SAME = [
    [b"ssh://me@host/srv/backups", b"sftp://me@HOST:22/srv//backups/", b"me@host:/srv/backups",
     b"SFTP://me@host./srv/./backups", b"sftp://host/srv/backups", b"ssh://me@host/srv/%62ackups"],
    [b"you@host:/srv/backups"],
    [b"sftp://me@host:2222/srv/backups", b"ssh://host:2222/srv/backups//"],
    [b"me@host:backups", b"me@host:~/backups", b"ssh://me@host/~/backups", b"sftp://host/~/backups/"],
    [b"sftp://me@[2001:DB8::1]/backups", b"me@[2001:db8::1]:/backups"],
    [b"davs://me:secret@host/dav/backups", b"davs://me@HOST:443/dav/backups/",
     b"dav://me@host:80/dav//backups", b"dav://me:other@host/dav/backups"],
    [b"davs://host/dav/backups"],
    [b"davs://me@host:8443/dav/backups"],
    [b"s3://bucket/some/prefix", b"s3://bucket/some/prefix/?region=eu-west-1",
     b"S3://bucket/some/prefix?profile=me",
     b"s3://bucket/some/prefix?endpoint=https://s3.eu-west-1.amazonaws.com"],
    [b"s3://bucket/some/prefix?endpoint=https://host",
     b"s3://bucket/some/prefix?endpoint=https://HOST:443/"],
    [b"s3://bucket/some/prefix?endpoint=http://host:9000"],
    [b"s3://bucket"],
]  # fmt: skip


@pytest.mark.parametrize("spellings", SAME)
def test_spellings_of_one_place(spellings: list[bytes]) -> None:
    found = {canonical(one, "me") for one in spellings}
    assert len(found) == 1
    others = [canonical(one, "me") for same in SAME if same != spellings for one in same]
    assert not found.intersection(others)
