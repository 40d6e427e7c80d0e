"""What goes wrong in a test because of how it is isolated."""

from __future__ import annotations

from ..exceptions import DBKitError

__all__ = ["NeedsRealTransactions", "TestSetupError"]


class NeedsRealTransactions(DBKitError):
    """A test does what one transaction around it cannot play.

    .. versionadded:: 0.1
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"{reason} Mark the test with @pytest.mark.db(transaction=True): it gets real"
            " transactions, and its tables are emptied afterwards. Outside pytest:"
            " isolated(app, transaction=True)."
        )


class TestSetupError(DBKitError):
    """A database for tests cannot be used.

    .. versionadded:: 0.1
    """

    __test__ = False  # pytest collects by name
