"""The promotion gate: is the challenger better than the champion, and does nothing else get worse?"""
