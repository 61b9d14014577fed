"""`trimtab releases …`: list, create, compare, blend, export."""
