"""Rules by which an import reads rows in other forms, as its report names them."""

RULES = {
    "columns_renamed": "columns were found by their names without regard to case and spaces",
    "messages_in_text": "text that holds a list of messages was read as messages",
    "transcript": "a transcript (Human: ... Assistant: ...) was read as messages",
    "prompt_from_shared_turns": "the turns that both sides share are the prompt",
    "prompt_from_shared_words": "the words that both sides begin with are the prompt",
    "prompt_from_column": "question, instruction, input, query or context is the prompt",
    "system_from_column": "a system column is the system message",
    "history_from_column": "a history column stands before the question",
    "reasoning_apart": "reasoning was kept apart from the answer",
    "tool_calls_kept": "tool calls were kept with their message",
    "tools_kept": "definitions of tools were kept with the first message",
    "fine_grained_scores": "fine-grained scores decided in place of overall scores",
    "best_against_worst": "of several answers the best was paired with the worst",
    "siblings": "an answer was paired with each of its siblings",
}
"""Rules by name, each in words."""
