"""Tests of `ibtfs.actions.source`: looking at what is to be backed up."""
