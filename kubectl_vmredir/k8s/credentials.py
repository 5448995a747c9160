"""The credentials of a kubeconfig's user, always fresh.

Every way to prove who we are is a :class:`CredentialSource`; :func:`credential_source` chooses.
"""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Protocol

from kubectl_vmredir.errors import KubeconfigError, LoginRequired
from kubectl_vmredir.k8s.exec_plugin import run_exec_plugin
from kubectl_vmredir.k8s.tls import CertificatePair

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

    from kubectl_vmredir.k8s.exec_plugin import ExecCredential
    from kubectl_vmredir.k8s.kubeconfig import ClusterConfig, ExecPlugin, UserConfig

_EXPIRY_MARGIN: Final = timedelta(seconds=10)
_AUTH_PROVIDER_TIMEOUT_S: Final = 60.0
_AUTH_PROVIDER_HINT: Final = (
    "auth-provider is a legacy of Kubernetes; most clusters have a credential plugin instead."
)


@dataclass(frozen=True, slots=True)
class Credential:
    """How one request or connection proves who we are.

    Attributes:
        authorization: Value of the Authorization header; empty for none.
        certificate: Client certificate; None for none.
    """

    authorization: str = field(default="", repr=False)
    certificate: CertificatePair | None = None


class CredentialSource(Protocol):
    """Knows the credential to use now."""

    async def current(self) -> Credential:
        """Return the credential for the next request.

        Raises:
            KubeconfigError: If it cannot be had because of the kubeconfig.
            LoginRequired: If it cannot be had because a person must log in.
        """

    def reject(self, credential: Credential) -> bool:
        """Hear that the cluster refused a credential; say whether asking again may help."""


def credential_source(config: ClusterConfig) -> CredentialSource:
    """Return the source for the user of ``config``, in the order of client-go.

    Over plain http nobody is told who we are.
    """
    user = config.user
    if config.server.startswith("http:"):
        return StaticCredential(UserConfigFiles())
    files = UserConfigFiles.of(user)
    if user.exec is not None and not (user.token or user.token_file):
        return ExecCredentials(user.exec, config, files)
    if user.auth_provider is not None and not (user.token or user.token_file):
        return AuthProviderCredentials(user.name, user.auth_provider, files)
    return StaticCredential(files, user.username, user.password)


@dataclass(frozen=True, slots=True)
class UserConfigFiles:
    """What the kubeconfig says of a user, in itself or in files that are read again each time."""

    token: str = field(default="", repr=False)
    token_file: Path | None = None
    certificate: bytes = field(default=b"", repr=False)
    key: bytes = field(default=b"", repr=False)
    certificate_file: Path | None = None
    key_file: Path | None = None

    @classmethod
    def of(cls, user: UserConfig) -> UserConfigFiles:
        """Take over the fields of a user."""
        return cls(
            user.token,
            user.token_file,
            user.certificate,
            user.key,
            user.certificate_file,
            user.key_file,
        )

    async def current(self) -> tuple[str, CertificatePair | None]:
        """Return bearer token and client certificate.

        Raises:
            KubeconfigError: If a file cannot be read.
        """
        if self.token_file or self.certificate_file or self.key_file:
            return await asyncio.to_thread(self._read)
        return self._read()

    def _read(self) -> tuple[str, CertificatePair | None]:
        token = self.token
        if self.token_file is not None:
            token = _read(self.token_file, "tokenFile").decode(errors="replace").strip()
        certificate, key = self.certificate, self.key
        if not certificate and self.certificate_file is not None:
            certificate = _read(self.certificate_file, "client-certificate")
        if not key and self.key_file is not None:
            key = _read(self.key_file, "client-key")
        return token, CertificatePair(certificate, key) if certificate and key else None


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise KubeconfigError(
            f"cannot read {what} {path} of the kubeconfig: {exc.strerror}"
        ) from exc


