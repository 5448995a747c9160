"""The doctor's look at the real libraries."""

from __future__ import annotations

import re

import pytest

from kubectl_vmredir.model import Outcome
from kubectl_vmredir.usb.doctor import LIBRARIES, check_library
from kubectl_vmredir.usb.tree import Tree

pytestmark = pytest.mark.native


def test_each_library_is_found_with_its_version() -> None:
    checks = {library.name: check_library(Tree(), library) for library in LIBRARIES}

    assert {check.outcome for check in checks.values()} == {Outcome.OK}
    assert re.match(r"version 1\.0\.\d+, loaded from /\S+", checks["libusb"].message)
    assert re.match(r"version 1\.\d+\.\d+, loaded from /\S+", checks["libusbredirhost"].message)
