"""From vectors to a published gallery, and back to the people in it."""
