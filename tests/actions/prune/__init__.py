"""Tests of `ibtfs.actions.prune`."""
