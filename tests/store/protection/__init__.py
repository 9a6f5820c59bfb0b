"""Tests of `ibtfs.store.protection`."""
