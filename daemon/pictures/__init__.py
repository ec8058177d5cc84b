"""Pictures for people: defects drawn on their frames, and the report page."""
