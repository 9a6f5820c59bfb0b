"""Tests of `ibtfs.fuse`: real mounts, through each binding."""
