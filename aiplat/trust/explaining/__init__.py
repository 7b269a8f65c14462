"""What a model leans on, for whom, and why a case was denied."""
