"""How values leave a compiled step.

On JAX the trainer keeps the variables' values apart while an epoch runs: what
that means for every batch hook stands in `backend.hands_state_through`.
"""
