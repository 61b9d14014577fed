"""What the screens do: plain functions over a `PlatformClient`, each returning a small value. No components."""
