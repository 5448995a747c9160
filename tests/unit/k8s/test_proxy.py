from __future__ import annotations

import pytest

from kubectl_vmredir.errors import KubeconfigError
from kubectl_vmredir.k8s.proxy import proxy_for

PROXY = "http://proxy:3128"


def test_proxy_url_of_the_kubeconfig_goes_before_the_environment() -> None:
    environ = {"HTTPS_PROXY": "http://other:1", "NO_PROXY": "*"}

    assert proxy_for("https://api:6443", PROXY, environ) == PROXY


@pytest.mark.parametrize(
    ("url", "environ", "expected"),
    [
        ("https://api", {"HTTPS_PROXY": PROXY}, PROXY),
        ("https://api", {"https_proxy": PROXY}, PROXY),
        ("https://api", {"HTTP_PROXY": PROXY}, None),
        ("http://api", {"HTTP_PROXY": PROXY}, PROXY),
        ("https://api", {"HTTPS_PROXY": "proxy:3128"}, PROXY),
        ("https://api", {}, None),
        ("https://localhost:6443", {"HTTPS_PROXY": PROXY}, None),
        ("https://127.0.0.9:6443", {"HTTPS_PROXY": PROXY}, None),
        ("https://[::1]:6443", {"HTTPS_PROXY": PROXY}, None),
    ],
)
def test_environment_is_read_as_go_reads_it(
    url: str, environ: dict[str, str], expected: str | None
) -> None:
    assert proxy_for(url, None, environ) == expected


# The rules of golang.org/x/net/http/httpproxy, Config.NoProxy.
@pytest.mark.parametrize(
    ("no_proxy", "host", "direct"),
    [
        ("*", "api.corp", True),
        ("corp", "api.corp", True),
        ("corp", "corp", True),
        ("corp", "xcorp", False),
        (".corp", "api.corp", True),
        (".corp", "corp", False),
        ("*.corp", "api.corp", True),
        ("api.corp:6443", "api.corp", True),
        ("api.corp:443", "api.corp", False),
        ("API.Corp", "api.corp", True),
        ("other, corp", "api.corp", True),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.0.0.0/8", "api.corp", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3:6443", "10.1.2.3", True),
        ("10.1.2.3:1", "10.1.2.3", False),
        ("fd00::1", "[fd00::1]", True),
        ("fd00::/8", "[fd00::1]", True),
        ("[fd00::1]:6443", "[fd00::1]", True),
        ("10.0.0.0/nonsense", "10.1.2.3", False),
        ("", "api.corp", False),
        (" , ", "api.corp", False),
    ],
)
def test_no_proxy(no_proxy: str, host: str, direct: bool) -> None:
    found = proxy_for(f"https://{host}:6443", None, {"HTTPS_PROXY": PROXY, "NO_PROXY": no_proxy})

    assert found == (None if direct else PROXY)


@pytest.mark.parametrize(
    "url", ["socks5://user:s3cret@proxy", "https://proxy", "http://", "http://p:x"]
)
def test_proxy_that_we_cannot_speak_to_is_refused_without_showing_its_password(url: str) -> None:
    with pytest.raises(KubeconfigError, match="not an http URL") as caught:
        proxy_for("https://api", url, {})

    assert "s3cret" not in str(caught.value)
