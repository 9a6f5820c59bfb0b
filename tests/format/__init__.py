"""Tests of `ibtfs.format`: pure code, bytes to values and back; no disk, no mount."""
