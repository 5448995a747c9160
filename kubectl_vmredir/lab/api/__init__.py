"""The lab's API server. Knows no VM."""
