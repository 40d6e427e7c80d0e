"""Transaction scopes: who commits, who joins, what is retried."""
