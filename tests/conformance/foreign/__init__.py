"""Participants in another language, written from the specification alone, on one bus with ours."""
