"""Training data on the command line: imports, exports, snapshots, made pairs."""
