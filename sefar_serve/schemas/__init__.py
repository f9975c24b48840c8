"""What users see: the JSON of videos, conversations, jobs and problems, and how predictions become answers."""
