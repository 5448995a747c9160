"""Builds what users install: ``make dist``; docs/install.md, docs/adr/0005-frozen-program.md."""
