"""The screens laid out: components and wiring. What happens is in `feedback_ui.actions`."""
