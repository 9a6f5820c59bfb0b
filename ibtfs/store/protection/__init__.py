"""Parity: what a repository keeps beside its objects to heal them by."""
