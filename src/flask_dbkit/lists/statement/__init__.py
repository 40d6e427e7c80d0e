"""What a statement lists, and what is unique in each of its rows."""
