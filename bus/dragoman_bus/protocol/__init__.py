"""The protocol core: messages, lifecycle, subjects and errors, without I/O, clocks or threads."""
