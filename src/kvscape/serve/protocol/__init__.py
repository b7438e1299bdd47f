"""What OpenAI's API asks and answers, as types: unknown fields are refused, as OpenAI does."""
