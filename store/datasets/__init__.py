"""Snapshots: selection, split and the frozen Parquet files."""
