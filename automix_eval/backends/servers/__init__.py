"""Models behind an HTTP interface: requests, retries, replies, faults."""
