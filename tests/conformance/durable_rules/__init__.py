"""Rules of durable delivery, proven with logs and queues written by hand and a witness."""
