"""The edge: the program beside QEMU that makes handovers seamless. docs/edge.md."""
