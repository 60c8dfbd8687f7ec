"""The trimodal model: a Transformer per modality, a fusion of video and text, losses, files."""
