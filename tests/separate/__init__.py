"""What cannot be installed beside the current SDKs, in environments of its own."""