class StaticCredential:
    """Token, user name and password, client certificate, as they stand in the kubeconfig."""

    def __init__(self, files: UserConfigFiles, username: str = "", password: str = "") -> None:
        self._files = files
        self._username = username
        self._password = password

    async def current(self) -> Credential:
        """See :meth:`CredentialSource.current`."""
        token, certificate = await self._files.current()
        if token:
            return Credential(f"Bearer {token}", certificate)
        if self._username:
            pair = base64.b64encode(f"{self._username}:{self._password}".encode())
            return Credential(f"Basic {pair.decode('ascii')}", certificate)
        return Credential(certificate=certificate)

    def reject(self, credential: Credential) -> bool:
        """See :meth:`CredentialSource.reject`: files are read each time anyway."""
        return False


class ExecCredentials:
    """Credentials of a plugin, kept until they expire or the cluster refuses them."""

    def __init__(self, plugin: ExecPlugin, config: ClusterConfig, files: UserConfigFiles) -> None:
        self._plugin = plugin
        self._config = config
        self._files = files
        self._lock = asyncio.Lock()
        self._kept: tuple[Credential, datetime | None] | None = None

    async def current(self) -> Credential:
        """See :meth:`CredentialSource.current`; the plugin runs once, however many wait for it."""
        async with self._lock:
            if self._kept is not None:
                credential, expires = self._kept
                if expires is None or datetime.now(UTC) < expires - _EXPIRY_MARGIN:
                    return credential
            found = await run_exec_plugin(self._plugin, self._config)
            credential = await self._credential(found)
            self._kept = credential, found.expires
            return credential

    def reject(self, credential: Credential) -> bool:
        """See :meth:`CredentialSource.reject`."""
        if self._kept is not None and self._kept[0] == credential:
            self._kept = None
        return True

    async def _credential(self, found: ExecCredential) -> Credential:
        _token, certificate = await self._files.current()
        authorization = f"Bearer {found.token}" if found.token else ""
        return Credential(authorization, found.certificate or certificate)


class AuthProviderCredentials:
    """Legacy ``auth-provider`` (oidc), left to the ``kubernetes`` package.

    What it renews stays in memory: the kubeconfig is not written.
    """

    def __init__(self, name: str, provider: Mapping[str, Any], files: UserConfigFiles) -> None:
        self._name = name
        self._provider = provider
        self._files = files
        self._lock = asyncio.Lock()

    async def current(self) -> Credential:
        """See :meth:`CredentialSource.current`."""
        async with self._lock:
            try:
                async with asyncio.timeout(_AUTH_PROVIDER_TIMEOUT_S):
                    authorization = await asyncio.to_thread(self._load)
            except TimeoutError as exc:
                raise LoginRequired(
                    f"the auth-provider of user {self._name!r} does not answer"
                ) from exc
        _token, certificate = await self._files.current()
        return Credential(authorization, certificate)

    def reject(self, credential: Credential) -> bool:
        """See :meth:`CredentialSource.reject`."""
        return False

    def _load(self) -> str:
        # Imported late: it takes a third of a second, and few need it.
        import oauthlib.oauth2  # type: ignore[import-untyped]
        import urllib3.exceptions
        from kubernetes.client import Configuration
        from kubernetes.config import ConfigException
        from kubernetes.config.kube_config import KubeConfigLoader

        loader = KubeConfigLoader(  # type: ignore[no-untyped-call]
            {
                "current-context": "only",
                "contexts": [{"name": "only", "context": {"cluster": "only", "user": "only"}}],
                # Not https: then it leaves the certificates alone.
                "clusters": [{"name": "only", "cluster": {"server": "http://unused"}}],
                "users": [{"name": "only", "user": {"auth-provider": self._provider}}],
            }
        )
        loaded = Configuration()
        try:
            loader.load_and_set(loaded)  # type: ignore[no-untyped-call]
        except (
            ConfigException,
            oauthlib.oauth2.OAuth2Error,
            urllib3.exceptions.HTTPError,
            OSError,
            ValueError,
        ) as exc:
            raise LoginRequired(
                f"the auth-provider of user {self._name!r} failed: {type(exc).__name__}",
                hint=_AUTH_PROVIDER_HINT,
            ) from exc
        if not (authorization := loaded.api_key.get("BearerToken")):
            raise LoginRequired(
                f"the auth-provider of user {self._name!r} gives no token", hint=_AUTH_PROVIDER_HINT
            )
        return str(authorization)
