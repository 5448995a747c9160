from __future__ import annotations

import pytest

from kubectl_vmredir.errors import RedirectRefused
from kubectl_vmredir.k8s.redirects import follow

ASKED = "https://api:6443/k8s/apis/x?watch=1"


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/elsewhere", "https://api:6443/elsewhere"),
        ("y", "https://api:6443/k8s/apis/y"),
        ("https://api:6443/z", "https://api:6443/z"),
        ("https://API:6443/z", "https://API:6443/z"),
        ("//api:6443/z", "https://api:6443/z"),
    ],
)
def test_same_server_is_followed(location: str, target: str) -> None:
    assert follow(ASKED, location) == target


def test_default_port_is_the_same_server() -> None:
    assert follow("https://api/x", "https://api:443/y") == "https://api:443/y"


@pytest.mark.parametrize(
    "location",
    [
        "http://api:6443/x",
        "https://api:6444/x",
        "https://api/x",
        "https://other:6443/x",
        "https://api.evil:6443/x",
        "https://user:pass@api:6443/x",
        "https://api:6443@evil/x",
        "//evil:6443/x",
        "javascript:alert(1)",
        "https://[broken",
    ],
)
def test_another_server_is_refused_by_name(location: str) -> None:
    with pytest.raises(RedirectRefused, match="the API server sends us to") as caught:
        follow(ASKED, location)

    assert "pass" not in str(caught.value)


def test_target_is_shown_without_what_may_be_a_secret() -> None:
    with pytest.raises(RedirectRefused) as caught:
        follow(ASKED, "https://sso.example/login?state=s3cret\x1b[2J#s3cret")

    assert "sends us to https://sso.example/login;" in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
