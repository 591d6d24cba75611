"""The pipeline file: from TOML to a checked pipeline, every mistake with its place."""
