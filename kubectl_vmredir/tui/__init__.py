"""The terminal user interface. It knows the service interface, and nothing behind it."""
