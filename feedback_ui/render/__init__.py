"""The platform's JSON as HTML: pure functions, no requests, no Gradio."""
