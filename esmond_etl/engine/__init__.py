"""What a run does: plan, read, transform, deliver, record, verify."""
