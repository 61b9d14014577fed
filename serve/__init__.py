"""Engines, adapters, router, gateway and auth. Knows no training: `trimtab.loop` joins the two."""
