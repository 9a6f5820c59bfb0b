"""Tests of `ibtfs.store.removal`."""
