"""Finds out which cluster is meant and who we are to it, as kubectl does.

Source: client-go, tools/clientcmd (loader.go, client_config.go). Files of a list are merged so
that the first one that sets a value or names an entry wins; docs/adr/0002-kubeconfig.md says why
this is not left to the ``kubernetes`` package.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import yaml

from kubectl_vmredir.errors import KubeconfigError
from kubectl_vmredir.k8s.config_node import ConfigNode

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

_DEFAULT_PATH: Final = "~/.kube/config"
_NAMESPACE: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_CHOOSE_HINT: Final = (
    "Choose a kubeconfig with --kubeconfig or $KUBECONFIG, and a context with --context;\n"
    "list contexts with: kubectl config get-contexts"
)


@dataclass(frozen=True, slots=True)
class Impersonation:
    """Whom to act as (``--as`` and its relatives); empty for ourselves."""

    user: str = ""
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ConfigOptions:
    """kubectl's flags; None means that the flag is not given.

    Attributes:
        kubeconfig: Read this file only.
        context: Name of the context.
        cluster: Name of the cluster entry, instead of the context's.
        user: Name of the user entry, instead of the context's.
        namespace: Namespace, instead of the context's.
        server: URL of the API server, instead of the cluster's.
        token: Bearer token, instead of the user's.
        impersonate_user: ``--as``.
        impersonate_groups: ``--as-group``.
        impersonate_uid: ``--as-uid``.
        insecure_skip_tls_verify: Do not check the server's certificate.
        tls_server_name: Name to check the certificate for, instead of the server's host.
        request_timeout_s: Time limit of one request in seconds; 0 for none.
    """

    kubeconfig: str | os.PathLike[str] | None = None
    context: str | None = None
    cluster: str | None = None
    user: str | None = None
    namespace: str | None = None
    server: str | None = None
    token: str | None = field(default=None, repr=False)
    impersonate_user: str | None = None
    impersonate_groups: tuple[str, ...] = ()
    impersonate_uid: str | None = None
    insecure_skip_tls_verify: bool | None = None
    tls_server_name: str | None = None
    request_timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class ExecPlugin:
    """``user.exec``: a command that prints a credential.

    Attributes:
        command: Found on PATH, or an absolute path.
        args: Its arguments.
        env: Added to our environment.
        api_version: Version of ExecCredential that it speaks.
        provide_cluster_info: Whether it is told which cluster it is for.
        interactive: Whether it cannot do without a terminal (``interactiveMode: Always``).
        install_hint: What the kubeconfig says to do if the command is missing.
    """

    command: str
    args: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    api_version: str
    provide_cluster_info: bool
    interactive: bool
    install_hint: str


@dataclass(frozen=True, slots=True)
class UserConfig:
    """An entry of ``users``: the ways to prove who we are, in no order.

    Attributes:
        name: Name of the entry.
        token: Bearer token.
        token_file: File with a bearer token; goes before ``token``.
        username: For basic authentication.
        password: For basic authentication.
        certificate: Client certificate, PEM.
        key: Its key, PEM.
        certificate_file: File with the certificate; ``certificate`` goes before it.
        key_file: File with the key; ``key`` goes before it.
        exec: Credential plugin.
        auth_provider: Legacy ``auth-provider`` as it stands in the file.
    """

    name: str = ""
    token: str = field(default="", repr=False)
    token_file: Path | None = None
    username: str = ""
    password: str = field(default="", repr=False)
    certificate: bytes = field(default=b"", repr=False)
    key: bytes = field(default=b"", repr=False)
    certificate_file: Path | None = None
    key_file: Path | None = None
    exec: ExecPlugin | None = None
    auth_provider: Mapping[str, Any] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """Everything that is needed to talk to one API server as one user.

    Attributes:
        server: URL without a slash at the end; may have a path.
        namespace: Namespace to work in.
        context: Name of the context, empty if there is none.
        user: Credentials.
        ca: PEM certificates to trust; None for those of the system.
        insecure: Whether the server's certificate is not checked.
        tls_server_name: Name to check it for; None for the host of ``server``.
        proxy_url: ``proxy-url`` of the cluster; None to ask the environment.
        impersonation: Whom to act as.
        request_timeout_s: Time limit of one request in seconds, 0 for none, None for ours.
        exec_config: Extension of the cluster entry that is passed on to credential plugins.
        environ: Variables of the user: for credential plugins, and for proxies.
        expected: Names of those that a credential plugin may need, as far as that is known.
    """

    server: str
    namespace: str = "default"
    context: str = ""
    user: UserConfig = UserConfig()
    ca: bytes | None = None
    insecure: bool = False
    tls_server_name: str | None = None
    proxy_url: str | None = None
    impersonation: Impersonation = Impersonation()
    request_timeout_s: float | None = None
    exec_config: Any = None
    environ: Mapping[str, str] = field(
        default_factory=lambda: os.environ, repr=False, compare=False
    )
    expected: Collection[str] = ()


def load_config(
    options: ConfigOptions | None = None, environ: Mapping[str, str] = os.environ
) -> ClusterConfig:
    """Read the kubeconfig files and apply the flags.

    Raises:
        KubeconfigError: If no file is there, one is broken, or what is asked for is in none.
    """
    options = options or ConfigOptions()
    return replace(_resolve(_merged(options, environ), options), environ=environ)


def context_names(options: ConfigOptions, environ: Mapping[str, str] = os.environ) -> Sequence[str]:
    """Return the names of all contexts, in order of the files.

    Raises:
        KubeconfigError: If no file is there, or one is broken.
    """
    return tuple(_merged(options, environ).contexts)


def _merged(options: ConfigOptions, environ: Mapping[str, str]) -> _Merged:
    merged = _Merged()
    for path in _existing_paths(options, environ):
        merged.add(path)
    return merged


def _existing_paths(options: ConfigOptions, environ: Mapping[str, str]) -> Sequence[Path]:
    if options.kubeconfig is not None:
        path = Path(options.kubeconfig)
        if not _is_there(path):
            raise KubeconfigError(f"no kubeconfig at {path}", hint=_CHOOSE_HINT)
        return [path]
    listed = [name for name in environ.get("KUBECONFIG", "").split(os.pathsep) if name]
    names = listed or [_DEFAULT_PATH]
    # An entry may be named twice; the first one wins.
    paths = [path for name in dict.fromkeys(names) if _is_there(path := Path(name).expanduser())]
    if not paths and options.server is None:
        where = f"$KUBECONFIG ({os.pathsep.join(names)})" if listed else _DEFAULT_PATH
        raise KubeconfigError(f"no kubeconfig: nothing at {where}", hint=_CHOOSE_HINT)
    return paths


def _is_there(path: Path) -> bool:
    """Return whether there is something to read, or to fail at reading."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


