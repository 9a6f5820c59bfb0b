"""What a repository takes, what each point costs, and which paths cost most."""
