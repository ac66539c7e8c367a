"""What a stream on this machine keeps on disk, so that it goes on where it was stopped."""
