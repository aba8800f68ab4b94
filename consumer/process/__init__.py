"""What each of our processes does to itself: lock, log, privileges."""
