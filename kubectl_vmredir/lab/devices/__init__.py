"""Virtual USB devices: usb-hosts in software."""
