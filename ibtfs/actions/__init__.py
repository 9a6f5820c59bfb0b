"""The verbs: what can be done with a repository, one module each; nothing here prints."""
