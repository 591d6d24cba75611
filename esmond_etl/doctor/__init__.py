"""The doctor: reads the measurements themselves, and says which of them cannot be what they seem."""
