"""Tests of `ibtfs.actions`: the verbs, called as functions."""
