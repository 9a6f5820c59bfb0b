"""Tests of `ibtfs.actions.backup`."""
