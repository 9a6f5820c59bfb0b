"""Tests of `ibtfs.store.mending`."""
