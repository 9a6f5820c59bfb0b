"""Tests of `ibtfs.actions.deltas`."""
