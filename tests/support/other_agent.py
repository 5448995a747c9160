"""``python -m tests.support.other_agent VERSION PROTOCOL``: an agent that says it is so."""

from __future__ import annotations

import sys

import kubectl_vmredir


def main() -> int:
    """Run the agent until it ends; what it is made of reads both when it is imported."""
    kubectl_vmredir.__version__ = sys.argv[1]

    from kubectl_vmredir.agent import messages

    messages.PROTOCOL = int(sys.argv[2])  # type: ignore[misc]

    from kubectl_vmredir.cli.main import main as command

    return command(["agent", "run"])


if __name__ == "__main__":
    sys.exit(main())
