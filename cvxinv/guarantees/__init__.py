"""When can it be inverted: what is proved of it, what is shown by an example, and what is only suggested."""
