"""Tests of copying points."""
