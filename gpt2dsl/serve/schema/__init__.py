"""What requests may say: one module an endpoint. The keys are OpenAI's, and some of ours."""
