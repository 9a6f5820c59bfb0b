"""Tests of `ibtfs.cli`: the command as a user meets it."""
