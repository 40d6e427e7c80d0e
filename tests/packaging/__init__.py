"""What a user installs, and the commands a developer types."""
