"""What people outside get: cards, reports, evidence files, and the proof that they hold."""
