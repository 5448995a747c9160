"""Composition root: options -> a service with its adapters."""
