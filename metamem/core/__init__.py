"""What everything stands on: errors, records, contracts, the registry, files, text."""