class _Merged:
    """The files of a list as one: what comes first wins."""

    def __init__(self) -> None:
        self.current_context = ""
        self.contexts: dict[str, ConfigNode] = {}
        self.clusters: dict[str, ConfigNode] = {}
        self.users: dict[str, ConfigNode] = {}

    def add(self, path: Path) -> None:
        """Add a file, after those that are there."""
        try:
            loaded = yaml.safe_load(path.read_text())
        except (OSError, UnicodeDecodeError) as exc:
            raise KubeconfigError(f"cannot read the kubeconfig {path}: {exc}") from exc
        except yaml.YAMLError as exc:
            mark = getattr(exc, "problem_mark", None)
            where = f" in line {mark.line + 1}" if mark is not None else ""
            # The text around the mark may be a token: it is not shown.
            raise KubeconfigError(
                f"broken kubeconfig {path}: not YAML{where}",
                hint="Check the file with: kubectl config view",
            ) from None
        node = ConfigNode({"": loaded}, str(path), path.absolute().parent).node("")
        if node is None:
            return
        self.current_context = self.current_context or node.text("current-context")
        for entries, key, kind in (
            (self.contexts, "contexts", "context"),
            (self.clusters, "clusters", "cluster"),
            (self.users, "users", "user"),
        ):
            for entry in node.nodes(key):
                content = entry.node(kind)
                if content is not None:
                    entries.setdefault(entry.text("name"), content)


def _entry(entries: Mapping[str, ConfigNode], kind: str, name: str) -> ConfigNode:
    try:
        return entries[name]
    except KeyError:
        known = ", ".join(sorted(entries)) or "none"
        raise KubeconfigError(
            f"no {kind} {name!r} in the kubeconfig", hint=f"It has: {known}."
        ) from None


