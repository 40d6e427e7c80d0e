"""Database errors as good answers."""
