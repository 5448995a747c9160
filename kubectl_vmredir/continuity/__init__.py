"""One device session over many links. Pure."""
