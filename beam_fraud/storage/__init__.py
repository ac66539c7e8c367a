"""Everything that touches disks, object stores, locks and databases."""
