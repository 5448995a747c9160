"""Builds what users install: ``make dist``; docs/install.md, docs/adr/0006-frozen-program.md."""
