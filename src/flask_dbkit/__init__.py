"""The data layer of a Flask application, done once and done right."""
