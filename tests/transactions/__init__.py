"""Transaction scopes on every database."""
