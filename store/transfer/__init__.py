"""Import and export: files, formats and rows."""
