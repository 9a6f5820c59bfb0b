"""Tests of `ibtfs.store.writing`: what a run writes, and knows of what is there."""
