"""``python -m tests.support.bare_cluster FOLDER``: a real kube-apiserver, and no nodes.

Says where the kubeconfig is, and what virt-handler's certificate is; ends with standard input.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path

from tests.support.rig_start import start_rig


def main() -> None:
    """Start, say where everything is, and wait until stdin ends."""
    answers = sys.stdout
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        net = f"127.8.{os.getpid() % 250 + 1}"
        rig = start_rig(stack, Path(sys.argv[1]), nodes=0, net=net, isolation="dir")
        places = {
            "kubeconfig": str(rig.kubeconfig),
            "certificate": str(rig.access.handler.cert),
            "key": str(rig.access.handler.key),
        }
        answers.write(json.dumps(places) + "\n")
        answers.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()
