"""Widgets: one per file, none of which knows the service."""
