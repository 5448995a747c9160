"""An embedded KubeVirt-like cluster with virtual devices, for demos, tests and bug reports."""
