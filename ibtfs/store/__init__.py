"""The repository on a disk: storage, archives, caches, contents, directory states, locks."""
