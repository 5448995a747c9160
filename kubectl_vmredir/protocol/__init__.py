"""usbredir on the wire: packets, parser, span tracker, guard, filter rules. Pure."""
