"""Tests of `ibtfs.store`: a repository and what lies in it."""
