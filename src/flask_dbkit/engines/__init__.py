"""From a URL to an engine, over Flask-SQLAlchemy."""
