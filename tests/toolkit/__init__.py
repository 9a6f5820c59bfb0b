"""Tests of `ibtfs.toolkit`: the building blocks."""
