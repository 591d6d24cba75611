"""The doctor: it reads the measurements and reports those that cannot be right."""
