"""Tests of `ibtfs.actions.restore`."""
