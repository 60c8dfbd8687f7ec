"""Features from pre-trained models: one encoder per modality, and the batches they share."""
