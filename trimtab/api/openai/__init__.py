"""Routes of OpenAI's API that the platform answers itself: files and fine-tuning jobs."""
