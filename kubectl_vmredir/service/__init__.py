"""The application: all that a user interface may know."""