def _resolve(merged: _Merged, options: ConfigOptions) -> ClusterConfig:
    context_name = options.context or merged.current_context
    context = _entry(merged.contexts, "context", context_name) if context_name else None
    cluster_name = options.cluster or (context.text("cluster") if context else "")
    cluster = _entry(merged.clusters, "cluster", cluster_name) if cluster_name else None
    user_name = options.user or (context.text("user") if context else "")
    user = _entry(merged.users, "user", user_name) if user_name else None
    if cluster is None and options.server is None:
        raise KubeconfigError("the kubeconfig has no current context", hint=_CHOOSE_HINT)

    insecure = options.insecure_skip_tls_verify or False
    tls_server_name = options.tls_server_name
    if cluster is not None:
        if options.insecure_skip_tls_verify is None:
            insecure = cluster.flag("insecure-skip-tls-verify")
        # Another server needs another name: kubectl drops the cluster's with --server, too.
        if options.server is None:
            tls_server_name = tls_server_name or cluster.text("tls-server-name")
    return ClusterConfig(
        server=_server_url(options.server or (cluster.text("server") if cluster else "")),
        namespace=_namespace(options.namespace or (context.text("namespace") if context else "")),
        context=context_name,
        user=_user(user_name, user, options),
        ca=_ca(cluster) if cluster is not None and not insecure else None,
        insecure=insecure,
        tls_server_name=tls_server_name or None,
        proxy_url=(cluster.text("proxy-url") if cluster is not None else "") or None,
        impersonation=_impersonation(user, options),
        request_timeout_s=options.request_timeout_s,
        exec_config=_exec_config(cluster) if cluster is not None else None,
    )


def _server_url(text: str) -> str:
    url = text if "://" in text else f"https://{text}"
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise KubeconfigError(
            f"{text!r} is not the URL of an API server",
            hint="It looks like https://host:6443; see --server and the kubeconfig's clusters.",
        )
    return url.rstrip("/")


def _namespace(text: str) -> str:
    if not text:
        return "default"
    if not _NAMESPACE.fullmatch(text):
        raise KubeconfigError(f"{text!r} cannot be the name of a namespace")
    return text


def _ca(cluster: ConfigNode) -> bytes | None:
    if data := cluster.data("certificate-authority-data"):
        return data
    if (path := cluster.path("certificate-authority")) is None:
        return None
    try:
        return path.read_bytes()
    except OSError as exc:
        raise cluster.broken(f"cannot read certificate-authority {path}: {exc.strerror}") from exc


def _exec_config(cluster: ConfigNode) -> Any:  # noqa: ANN401 - passed on as it stands
    for extension in cluster.nodes("extensions"):
        if extension.text("name") == "client.authentication.k8s.io/exec":
            return extension.raw("extension")
    return None


def _user(name: str, user: ConfigNode | None, options: ConfigOptions) -> UserConfig:
    if user is None:
        return UserConfig(token=options.token or "")
    given = options.token is not None
    return UserConfig(
        name=name,
        # A token on the command line goes before everything but the certificate.
        token=options.token or user.text("token"),
        token_file=None if given else user.path("tokenFile"),
        username="" if given else user.text("username"),
        password="" if given else user.text("password"),
        certificate=user.data("client-certificate-data"),
        key=user.data("client-key-data"),
        certificate_file=user.path("client-certificate"),
        key_file=user.path("client-key"),
        exec=None if given else _exec_plugin(user),
        auth_provider=None if given else user.raw("auth-provider"),
    )


def _exec_plugin(user: ConfigNode) -> ExecPlugin | None:
    if (node := user.node("exec")) is None:
        return None
    command = node.command("command")
    if not command:
        raise node.broken("exec has no command")
    return ExecPlugin(
        command=command,
        args=node.texts("args"),
        env={item.text("name"): item.text("value") for item in node.nodes("env")},
        api_version=node.text("apiVersion"),
        provide_cluster_info=node.flag("provideClusterInfo"),
        interactive=node.text("interactiveMode") == "Always",
        install_hint=node.text("installHint"),
    )


def _impersonation(user: ConfigNode | None, options: ConfigOptions) -> Impersonation:
    extra: dict[str, Sequence[str]] = {}
    if user is not None and (node := user.node("as-user-extra")) is not None:
        extra = {key: node.texts(key) for key in user.raw("as-user-extra")}
    return Impersonation(
        user=options.impersonate_user or (user.text("as") if user is not None else ""),
        groups=options.impersonate_groups or (user.texts("as-groups") if user is not None else ()),
        uid=options.impersonate_uid or (user.text("as-uid") if user is not None else ""),
        extra=extra,
    )
