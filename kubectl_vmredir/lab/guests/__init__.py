"""What runs in a launcher pod of the lab: real QEMU, or a guest in Python that behaves like it."""
