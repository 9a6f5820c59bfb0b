"""Tests of `ibtfs.store.storage`: what every place for objects must do."""
