"""The composition root: settings, command line, operations API, scheduler and the closed loop."""

__version__ = "0.1.0"
