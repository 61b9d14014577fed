"""Prompts to rank while nobody has asked anything yet."""

SAMPLE_PROMPTS = (
    "Explain in three sentences why the sky is blue.",
    "Write a polite e-mail that moves a meeting from Tuesday to Thursday.",
    "What should I check before I buy a used bicycle?",
    "Give me a simple dinner with rice, eggs and spinach.",
    "Summarise the difference between a virus and a bacterium.",
    "Suggest three names for a small bakery near a harbour.",
    "How do I undo my last commit in git without losing my changes?",
    "Write a short poem about a lighthouse in fog.",
    "What are the pros and cons of working from home?",
    "Explain compound interest to a ten-year-old.",
    "Plan a two-hour walk for a visitor in an old town.",
    "What does it mean that a function is pure?",
)
