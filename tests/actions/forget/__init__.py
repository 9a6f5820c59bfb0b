"""Tests of `ibtfs.actions.forget`."""
