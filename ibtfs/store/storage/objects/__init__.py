"""Repositories in storages of objects, which know neither folders that are synced nor locks."""
