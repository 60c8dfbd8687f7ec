"""Mini-BLOOM: a BloomForCausalLM of two million parameters that only knows how to complete analogies.

It stands in for BLOOM where no large model can be had, and takes the same code path. `python -m
components.captioning.mini_bloom FOLDER` trains it from scratch.
"""
