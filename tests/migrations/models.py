"""What a revision should not import."""


class Team:
    """A model."""
