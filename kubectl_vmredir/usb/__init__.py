"""The USB devices of this machine behind the ports of the service."""
