"""Tests of taking a path out of the whole history."""
