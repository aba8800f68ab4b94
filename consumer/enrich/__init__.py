"""What an event gets besides what its lines say: who it was, and where from. It adds, and never raises."""
