"""Tests of `ibtfs.store.archives`: files of frames, read and written."""
