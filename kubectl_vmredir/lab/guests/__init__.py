"""What runs in a launcher pod of the lab: real QEMU, or a guest in Python that behaves like it.

``domain`` is the seam to the nodes, ``report`` reads what guests say on their console, ``image``
builds what real ones boot. Then two towers, held together by the twin test:

* real: ``qemu`` makes domains, ``qemu_domain`` is one, ``qmp`` talks to it;
* simulated: ``sim`` makes domains, ``machine`` is the VM, ``chardev``, ``conversation`` and
  ``redirect`` are QEMU's part of it; ``kernel``, its scripts (``procedure``, ``enumeration``,
  ``storage``), its clock (``uptime``) and the program (``reader``) are the guest's.
"""
