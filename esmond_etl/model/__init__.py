"""What is measured and how it is held in memory. Imports nothing else of esmond-etl."""
