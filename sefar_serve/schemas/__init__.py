"""The JSON that users see: videos, conversations, jobs and errors, and how predictions become answers."""
