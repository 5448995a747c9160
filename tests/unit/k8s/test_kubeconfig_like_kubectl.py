"""kubectl resolves lists of kubeconfigs just as we do."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from kubectl_vmredir.errors import KubeconfigError
from kubectl_vmredir.k8s.kubeconfig import load_config
from tests.support.kubeconfigs import kubeconfig, write

pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed"),
]


def random_kubeconfig(dice: random.Random, name: str) -> dict[str, Any]:
    """Return a kubeconfig that names some of two contexts, clusters and users."""
    return kubeconfig(
        current=dice.choice(["", "", "c0", "c1"]),
        contexts={
            context: {
                "cluster": dice.choice(["k0", "k1"]),
                "user": dice.choice(["u0", "u1"]),
                "namespace": dice.choice(["", f"ns-{name}"]),
            }
            for context in dice.sample(["c0", "c1"], dice.randint(0, 2))
        },
        clusters={
            cluster: {"server": f"https://{cluster}.{name}.example"}
            for cluster in dice.sample(["k0", "k1"], dice.randint(0, 2))
        },
        users={
            user: {"username": f"{user}-{name}", "password": "p"}
            for user in dice.sample(["u0", "u1"], dice.randint(0, 2))
        },
    )


def as_kubectl_sees_it(paths: str) -> tuple[str, str, str, str] | None:
    done = subprocess.run(
        ["kubectl", "config", "view", "--minify", "--raw", "--output=json"],
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "KUBECONFIG": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        return None
    view = json.loads(done.stdout)
    (context,) = view["contexts"]
    clusters, users = view["clusters"] or [], view["users"] or []
    if not clusters or not users:
        return None
    return (
        view["current-context"],
        clusters[0]["cluster"]["server"],
        users[0]["user"]["username"],
        context["context"].get("namespace", "default"),
    )


def as_we_see_it(paths: str) -> tuple[str, str, str, str] | None:
    try:
        config = load_config(environ={"KUBECONFIG": paths})
    except KubeconfigError:
        return None
    return config.context, config.server, config.user.username, config.namespace


@pytest.mark.parametrize("seed", range(25))
def test_lists_of_kubeconfigs_mean_the_same_to_kubectl(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    paths = [write(tmp_path / name, random_kubeconfig(dice, name)) for name in ("a", "b", "c")]
    listed = ":".join(map(str, [*paths, tmp_path / "missing"]))

    assert as_we_see_it(listed) == as_kubectl_sees_it(listed)
