"""Tables that do not fit, or take long: units of work, parts that survive, and an answer that appears as a whole."""
