"""Tests of `ibtfs.cli.commands`: one command each."""
