"""Stage ``training``: fit the trimodal model on train clips, stop by the val clips."""
