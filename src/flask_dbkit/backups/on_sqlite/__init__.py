"""Backups of SQLite files."""
