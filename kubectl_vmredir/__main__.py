"""``python -m kubectl_vmredir``."""

import sys

from kubectl_vmredir.cli.main import main

sys.exit(main())
