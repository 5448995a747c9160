"""Plugs local USB devices into KubeVirt VMs and keeps them plugged while the VM live-migrates."""

__version__ = "0.1.0"
