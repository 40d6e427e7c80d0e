"""Backups of MySQL and MariaDB."""
