"""One module per command: its options and help; what does the work is imported when it runs."""
