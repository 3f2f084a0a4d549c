"""What is handed to `fit`.

On JAX every batch hook obeys the rules in `backend.hands_state_through`: never
`self.model` there, `backend.sync_variables` before variables are read.
"""
