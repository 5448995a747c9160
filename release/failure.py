"""Why nothing was built."""


class BuildFailed(Exception):
    """A sentence for whoever builds."""
