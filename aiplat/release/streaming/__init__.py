"""Models that answer messages: from Kafka or Redis, to Kafka, Redis or a table, each message once or at least once, and none lost."""
