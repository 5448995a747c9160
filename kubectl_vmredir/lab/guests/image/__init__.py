"""Kernel and initrd of the guest: made from Debian's packages, without root and compiler."""
