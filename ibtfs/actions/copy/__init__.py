"""Copying backup points of one repository into another."""
