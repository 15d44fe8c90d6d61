"""The machinery of the companion: claims, predicates, ledger, profiles, pages. Reads results folders; knows no study."""
