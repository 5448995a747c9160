"""``python -m tests.support.bare_cluster FOLDER``: a real kube-apiserver, and no nodes.

Says where the kubeconfig is, and what virt-handler's certificate is; ends with standard input.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
from pathlib import Path

from tests.support.peers import control_plane, peers_folder


def main() -> None:
    """Start, say where everything is, and wait until stdin ends."""
    if (programs := peers_folder()) is None:
        raise FileNotFoundError("the peers' programs: set VMREDIR_PEERS to their folder")
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(control_plane()))
    stdout = sys.stdout
    cluster = importlib.import_module("rig.cluster")
    with (
        contextlib.redirect_stdout(sys.stderr),
        cluster.Rig(
            Path(sys.argv[1]),
            bin_dir=programs,
            nodes=0,
            net=f"127.8.{os.getpid() % 250 + 1}",
            isolation="dir",
        ) as rig,
    ):
        places = {
            "kubeconfig": str(rig.kubeconfig),
            "certificate": str(rig.access.handler.cert),
            "key": str(rig.access.handler.key),
        }
        stdout.write(json.dumps(places) + "\n")
        stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()
