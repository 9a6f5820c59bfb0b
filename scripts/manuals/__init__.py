"""Pages that are made: the manual's page of commands, from click, and man pages, by docutils."""
