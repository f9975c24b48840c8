"""From a folder of a user's videos to a model: what is tried, what is chosen, and what the user is told."""
