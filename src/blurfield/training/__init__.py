"""Training of the networks on simulated blur."""
