"""The commands: configuration, data, worker processes, tracking, reports."""
