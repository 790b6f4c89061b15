"""A server that speaks OpenAI's API, answers from adapters, and batches across requests."""
