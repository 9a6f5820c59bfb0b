"""Tests of `ibtfs.store.contents`: reading the bytes of files through their chains."""
