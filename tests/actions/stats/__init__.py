"""Tests of `ibtfs.actions.stats`."""
