"""What holds for all tests."""

from __future__ import annotations

from hypothesis import settings

# How long an example takes says something about the machine, which tests share with others.
settings.register_profile("patient", parent=settings.default, deadline=None)
settings.load_profile("patient")
