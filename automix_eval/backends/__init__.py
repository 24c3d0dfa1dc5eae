"""What a model call is: local weights, samplers that share a prefix, remote endpoints."""
