"""Reading prompts with a vision-language model: inputs, shared prefixes, hidden states, rules."""
