"""What every command shares: how it is called, what it logs, how it fails, how far it is."""
