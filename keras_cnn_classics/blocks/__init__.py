"""Functions from tensor to tensor, made of existing layers."""
