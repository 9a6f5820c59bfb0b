"""Tests of `ibtfs.actions.repair`."""
