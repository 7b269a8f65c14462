"""What notebooks cannot test: processes, browsers, crashes, security."""
