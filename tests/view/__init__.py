"""Tests of `ibtfs.view`: what a mount shows, looked at without mounting it."""
