"""Access to disks, object stores, locks and databases."""
